"""How far trainings on several devices are from those on one.

    python tests/devices.py COUNT [--mirrored] [MODEL ...]

trains each model twice, on one of COUNT virtual CPU devices and on all of them: two
epochs of 45 examples in batches of 16, so that the last batch has no equal part for
each, with 11 for validation. It prints the largest relative difference of what was
logged, and the largest of the weights. The backend is JAX, or with
`KERAS_BACKEND=tensorflow` TensorFlow, where `--mirrored` makes the models in the scope
of a `tf.distribute.MirroredStrategy`.
"""

import argparse
import contextlib
import os


def differences(Model, x, strategy=None):
    """Largest relative difference of logs, and the largest of weights."""
    trained = []
    for devices in (1, "all"):
        scope = contextlib.nullcontext()
        if strategy is None:
            keras_ae.distribute(devices)
        elif devices == "all":
            scope = strategy.scope()
        with scope:
            model = contract.make(Model)
        logs = contract.fit(model, x, epochs=2, validation_data=x[:11])
        trained.append((logs, contract.weights(model)))
    (alone, own), (together, others) = trained
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


def main(names, strategy=None):
    x = np.random.default_rng(0).random((45, 6, 6, 1), dtype="float32")
    for name in names or contract.TRAINED:
        of_logs, of_weights = differences(getattr(keras_ae, name), x, strategy)
        print(f"{name:24} {of_logs:.1e} {of_weights:.1e}", flush=True)


def start_tensorflow(count):
    """Parts the CPU, and returns a strategy of its parts."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, parts)
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--mirrored", action="store_true")
    parser.add_argument("models", nargs="*")
    chosen = parser.parse_intermixed_args()
    strategy = None
    if os.environ.setdefault("KERAS_BACKEND", "jax") == "tensorflow":
        strategy = start_tensorflow(chosen.count)
    else:
        flag = f"--xla_force_host_platform_device_count={chosen.count}"
        os.environ["XLA_FLAGS"] = flag
    import contract
    import numpy as np

    import keras_ae

    main(chosen.models, strategy if chosen.mirrored else None)
