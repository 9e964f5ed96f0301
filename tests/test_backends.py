"""The three backends agree: equal weights and noise give equal losses."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

SCRIPT = """
    import sys
    import keras, numpy as np
    import keras_ae

    class FixedNoise(keras.layers.Layer):
        def call(self, mean, log_var):
            noise = keras.ops.convert_to_tensor([1.0, -1.0, 1.0])
            return mean + keras.ops.exp(0.5 * log_var) * noise

    def dense(Model, **options):
        return Model(3, architecture="dense", widths=(8,), **options)

    models = {
        f"{Model.__name__} {architecture}": Model(
            3, architecture=architecture, widths=(8,)
        )
        for Model in (keras_ae.AE, keras_ae.VAE)
        for architecture in ("dense", "conv", "residual")
    }
    models |= {
        "SparseAE": dense(keras_ae.SparseAE),
        "running SparseAE": dense(
            keras_ae.SparseAE, sparsity=keras_ae.layers.KLSparsity(momentum=0.5)
        ),
        "ContractiveAE": dense(keras_ae.ContractiveAE),
        "RAE": dense(keras_ae.RAE),
        "StackedSAE": keras_ae.StackedSAE((8, 3), pretraining_epochs=2),
    }
    data = np.load(sys.argv[1])
    losses = {}
    for title, model in models.items():
        if isinstance(model, keras_ae.VAE):
            model.sampling = FixedNoise()
        # Small steps: differences of rounding grow with every step.
        model.compile(keras.optimizers.Adam(2e-4))
        model.build(data["images"].shape)
        rng = np.random.default_rng(0)
        for variable in model.trainable_variables:
            if len(variable.shape) > 1:
                variable.assign(rng.normal(0, 0.1, variable.shape))
        history = model.fit(
            data["images"], batch_size=10, epochs=5, shuffle=False, verbose=0
        ).history
        for name, values in history.items():
            losses[f"{title} {name}"] = values
    np.savez(sys.argv[2], **losses)
"""


def test_five_epochs_agree(images, tmp_path):
    np.savez(tmp_path / "data.npz", images=images)
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    here = keras.backend.backend()
    other = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}[here]
    pytest.importorskip(other)
    losses = []
    for backend in (here, other):
        out = tmp_path / f"{backend}.npz"
        subprocess.run(
            [sys.executable, tmp_path / "script.py", tmp_path / "data.npz", out],
            env={**os.environ, "KERAS_BACKEND": backend},
            check=True,
        )
        losses.append(dict(np.load(out)))
    mine, theirs = losses
    assert mine.keys() == theirs.keys() and len(mine) > 20
    for name, values in mine.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-4, err_msg=name)
