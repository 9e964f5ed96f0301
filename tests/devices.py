"""How far trainings on several devices are from those on one: on JAX.

    python tests/devices.py COUNT [MODEL ...]

trains each model twice, on one of COUNT virtual CPU devices and on all of them: two
epochs of 45 examples in batches of 16, so that the last batch has no equal part for
each, with 11 for validation. It prints the largest relative difference of what was
logged, and the largest of the weights.
"""

import os
import sys


def differences(Model, x):
    """Largest relative difference of logs, and the largest of weights."""
    trained = []
    for devices in (1, "all"):
        keras_ae.distribute(devices)
        model = contract.make(Model)
        logs = contract.fit(model, x, epochs=2, validation_data=x[:11])
        trained.append((logs, contract.weights(model)))
    (alone, own), (together, others) = trained
    of_logs = max(
        np.max(np.abs(np.subtract(together[name], alone[name])) / np.abs(alone[name]))
        for name in alone
        if np.any(alone[name])
    )
    of_weights = max(
        np.max(np.abs(np.subtract(weight, other, dtype="float64")))
        for weight, other in zip(own, others, strict=True)
    )
    return of_logs, of_weights


def main(names):
    x = np.random.default_rng(0).random((45, 6, 6, 1), dtype="float32")
    for name in names or contract.TRAINED:
        of_logs, of_weights = differences(getattr(keras_ae, name), x)
        print(f"{name:24} {of_logs:.1e} {of_weights:.1e}", flush=True)


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "jax"
    flag = f"--xla_force_host_platform_device_count={sys.argv[1]}"
    os.environ["XLA_FLAGS"] = flag
    import contract
    import numpy as np

    import keras_ae

    main(sys.argv[2:])
