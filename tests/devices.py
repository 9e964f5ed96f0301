"""How far trainings on several devices are from those on one.

    python tests/devices.py COUNT [--mirrored] [MODEL ...]

trains each model twice, on one of COUNT virtual CPU devices and on all of them: two
epochs of 45 examples in batches of 16, so that the last batch has no equal part for
each, with 11 for validation. It prints the largest relative difference of what was
logged, and the largest of the weights. The backend is JAX, or with `KERAS_BACKEND`
TensorFlow, where `--mirrored` makes the models in the scope of a
`tf.distribute.MirroredStrategy`, or PyTorch, where devices are processes.
"""

import argparse
import contextlib
import os
import pathlib
import pickle
import socket
import subprocess
import sys
import tempfile


def own_networks():
    """A model whose layers see each example by itself, all of them, or who knows."""
    # Once the devices are settled.
    import keras

    import keras_ae

    keras.utils.set_random_seed(0)
    layers = keras.layers

    class OfTheOthers(layers.Layer):
        def call(self, x):
            return x - keras.ops.mean(x, axis=0, keepdims=True)

    def halves(x):
        return x - 0.5 * keras.ops.mean(x, axis=0)

    encoder = [
        layers.Conv2D(4, 3, strides=2, padding="same"),
        keras.Sequential([layers.BatchNormalization(), layers.Activation("relu")]),
        layers.Dropout(0.3),
        OfTheOthers(),
        layers.Conv2D(4, 3, padding="same", activation=halves),
        layers.Flatten(),
        layers.Dense(3),
    ]
    decoder = [layers.Dense(36), layers.Reshape((6, 6, 1))]
    encoder = keras.Sequential([keras.Input((6, 6, 1)), *encoder])
    decoder = keras.Sequential([keras.Input((3,)), *decoder])
    model = keras_ae.AE(3, encoder=encoder, decoder=decoder)
    model.compile(keras.optimizers.SGD(1e-2))
    return model


def penalized():
    """A model whose loss holds the gradient of a network."""
    settings = {"adversarial_loss": "wasserstein", "gradient_penalty": 3.0}
    return contract.make(keras_ae.AAE, **settings)


# Beside the models of the contract.
OTHERS = {"OwnNetworks": own_networks, "Penalized": penalized}


def train(name, x, scope=None):
    """What was logged, and the weights."""
    with scope or contextlib.nullcontext():
        make = OTHERS.get(name)
        model = make() if make else contract.make(getattr(keras_ae, name))
    logs = contract.fit(model, x, epochs=2, validation_data=x[:11])
    return logs, contract.weights(model)


def differences(one, other):
    """Largest relative difference of logs, and the largest of weights."""
    (alone, own), (together, others) = one, other
    of_logs = max(
        np.max(
            np.abs(np.subtract(together[name], alone[name]))
            / np.maximum(np.abs(alone[name]), 1e-30)
        )
        for name in alone
        if np.any(alone[name])
    )
    of_weights = max(
        np.max(np.abs(np.subtract(weight, other, dtype="float64")))
        for weight, other in zip(own, others, strict=True)
    )
    return of_logs, of_weights


def tell(alone, together):
    for name, (logs, weights) in together.items():
        of_logs, of_weights = differences(alone[name], (logs, weights))
        print(f"{name:24} {of_logs:.1e} {of_weights:.1e}", flush=True)


def train_all(names, strategy=None):
    x = np.random.default_rng(0).random((45, 6, 6, 1), dtype="float32")
    return {name: train(name, x, strategy and strategy.scope()) for name in names}


def start_tensorflow(count):
    """Parts the CPU, and returns a strategy of its parts."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, parts)
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)])


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_processes(command, count, **options):
    """Runs a command in processes that are told of each other; returns them."""
    told = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        subprocess.Popen(
            command,
            env=os.environ | {k: str(v) for k, v in (told | {"RANK": rank}).items()},
            **options,
        )
        for rank in range(count)
    ]


def main(names, strategy=None, started=(), file=None):
    """Trains by one device and by several, which other processes have if any do.

    Args:
        names: Of models.
        strategy: None, or TensorFlow's, in the scope of which several train.
        started: The processes that train together; this one trains alone.
        file: None, or where those that train together keep what they have learned.
    """
    if processes.are_started():
        together = train_all(names)
        if processes.is_first():
            file.write_bytes(pickle.dumps(together))
        return
    keras_ae.distribute(1)
    alone = train_all(names)
    if started:
        if any([process.wait() for process in started]):
            sys.exit(1)
        together = pickle.loads(file.read_bytes())
    else:
        if strategy is None:
            keras_ae.distribute()
        together = train_all(names, strategy)
    tell(alone, together)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--mirrored", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--file", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("models", nargs="*")
    chosen = parser.parse_intermixed_args()
    backend = os.environ.setdefault("KERAS_BACKEND", "jax")
    is_several = "RANK" in os.environ  # one of several processes
    several = chosen.count if backend == "torch" else chosen.processes
    strategy, started = None, []
    with contextlib.ExitStack() as stack:
        if several > 1 and not is_several:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            chosen.file = pathlib.Path(folder) / "together.pickle"
            command = [sys.executable, __file__, str(chosen.count // several)]
            command += ["--file", chosen.file, *chosen.models]
            started = start_processes(command, several)
            stack.callback(lambda: [process.kill() for process in started])
        if backend == "tensorflow":
            strategy = start_tensorflow(chosen.count)
        elif backend == "jax":
            flags = os.environ.get("XLA_FLAGS", "")
            flags += f" --xla_force_host_platform_device_count={chosen.count}"
            os.environ["XLA_FLAGS"] = flags
        import numpy as np

        import keras_ae
        from keras_ae import processes

        if is_several:
            keras_ae.distribute()
        # It computes.
        import contract

        names = chosen.models or contract.TRAINED
        strategy = strategy if chosen.mirrored else None
        main(names, strategy, started, chosen.file)
