"""Several devices, and export to other runtimes."""

import csv
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent import futures
from pathlib import Path

import devices
import keras
import numpy as np
import pytest
from test_cli import assert_one_sentence

import keras_ae
from keras_ae.processes import LOST_STATUS, ProcessLost

BACKEND = keras.backend.backend()

OWN_NETWORKS = """
    import collections, keras, numpy as np, tensorflow as tf
    from devices import own_networks, start_tensorflow
    start_tensorflow(3)
    import keras_ae
    from keras_ae.backend import _tensorflow_devices
    # The last batch is of one example.
    x = np.random.default_rng(0).random((17, 6, 6, 1), dtype="float32")
    def train(model):
        return model.fit(x, batch_size=16, epochs=2, shuffle=False, verbose=0)
    alone = own_networks()
    losses = train(alone).history["loss"]
    keras_ae.distribute([0, 2])
    together = own_networks()
    np.testing.assert_allclose(train(together).history["loss"], losses, rtol=1e-5)
    for own, other in zip(alone.get_weights(), together.get_weights(), strict=True):
        np.testing.assert_allclose(other, own, rtol=1e-4, atol=1e-6)
    step = _tensorflow_devices.spread(together, together.train_step)
    batch = (tf.TensorSpec((None, 6, 6, 1)),)
    graph = tf.function(step, autograph=False).get_concrete_function(batch).graph
    placed = collections.Counter(
        (operation.type, operation.device[-1])
        for operation in graph.get_operations()
        if operation.type.startswith("Conv2D")
    )
    # The convolution whose activation nobody knows is whole on the first.
    kinds = ("Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput")
    counts = {"0": 2, "2": 1}
    assert placed == {(kind, i): counts[i] for kind in kinds for i in counts}, placed
"""

KERAS_OWN = """
    import os
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=4"
    import keras, numpy as np
    import keras_ae
    # Neither two nor four devices have equal parts of the last batch.
    x = np.random.default_rng(0).random((35, 6), dtype="float32")
    def train(*cut):
        losses = []
        for Model in (keras_ae.VAE, keras_ae.GAN, keras_ae.AutoDecoder):
            keras.utils.set_random_seed(0)
            model = Model(2, architecture="dense", widths=(8,))
            model.fit(x, batch_size=16, epochs=3, shuffle=False, verbose=0)
            losses.append(model.history.history["loss"])
            losses.append([float(model.evaluate(x[:5], verbose=0)[-1])])
            learned = model.decoder.trainable_variables + model.optimizer.variables
            kernels = [v for v in learned if v.shape == (2, 8)]
            assert len(kernels) > 2
            for kernel in kernels:
                layout = getattr(kernel.value.sharding, "spec", ())
                assert tuple(layout) == cut, (kernel.path, layout)
        return losses
    alone = train()
    distribution = keras.distribution
    assert len(distribution.list_devices()) == 4
    distribution.set_distribution(distribution.DataParallel())
    together = train()
    for mine, own in zip(together, alone, strict=True):
        np.testing.assert_allclose(mine, own, rtol=1e-5)
    mesh = distribution.DeviceMesh((2, 2), ("batch", "model"))
    layouts = distribution.LayoutMap(mesh)
    layouts[".*dense.*kernel"] = (None, "model")
    distribution.set_distribution(distribution.ModelParallel(layout_map=layouts))
    for mine, own in zip(train(None, "model"), alone, strict=True):
        np.testing.assert_allclose(mine, own, rtol=1e-5)
"""


def run(*command):
    """Runs Python, which finds the tests' helpers; returns what it prints."""
    folder = Path(__file__).parent
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.thorough
@pytest.mark.skipif(BACKEND != "jax", reason="Keras' own distribution is for JAX")
def test_keras_own_distributions_train_as_one_device():
    run("-c", textwrap.dedent(KERAS_OWN))


@pytest.mark.thorough
@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow spreads networks")
def test_own_networks_on_several_devices():
    """Layers that see all examples, or may, are given the whole batch."""
    run("-c", textwrap.dedent(OWN_NETWORKS))


# A loss across the batch, a table of codes, phases; noise, a codebook; two players.
SEVERAL = {
    "jax": {
        "4": ("BetaTCVAE", "AutoDecoder", "StackedSAE", "VQVAE"),
        "4 --processes 2": ("GAN", "AutoDecoder"),
    },
    "tensorflow": {
        "4": ("VAE", "AutoDecoder"),
        "2 --mirrored": ("FactorVAE", "StackedSAE"),
    },
    "torch": {
        "2": (
            *("InfoVAE", "VQVAE", "VAEGAN", "AutoDecoder"),
            *("OwnNetworks", "Penalized"),
        ),
    },
}.get(BACKEND, {})


@pytest.mark.thorough
@pytest.mark.parametrize("count", SEVERAL)
def test_any_model_is_on_several_devices_what_it_is_on_one(count):
    names = SEVERAL[count]
    printed = run(Path(__file__).parent / "devices.py", *count.split(), *names)
    # Gloo tells, too.
    rows = [line.split() for line in printed.splitlines() if line[0] != "["]
    assert [name for name, *_ in rows] == [*names]
    for name, of_logs, of_weights in rows:
        assert float(of_logs) < 1e-4, name
        assert float(of_weights) < 1e-5, name


@pytest.mark.skipif(BACKEND != "jax", reason="JAX tells where an array lies")
def test_one_device_is_no_mesh(images):
    import jax

    assert len(keras_ae.distribute()) == 1
    model = keras_ae.AE(2, architecture="dense", widths=(8,))
    model.fit(images, verbose=0)
    for weight in model.weights:
        assert isinstance(weight.value.sharding, jax.sharding.SingleDeviceSharding)


def test_devices_that_are_not_there_are_refused():
    for wrong in (0, -1, True, "two", "", [], [10**4], [0, 0], 1.0, 10**4):
        with pytest.raises(ValueError, match="`devices` must be 'all', a number from"):
            keras_ae.distribute(wrong)
    assert keras_ae.distribute() == keras_ae.distribute([0])


@pytest.mark.skipif(BACKEND != "torch", reason="processes are PyTorch's way")
def test_several_devices_need_several_processes(monkeypatch):
    monkeypatch.setattr("keras_ae.machine.cores", lambda: 2)
    started = "torchrun --nproc-per-node 2 script.py"
    with pytest.raises(ValueError, match=f"in a process of its own.*`{started}`"):
        keras_ae.distribute(2)


TWO_PROCESSES = """
    import os
    import keras, numpy as np
    from keras import layers
    import keras_ae
    rank = int(os.environ["RANK"])
    seen = []
    class Each(layers.Layer):
        sees_each_by_itself = True
        def call(self, x):
            seen.append(x.shape[0])
            return x
    def model(units=2, seed=0):
        keras.utils.set_random_seed(seed)
        encoder = [layers.Dense(5), Each(), layers.Dropout(0.5), layers.Dense(units)]
        encoder = keras.Sequential([keras.Input((3,)), *encoder])
        decoder = keras.Sequential([keras.Input((units,)), layers.Dense(3)])
        return keras_ae.AE(units, encoder=encoder, decoder=decoder)
    x = np.random.default_rng(0).random((25, 3), dtype="float32")
    def tell(*words):
        # Not in the line of a progress bar.
        print("\\n>", *words)
    def refused(call):
        try:
            call()
        except ValueError as error:
            tell(error)
    refused(lambda: keras_ae.distribute(3))
    refused(lambda: keras_ae.distribute([0]))
    tell(len(keras_ae.distribute(2)), "devices")
    refused(lambda: model(2 + rank).fit(x))
    refused(lambda: model().fit(x[rank:]))
    refused(lambda: model().fit(x + rank))
    def batches():
        for batch in (x[:8], x[8 + rank :]):
            yield batch
    refused(lambda: model().fit(batches()))
    together = model(seed=rank)
    together.build((None, 3))
    seen.clear()
    # No epoch is that much better than the one before it.
    slower = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1e9)
    options = {"batch_size": 8, "epochs": 2, "callbacks": [slower]}
    losses = together.fit(x, **options).history["loss"]
    tell("rate", round(float(together.optimizer.learning_rate), 8))
    losses.append(together.evaluate(x, verbose=0))
    # The first one looks at all codes, too, and tells where they lie.
    tell("rows", *(rows for rows in seen if rows < 25))
    tell("losses", *losses, *(float(np.sum(w)) for w in together.get_weights()))
    tell("next", np.random.random(), float(keras.random.normal(())))
"""


several_processes = pytest.mark.skipif(
    BACKEND == "tensorflow", reason="TensorFlow trains in one process"
)


@pytest.mark.thorough
@several_processes
def test_processes_train_together_or_not_at_all():
    ranks = devices.start_processes(
        [sys.executable, "-c", textwrap.dedent(TWO_PROCESSES)],
        2,
        stdout=subprocess.PIPE,
        text=True,
    )
    first, other = (rank.communicate(timeout=240)[0] for rank in ranks)
    # Only the first shows its progress.
    assert "Epoch 2/2" in first and "Epoch" not in other
    lines, same = (
        [line for line in said.splitlines() if line.startswith("> ")]
        for said in (other, first)
    )
    assert lines == same
    for words in (
        "of the 2 that there are: ",
        "Received: devices=3",
        "`devices` must be 'all' or 2 in one of 2 processes that were started toge",
        "2 devices",
        "must train the same model on the same examples. Received: AE of",
        "(25, 3) in the first process, AE of",
        "and examples (24, 3) in process 1; give each",
        "(25, 3) in each, but of other shapes or values; give each",
        "the same batches, in the same order. Received: (17, 3) in the first process, ",
    ):
        assert any(words in line for line in lines), words
    assert "> rate 0.0001" in lines
    if BACKEND == "torch":
        # Eight rows are four in each process; of the last one, each has a row.
        assert lines[-3] == "> rows " + " ".join(["4 4 4 1"] * 2 + ["13"])


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return [{**row, "seconds": 0} for row in csv.DictReader(file)]


def children(process):
    listed = f"/proc/{process.pid}/task/{process.pid}/children"
    return [int(child) for child in Path(listed).read_text().split()]


def error_of(said):
    assert "Traceback" not in said
    (error,) = [line for line in said.splitlines() if line.startswith("Error: ")]
    return error


TRAINING = ["train", "vae", "moon-phases", "--limit", "48", "--image-size", "8"]
TRAINING += ["--batch-size", "20", "--set", "architecture=dense", "--run-dir"]


def two_processes_in_training(folder):
    """Starts a run in two processes, on PyTorch those of a third, and waits for it.

    Returns the processes that were started, and the numbers of the two.
    """
    command = [sys.executable, "-m", "keras_ae", *TRAINING, "two"]
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "text": True}
    options |= {"stderr": subprocess.PIPE, "start_new_session": True}
    if BACKEND == "torch":
        started = [subprocess.Popen([*command, "--devices", "2"], **options)]
    else:
        started = devices.start_processes(command, 2, **options)
    begun = folder / "two" / "history.csv"
    while not (begun.exists() and len(history(begun.parent)) > 1):
        assert started[0].poll() is None, started[0].stderr.read()
        time.sleep(0.05)
    if BACKEND == "torch":
        return started, children(started[0])
    return started, [process.pid for process in started]


@pytest.mark.thorough
@several_processes
def test_processes_of_the_command_line_end_together_and_go_on(invoke, tmp_path):
    started, pids = two_processes_in_training(tmp_path)
    if BACKEND == "torch":
        words = "Process 1 of those that trained together was killed (signal 9)"
    else:
        words = "Another process of this training has ended or can't be reached"
    os.kill(pids[-1], signal.SIGKILL)
    said, *_ = [process.communicate(timeout=60)[1] for process in started]
    assert started[0].returncode == (1 if BACKEND == "torch" else LOST_STATUS)
    assert words in error_of(said)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    two = tmp_path / "two"
    epochs = str(len(history(two)) + 2)
    assert invoke(*TRAINING, "one", "--epochs", epochs).exit_code == 0
    resumed = invoke(*TRAINING, "two", "--resume", "--epochs", epochs)
    assert resumed.exit_code == 0, resumed.output
    for one, other in zip(*map(history, (tmp_path / "one", two)), strict=True):
        for name, value in one.items():
            assert float(other[name]) == pytest.approx(float(value), rel=1e-3), name


@pytest.mark.thorough
@several_processes
def test_control_c_ends_all_processes_of_the_command_line(tmp_path):
    started, pids = two_processes_in_training(tmp_path)
    for process in started:
        # As a terminal does, which tells all that it started.
        os.killpg(process.pid, signal.SIGINT)
    said, *others = [process.communicate(timeout=60)[1] for process in started]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert [process.returncode for process in started] == [130] * len(started)
    kept = len(history(tmp_path / "two"))
    assert f"Stopped. {kept} complete epochs are kept in two. Go on with:" in said
    # What another process writes is in a folder of its own, which no one is sent to.
    assert all(other.endswith("\nStopped.\n") for other in others)
    assert not any("Error" in words for words in (said, *others))


def told_of_another(monkeypatch, port):
    """This process is the first of two."""
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for name, value in (place | {"MASTER_PORT": str(port)}).items():
        monkeypatch.setenv(name, value)


@several_processes
def test_processes_that_do_not_train_together_are_refused(monkeypatch):
    model = keras_ae.AE(2, architecture="dense", widths=(8,))
    x = np.zeros((4, 3), "float32")
    model.fit(x, verbose=0)
    told_of_another(monkeypatch, devices.free_port())
    with pytest.raises(ValueError, match="be told that several processes.*: 2 process"):
        model.fit(x)
    if BACKEND == "jax":
        with pytest.raises(
            ValueError, match="`keras_ae.distribute\\(\\)` must be called"
        ):
            keras_ae.distribute()


@pytest.mark.skipif(BACKEND != "jax", reason="PyTorch meets by itself")
def test_processes_meet_or_say_why_not(monkeypatch):
    """Without JAX, which would abort this process."""
    from keras_ae.backend import _jax_meeting

    def meet(rank, count):
        return _jax_meeting.meet("127.0.0.1", port, rank, count)

    with futures.ThreadPoolExecutor(1) as thread, socket.create_server(("", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ValueError, match=f"port that is free.*1:{port}, which ano"):
            meet(0, 2)
        other = thread.submit(meet, 1, 2)
        answering, _ = busy.accept()
        with answering:
            answering.sendall(b"HTTP/1.1 400 Bad Request")
        with pytest.raises(ValueError, match="at a port that is free"):
            other.result()
    port = devices.free_port()
    with futures.ThreadPoolExecutor(2) as threads:
        first, other = (threads.submit(meet, rank, 2) for rank in range(2))
        assert first.result().port == other.result().port
        assert not first.result().gone.is_set()
        other.result().connections[0].shutdown(socket.SHUT_RDWR)
        assert first.result().gone.wait(60) and other.result().gone.wait(60)
        first = threads.submit(meet, 0, 2)
        with pytest.raises(ProcessLost, match=f"did not meet at 127.0.0.1:{port}: see"):
            meet(1, 3)
        with pytest.raises(ValueError, match="Received: RANK=0 of 2, RANK=1 of 3"):
            first.result()
    monkeypatch.setattr(_jax_meeting, "_WITHIN", 0.1)
    for rank in range(2):
        with pytest.raises(ProcessLost, match="did not meet"):
            meet(rank, 2)


@pytest.mark.once
def test_devices_on_the_command_line(invoke):
    refused = invoke("train", "vae", "moon-phases", "--devices", "some")
    assert refused.exit_code == 2
    assert "'some' is neither 'all', a number of devices" in refused.output
    refused = invoke("train", "vae", "moon-phases", "--devices", "0,9999")
    assert_one_sentence(refused, "devices", "Received: devices=[0, 9999]")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="SavedModel is TensorFlow's format")
def test_encoder_and_decoder_export_to_savedmodel(images, tmp_path):
    import tensorflow as tf

    model = keras_ae.VAE(2, image_shape=images.shape[1:])
    model.encoder.export(str(tmp_path / "encoder"), verbose=False)
    model.decoder.export(str(tmp_path / "decoder"), verbose=False)
    x = images.astype("float32") / 255
    encoder = tf.saved_model.load(str(tmp_path / "encoder"))
    z = encoder.serve(x)["mean"]
    np.testing.assert_allclose(z, model.encode(images), atol=1e-5)
    decoder = tf.saved_model.load(str(tmp_path / "decoder"))
    np.testing.assert_allclose(decoder.serve(z), model.decode(np.array(z)), atol=1e-5)


@pytest.mark.parametrize("name", ["VAE", "SparseAE", "GAN", "VQVAE", "AutoDecoder"])
def test_networks_of_verbs(images, name):
    model = getattr(keras_ae, name)(
        4, image_shape=images.shape[1:], architecture="dense", widths=(8,)
    )
    model.in_unit_range = True
    x = images.astype("float32") / 255
    z = np.random.default_rng(0).normal(size=(5, model.code_dim)).astype("float32")
    decode = model.network("decode")
    assert decode.weights
    np.testing.assert_allclose(
        decode.predict(z, verbose=0), model.decode(z), rtol=1e-4, atol=1e-5
    )
    for verb in ("encode", "reconstruct"):
        if model.encoder is None:
            with pytest.raises(ValueError, match=f"no network to {verb} with"):
                model.network(verb)
        else:
            np.testing.assert_allclose(
                model.network(verb).predict(x, verbose=0),
                getattr(model, verb)(x),
                rtol=1e-4,
                atol=1e-5,
            )
    with pytest.raises(ValueError, match="`verb` must be 'decode'.*'draw'"):
        model.network("draw")
    with pytest.raises(ValueError, match="must know its `image_shape`"):
        getattr(keras_ae, name)(4).network()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="SavedModel is TensorFlow's format")
def test_verbs_export_to_savedmodel(images, tmp_path):
    import tensorflow as tf

    model = keras_ae.VAE(2, image_shape=images.shape[1:], likelihood="bernoulli")
    z = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
    model.network("decode").export(str(tmp_path / "decode"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "decode"))
    np.testing.assert_allclose(loaded.serve(z), model.decode(z), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_whole_model_is_exported_or_says_what_can_be(tmp_path):
    model = keras_ae.VAE(2, image_shape=(3,), widths=(4,))
    with pytest.raises(ValueError, match=r"must end in \.keras.*`save_weights"):
        model.save(tmp_path / "model.h5")
    whole = str(tmp_path / "whole")
    with pytest.raises(ValueError, match="must be called at least once"):
        model.export(whole, verbose=False)
    model.fit(np.ones((4, 3), "float32"), verbose=0)
    if BACKEND == "torch":
        with pytest.raises(ValueError, match=r"this backend \(.*network\('encode'\)"):
            model.export(whole, verbose=False)
    else:
        model.export(whole, verbose=False)
        assert (tmp_path / "whole" / "saved_model.pb").exists()


@pytest.mark.once
def test_a_missing_exporter_is_named(tmp_path, monkeypatch):
    def missing(*arguments, **options):
        raise ImportError("pip install an-exporter")

    monkeypatch.setattr(keras.Model, "export", missing)
    with pytest.raises(ImportError, match="an-exporter"):
        keras_ae.AE(2, image_shape=(3,)).export(tmp_path / "x.onnx", format="onnx")


# Of the exporters, not of what they export.
@pytest.mark.filterwarnings("ignore")
def test_encoder_and_decoder_export_to_onnx(images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    exporters = {"tensorflow": "tf2onnx", "torch": "onnxscript", "jax": "jax2onnx"}
    pytest.importorskip(exporters[BACKEND])
    model = keras_ae.VAE(2, image_shape=images.shape[1:])
    x = images.astype("float32") / 255

    def run(network, array):
        path = str(tmp_path / f"{network.name}.onnx")
        network.export(path, format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(path)
        return session.run(None, {session.get_inputs()[0].name: array})

    # Keras orders the outputs of a dict by name: log_var, mean.
    _, z = run(model.encoder, x)
    np.testing.assert_allclose(z, model.encode(images), atol=1e-5)
    (parameters,) = run(model.decoder, z)
    np.testing.assert_allclose(parameters, model.decode(z), atol=1e-5)
    model.in_unit_range = True
    (pictures,) = run(model.network("decode"), z)
    np.testing.assert_allclose(pictures, model.decode(z), atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="models are modules on PyTorch only")
def test_a_model_is_a_module_like_any_other(images):
    model = keras_ae.VAE(2, architecture="dense", widths=(8,))
    model.fit(images, verbose=0)
    before = model.encode(images)
    assert model.cpu().to("cpu").float().eval() is model
    np.testing.assert_array_equal(model.encode(images), before)
    assert {*dict(model.named_parameters())} and model.state_dict()
