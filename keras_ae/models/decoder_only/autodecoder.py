"""Decoder-only models: a code for each sample, learned with the decoder."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend, checks
from keras_ae.backend import keras_private
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.decoder_only.code_table import CodeTable, check_optimizer
from keras_ae.models.decoder_only.inference import Infers
from keras_ae.models.decoder_only.samples import KeepsSamples, observed_values
from keras_ae.probability.likelihoods import Gaussian
from keras_ae.training.optimizers import PlayerOptimizers, is_config


class AutoDecoder(KeepsSamples, Infers, Autoencoder):
    """Auto-decoder: a decoder, learned together with one code for each sample.

        min Σ_i -log p(x_i | z_i) + code_weight ||z_i||² / 2

    over the decoder and z_1 … z_n.

    There is no encoder. The code of a new example is searched for: `encode` descends
    the same loss with the decoder fixed, from the nearest training code. That costs
    more than an encoder's one pass, and gets along with missing values: NaN, or False
    in a `mask`, marks a value that was not observed. It counts for nothing, in `fit` as
    in `encode`, and `reconstruct` fills it in.

    `fit` numbers the samples 0, 1, … in the order in which they come (`sample_ids`) and
    keeps their codes (`codes`). A step touches the codes of its batch only. `extend`
    adds samples later, `remove` takes some out.

    Validation and `evaluate` search for codes, too: keep validation data small, or look
    at `val_loss` every few epochs with `validation_freq`.

    Args:
        latent_dim: Numbers in a code.
        image_shape: Shape of one example; see `Autoencoder`, also for `architecture`,
            `widths` and `activation`. The widths are those that an encoder would have;
            the decoder mirrors them.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1.
        code_weight: Weight of the Gaussian penalty on codes, >= 0.
        search_steps: Steps of a search for codes, >= 1.
        decoder: Your own Keras model from codes `(batch, latent_dim)` to the
            likelihood's parameters `(batch, *image_shape)`.
        **kwargs: `name`, `dtype` and `trainable`.

    Raises:
        ValueError: If an argument is out of range, or the decoder of the wrong shape.

    Example:

    ```python
    model = keras_ae.AutoDecoder(latent_dim=32)
    model.fit(x_train, epochs=50)
    codes = model.encode(x_test)  # (n, 32)
    restored = model.reconstruct(x_test, mask=observed)  # (n, height, width, channels)
    new_ids = model.extend(x_new)  # (n,)
    ```

    Reference:
        Tan and Mayrovouniotis, Reducing Data Dimensionality through Optimizing Neural
        Network Inputs, 1995 (https://doi.org/10.1002/aic.690410612); Park et al.,
        DeepSDF, 2019 (https://arxiv.org/abs/1901.05103).
    """

    has_encoder = False
    searches_codes = True
    term_names: tuple[str, ...] = ("reconstruction", "code_penalty")
    settled_arguments: tuple[str, ...] = ("encoder",)
    # After how many steps the objective of a search comes round again.
    search_turns = 1

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        likelihood: Any = None,
        code_weight: float = 1e-2,
        search_steps: int = 50,
        **kwargs,
    ):
        self.refuse_settled(kwargs, "there is none; every sample has its own code")
        if likelihood is None:
            likelihood = Gaussian(scale=1.0)
        super().__init__(latent_dim, likelihood=likelihood, **kwargs)
        checks.check_weight("code_weight", code_weight)
        self.code_weight = code_weight
        self.search_steps = checks.check_count("search_steps", search_steps)

    # Building

    @property
    def row_width(self) -> int:
        """Numbers that a sample owns: its code, and what a subclass adds to it."""
        return self.latent_dim

    def build_networks(self, image_shape):
        if self.decoder is None:
            self.decoder = self.make_decoder(image_shape)
        self.check_decoder(image_shape)
        self.table = CodeTable.empty(self.row_width)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["samples"] = np.asarray(self.table.count if self.built else 0)

    def load_own_variables(self, store):
        # Keras counts what it is given, and should count variables only.
        names = list(store.keys())
        store = {name: store[name] for name in names}
        samples = int(np.asarray(store.pop("samples")))
        if self.built and samples != self.table.count:
            # Of the shape of what is to be loaded.
            rows = np.zeros((samples, self.row_width), "float32")
            self._replace(CodeTable.empty(self.row_width).extended(rows))
        super().load_own_variables(store)

    def _replace(self, table):
        """Puts another table in the place of this one, and forgets what was traced."""
        keras_private.replace(self, "table", table)
        self.train_function = self.test_function = self.predict_function = None
        self._compiled_functions.clear()

    def _start_rows(self, x) -> np.ndarray:
        """Returns the rows that training starts from, `(n, row_width)`.

        Args:
            x: The examples, an array `(n, *image_shape)`.
        """
        # As `keras.utils.set_random_seed` says.
        rng = np.random.default_rng(np.random.randint(2**31))
        return rng.normal(0.0, 0.01, (len(x), self.latent_dim)).astype("float32")

    # Optimizers

    @property
    def optimizer_names(self):
        return ("decoder", "codes")

    def default_optimizers(self):
        # A code is moved once an epoch, a weight of the decoder at every step.
        return {
            "decoder": keras.optimizers.Adam(1e-3),
            "codes": keras.optimizers.Adam(0.1, beta_2=0.9),
        }

    def compile(self, optimizer: Any = None, *args, **kwargs) -> None:
        """Configures training; the constructor has done it already.

        Args:
            optimizer: A Keras optimizer for the decoder, or a dict
                `{"decoder": …, "codes": …}`, of which the codes' is an `Adam` or `SGD`.
                Defaults to Adam(1e-3) for the decoder and Adam(0.1) for the codes.
            *args, **kwargs: As for `Autoencoder.compile`.

        Raises:
            ValueError: If the codes' optimizer is another, or one that would touch
                codes outside the batch.
        """
        together = isinstance(optimizer, Mapping | PlayerOptimizers)
        if optimizer is not None and (is_config(optimizer) or not together):
            optimizer = {"decoder": optimizer}
        super().compile(optimizer, *args, **kwargs)
        check_optimizer(self.optimizer["codes"])

    def variables_by_optimizer(self):
        # The codes' optimizer has no variables: each row's moments are the table's.
        return {"decoder": self.trainable_variables, "codes": []}

    # The mathematics

    def call(self, x, training=False, rows=None):
        if rows is None:
            x, observed = observed_values(x)
            rows = self._search(x, observed, self.search_steps).z
        return self.decoded(rows, training)

    def decoded(self, rows, training=False, step=None) -> dict[str, Any]:
        """Returns the network's outputs for the rows of a batch.

        Args:
            rows: Tensor `(batch, row_width)`.
            training: Whether the decoder learns.
            step: Number of the step, in a search.
        """
        return {"z": rows, "parameters": self.decoder(rows, training=training)}

    def mean_codes(self, rows):
        """Returns the codes `(n, latent_dim)` in rows `(n, row_width)`."""
        return rows

    def constrain(self, rows):
        """Returns rows within the range that they may have."""
        return rows

    def terms(self, x, outputs, training=False):
        x, observed = observed_values(x)
        log_prob = self.likelihood.log_prob(
            x, outputs["parameters"], training, observed
        )
        squares = ops.sum(ops.square(ops.cast(outputs["z"], "float32")), axis=-1)
        return {
            "reconstruction": -log_prob,
            "code_penalty": 0.5 * self.code_weight * squares,
        }

    def monitors(self, x, outputs, terms):
        x, observed = observed_values(x)
        error = self.likelihood.mean_squared_error(x, outputs["parameters"], observed)
        return {"mse": error}

    def _train_on(self, data):
        x, index, weight = keras.utils.unpack_x_y_sample_weight(data)
        x = self.check_batch(x)
        index = ops.cast(ops.reshape(index, (-1,)), "int32")
        (player,) = self.players()

        def loss_fn(rows):
            losses, figures = self._objective(
                player, x, {"rows": rows}, weight, training=True
            )
            return ops.mean(losses), figures

        figures, _, gradient = backend.minimize(
            self,
            loss_fn,
            player.variables if self.trainable else [],
            self.optimizer["decoder"],
            at=self.table.take(index),
        )
        self.table.update(index, gradient, self.optimizer["codes"], self.constrain)
        self._track(figures)
        return self.get_metrics_result()

    # Training

    def check_values(self, x, y, restored):
        if "float" in keras.backend.standardize_dtype(x.dtype):
            values = ops.convert_to_numpy(x)
            observed = np.logical_not(np.isnan(values))
            if not observed.all():
                some = observed.reshape(len(values), -1).any(axis=1)
                if not some.all():
                    raise ValueError(
                        "Each example must have an observed value. Received: "
                        f"{np.sum(~some)} of {len(some)} examples with nothing but "
                        "missing ones (NaN, or False in `mask`), the first at position "
                        f"{np.argmin(some)}; leave them out."
                    )
                x = values[observed]
        return super().check_values(x, y, restored)
