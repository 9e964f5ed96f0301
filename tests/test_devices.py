"""Several devices, and export to other runtimes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from test_cli import assert_one_sentence

import keras_ae

BACKEND = keras.backend.backend()

MIRRORED = """
    import keras, numpy as np, tensorflow as tf
    import keras_ae
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    def train(scope, make, Optimizer=keras.optimizers.SGD):
        with scope:
            keras.utils.set_random_seed(0)
            model = make()
            model.compile(Optimizer(1e-3))
        return model.fit(x, batch_size=16, epochs=3, shuffle=False, verbose=0)
    x = np.random.default_rng(0).random((32, 6), dtype="float32")
    def gan():
        model = keras_ae.GAN(2, architecture="dense", widths=(8,))
        # Replicas draw numbers of their own.
        model.prior_sampling = lambda x: x[:, :2]
        return model
    import contextlib
    for make in (
        lambda: keras_ae.AE(2, architecture="dense", widths=(8,)),
        lambda: keras_ae.StackedSAE((5, 3), pretraining="plain", pretraining_epochs=2),
        gan,
    ):
        alone = train(contextlib.nullcontext(), make).history["loss"]
        together = train(strategy.scope(), make).history["loss"]
        np.testing.assert_allclose(alone, together, rtol=1e-4)
    class OwnAdam(keras.optimizers.Adam):
        "The update of a subclass is left to Keras."
    def autoencoder():
        return keras_ae.AE(2, architecture="dense", widths=(8,))
    np.testing.assert_allclose(
        *(
            train(strategy.scope(), autoencoder, Adam).history["loss"]
            for Adam in (keras.optimizers.Adam, OwnAdam)
        ),
        rtol=1e-4,
    )
"""

DATA_PARALLEL = """
    import os
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    import keras, numpy as np
    import keras_ae
    x = np.random.default_rng(0).random((32, 6), dtype="float32")
    def train():
        losses = []
        for Model in (keras_ae.VAE, keras_ae.GAN):
            keras.utils.set_random_seed(0)
            model = Model(2, architecture="dense", widths=(8,))
            history = model.fit(x, batch_size=16, epochs=3, shuffle=False, verbose=0)
            losses.append(history.history["loss"])
        return losses
    alone = train()
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    assert len(keras.distribution.list_devices()) == 2
    np.testing.assert_allclose(alone, train(), rtol=1e-3)
"""


@pytest.mark.thorough
@pytest.mark.skipif(BACKEND == "torch", reason="one process, one device with PyTorch")
def test_two_devices_train_as_one():
    script = {"tensorflow": MIRRORED, "jax": DATA_PARALLEL}[BACKEND]
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.thorough
@pytest.mark.skipif(BACKEND != "jax", reason="`distribute` is for JAX")
@pytest.mark.parametrize("count", [2, 4])
def test_any_model_is_on_several_devices_what_it_is_on_one(count):
    """A loss across the batch, a table of codes, phases; noise, a codebook."""
    names = {
        2: ("BetaTCVAE", "AutoDecoder", "StackedSAE"),
        4: ("VAE", "VQVAE"),
    }[count]
    script = Path(__file__).parent / "devices.py"
    run = subprocess.run(
        [sys.executable, script, str(count), *names], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    rows = [line.split() for line in run.stdout.splitlines()]
    assert [name for name, *_ in rows] == [*names]
    for name, of_logs, of_weights in rows:
        assert float(of_logs) < 1e-4, name
        assert float(of_weights) < 1e-5, name


def test_devices_that_are_not_there_are_refused():
    if BACKEND != "jax":
        with pytest.raises(ValueError, match="several devices .* needs the 'jax'"):
            keras_ae.distribute(2)
        return
    for wrong in (0, 2, -1, True, "two", [], [1], [0, 0], 1.0):
        with pytest.raises(ValueError, match="`devices` must be 'all', a number from"):
            keras_ae.distribute(wrong)
    assert keras_ae.distribute() == keras_ae.distribute([0])


TWO_PROCESSES = """
    import sys, torch, numpy as np
    import keras_ae
    place = f"file://{sys.argv[1]}"
    rank = int(sys.argv[2])
    torch.distributed.init_process_group("gloo", place, rank=rank, world_size=2)
    try:
        keras_ae.AE(2, architecture="linear").fit(np.ones((4, 3), "float32"))
    except ValueError as error:
        print(error)
"""


@pytest.mark.skipif(BACKEND != "torch", reason="processes of torch.distributed")
def test_processes_do_not_train_each_by_itself(tmp_path):
    code = textwrap.dedent(TWO_PROCESSES)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "meeting", str(rank)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        said, _ = rank.communicate(timeout=120)
        assert "must run in one process on PyTorch" in said
        assert "Received: 2 processes of torch.distributed" in said


@pytest.mark.once
def test_devices_on_the_command_line(invoke):
    refused = invoke("train", "vae", "moon-phases", "--devices", "some")
    assert refused.exit_code == 2
    assert "'some' is neither 'all', a number of devices" in refused.output
    refused = invoke("train", "vae", "moon-phases", "--devices", "0,1")
    refusal = "of the 1 that" if BACKEND == "jax" else "needs the 'jax' backend"
    assert_one_sentence(refused, "devices", refusal)


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
