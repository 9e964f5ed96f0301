"""The three backends agree: equal weights and noise give equal losses."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from contract import OBJECTIVES

SCRIPT = """
    import sys
    import keras, numpy as np
    import keras_ae

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Rewriting the graphs of small models takes longer than running them.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

    class FixedNoise(keras.layers.Layer):
        def call(self, mean, log_var):
            noise = 1 - 2 * (keras.ops.arange(mean.shape[-1], dtype="float32") % 2)
            return mean + keras.ops.exp(0.5 * log_var) * noise

    class FixedCodes(keras.layers.Layer):
        def call(self, x):
            rows = keras.ops.arange(keras.ops.shape(x)[0], dtype="float32")[:, None]
            # Nowhere 0, where leaky ReLU has another gradient on each backend.
            return keras.ops.sin(1 + rows * keras.ops.convert_to_tensor([1.0, 2, 3]))

    class Half(keras.layers.Layer):
        def call(self, x):
            return keras.ops.full((keras.ops.shape(x)[0],), 0.5)

    class Rolled(keras.layers.Layer):
        def call(self, z):
            columns = [keras.ops.roll(z[:, i], i + 1) for i in range(z.shape[1])]
            return keras.ops.stack(columns, axis=1)

    NOISE = {
        "sampling": FixedNoise,
        "prior_sampling": FixedCodes,
        "mixing": Half,
        "permutation": Rolled,
    }

    def smooth_critic():
        # The penalty's gradient jumps where a leaky ReLU's input changes its sign.
        hidden = keras_ae.layers.SpectralNormalization(keras.layers.Dense(8, "tanh"))
        return keras.Sequential(
            [keras.layers.Flatten(), hidden, keras.layers.Dense(1)]
        )

    def dense(Model, **options):
        return Model(3, architecture="dense", widths=(8,), **options)

    # A VAE has the networks of an AE, and a head more.
    models = {
        f"VAE {architecture}": keras_ae.VAE(3, architecture=architecture, widths=(8,))
        for architecture in ("dense", "conv", "residual")
    }
    models |= {
        "AE dense": dense(keras_ae.AE),
        "SparseAE": dense(keras_ae.SparseAE),
        "running SparseAE": dense(
            keras_ae.SparseAE, sparsity=keras_ae.layers.KLSparsity(momentum=0.5)
        ),
        "ContractiveAE": dense(keras_ae.ContractiveAE),
        "RAE": dense(keras_ae.RAE),
        "StackedSAE": keras_ae.StackedSAE((8, 3), pretraining_epochs=2),
        "conv GAN": keras_ae.GAN(3, architecture="conv", widths=(8,)),
        "Wasserstein GAN": dense(
            keras_ae.GAN,
            adversarial_loss="wasserstein",
            critic_steps=2,
            ema_momentum=0.9,
            activation="tanh",
            discriminator=smooth_critic(),
        ),
        "BiGAN": dense(keras_ae.BiGAN),
        "even VAEGAN": dense(
            keras_ae.VAEGAN,
            gamma=0.1,
            pixel_weight=0.1,
            discriminator_start=2,
            equilibrium=(0.68, 0.05),
        ),
        "AAE": dense(keras_ae.AAE),
        "WAE": dense(keras_ae.WAE),
        "ConditionalVAE": dense(keras_ae.ConditionalVAE, num_classes=4),
        "FactorVAE": dense(keras_ae.FactorVAE),
        "AutoDecoder": dense(keras_ae.AutoDecoder),
        "GLO": dense(keras_ae.GLO),
        "VariationalAutoDecoder": dense(keras_ae.VariationalAutoDecoder),
    }
    part, *objectives = sys.argv[3:]
    if part == "others":
        models = dict([*models.items()][1::2])
        models |= {name: dense(getattr(keras_ae, name)) for name in objectives}
    else:
        models = dict([*models.items()][::2])
    data = np.load(sys.argv[1])
    losses = {}
    for title, model in models.items():
        for name, Layer in NOISE.items():
            if hasattr(model, name):
                setattr(model, name, Layer())
        # Small steps: differences of rounding grow with every step. A large epsilon:
        # Adam makes whole steps of gradients that are nothing but rounding.
        model.compile(keras.optimizers.Adam(2e-4, epsilon=1e-3))
        if isinstance(model, keras_ae.AutoDecoder):
            adam = keras.optimizers.Adam(1e-2, epsilon=1e-3)
            model.compile({"decoder": model.optimizer["decoder"], "codes": adam})
        model.build(data["images"].shape)
        rng = np.random.default_rng(0)
        for variable in model.variables:
            if len(variable.shape) > 1 or variable.path.endswith("/u"):
                variable.assign(rng.normal(0, 0.1, variable.shape))
        # The codes of decoder-only models are drawn when they meet their samples.
        keras.utils.set_random_seed(0)
        labels = np.arange(len(data["images"])) % 4 if model.needs_labels else None
        # A last batch of another size is compiled anew, so that a few have one.
        size = 10 if title.endswith("dense") else 8
        history = model.fit(
            data["images"], labels, batch_size=size, epochs=5, shuffle=False, verbose=0
        ).history
        for name, values in history.items():
            losses[f"{title} {name}"] = values
    np.savez(sys.argv[2], **losses)
"""


@pytest.mark.thorough
@pytest.mark.once
@pytest.mark.parametrize(
    "part", ["few", pytest.param("others", marks=pytest.mark.slow)]
)
def test_five_epochs_agree(images, tmp_path, part):
    np.savez(tmp_path / "data.npz", images=images)
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    losses = {}
    for backend in ("tensorflow", "jax", "torch"):
        pytest.importorskip(backend)
        out = tmp_path / f"{backend}.npz"
        script, data = tmp_path / "script.py", tmp_path / "data.npz"
        command = (script, data, out, part, *sorted(OBJECTIVES))
        subprocess.run(
            [sys.executable, *map(str, command)],
            env={**os.environ, "KERAS_BACKEND": backend},
            check=True,
        )
        losses[backend] = dict(np.load(out))
    # JAX is what the others are compared with.
    expected = losses.pop("jax")
    assert len(expected) > 5
    for mine in losses.values():
        assert mine.keys() == expected.keys()
        for name, values in mine.items():
            # A gradient jumps where a leaky ReLU's input changes its sign. TensorFlow's
            # own Adam rounds 1 - beta_2 in another way than Keras', by 1e-5 of a step.
            rtol = 3e-3 if "residual " in name else 3e-4
            rtol = 0.05 if name.endswith("gradient_norm") else rtol
            np.testing.assert_allclose(
                values, expected[name], rtol, atol=1e-5, err_msg=name
            )
