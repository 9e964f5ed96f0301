"""Auto-decoders: no encoder, but a code of its own for every training sample."""

import copy
import functools
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ae import inputs
from keras_ae.backend import autodiff
from keras_ae.datasets import Batches
from keras_ae.models.base import latent_search, sampling
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.decoder_only.code_table import CodeTable, check_optimizer
from keras_ae.nn import networks
from keras_ae.probability.likelihoods import Gaussian
from keras_ae.training.optimizers import PlayerOptimizers
from keras_ae.training.trainer import streamed

# A search has converged where the gradient has fallen to this share of its largest.
CONVERGED = 0.1


class Inferred(NamedTuple):
    """What a search for codes came to.

    Attributes:
        codes: Codes, `(n, latent_dim)`.
        error: Mean squared error of what they decode to, over the observed values of
            each example, `(n,)`.
        converged: Whether the search came to rest: whether the norm of the gradient
            fell below a tenth of its largest, booleans `(n,)`.
    """

    codes: np.ndarray
    error: np.ndarray
    converged: np.ndarray


class AutoDecoder(Autoencoder):
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

    term_names = ("reconstruction", "code_penalty")
    settled_arguments = ("encoder",)
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
        inputs.check_weight("code_weight", code_weight)
        self.code_weight = code_weight
        self.search_steps = inputs.check_count("search_steps", search_steps)

    # Building

    @property
    def row_width(self) -> int:
        """Numbers that a sample owns: its code, and what a subclass adds to it."""
        return self.latent_dim

    def build_networks(self, image_shape):
        if self.decoder is None:
            self.decoder = self.build_decoder(**self.network_options(image_shape))
        networks.check("decoder", self.decoder, (self.latent_dim,), image_shape)
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
        self._tracker.unlock()
        self._tracker.untrack(self.table)
        self.table = table
        self._tracker.lock()
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
        together = (Mapping, PlayerOptimizers)
        if optimizer is not None and not isinstance(optimizer, together):
            optimizer = {"decoder": optimizer}
        super().compile(optimizer, *args, **kwargs)
        check_optimizer(self.optimizer["codes"])

    def _variables_by_optimizer(self):
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
        x = self._examples(x)
        index = ops.cast(ops.reshape(index, (-1,)), "int32")
        (player,) = self.players()

        def loss_fn(rows):
            losses, figures = self._objective(
                player, x, {"rows": rows}, weight, training=True
            )
            return ops.mean(losses), figures

        figures, _, gradient = autodiff.minimize(
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

    def fit(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks=None,
        validation_split: float = 0.0,
        validation_data=None,
        *,
        mask: Any = None,
        sample_ids: Any = None,
        **kwargs,
    ) -> keras.callbacks.History:
        """Trains the decoder and the codes of the samples.

        The first call numbers the samples 0, 1, …; a further one goes on with the same
        samples in the same order, or with those that `sample_ids` names.

        Args:
            x: Data as for any autoencoder, of a known end: data sets other than arrays
                and `Batches` are read into memory once. NaN marks a missing value.
            y: Ignored, as are labels in data sets.
            batch_size, epochs, verbose, callbacks, **kwargs: As in `keras.Model.fit`.
            validation_split: Share of `x`, from its end, that is validation data.
            validation_data: Data as `x`, for whose examples codes are searched.
            mask: Booleans of the shape of `x`, which must be an array: True where a
                value was observed.
            sample_ids: Which of the model's samples `x` are, integers `(n,)`.

        Returns:
            Keras' `History`: the loss, its terms and monitors by epoch.

        Raises:
            ValueError: If the data has no end, an example no observed value, or the
                samples are not those of the call before.
        """
        _refuse_distribution(self)
        x = with_missing(x, mask)
        data = self._inspect(x, "x", inputs.plain(y))
        if not hasattr(data, "shape") and not isinstance(data, Batches):
            (batch, _), _ = inputs.first_batch(data)
            batch_size = batch_size or batch.shape[0]
            data = self._gathered(data)
        if validation_split:
            if not hasattr(data, "shape"):
                raise ValueError(
                    "`validation_split` needs an array. Received: a "
                    f"{type(data).__name__}; pass `validation_data`."
                )
            kept = int(len(data) * (1.0 - validation_split))
            data, validation_data = data[:kept], data[kept:]
            if kwargs.get("sample_weight") is not None:
                weight = np.asarray(kwargs["sample_weight"])
                validation_data = (validation_data, None, weight[kept:])
                kwargs["sample_weight"] = weight[:kept]
            if sample_ids is not None:
                sample_ids = np.asarray(sample_ids)[:kept]
        rows = self._number(_in_order(data), sample_ids)
        options = {
            "batch_size": batch_size,
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": callbacks,
            "validation_data": validation_data,
            **kwargs,
        }
        # Keras takes weights of arrays only.
        if isinstance(data, np.memmap) and kwargs.get("sample_weight") is None:
            data, options = streamed(data, options)
        if not isinstance(data, Batches):
            return super().fit(data, rows, **options)
        options.pop("batch_size", None)
        numbered = _numbered(data, rows)
        history = super().fit(numbered, None, **options)
        data.epoch = numbered.epoch
        return history

    def _gathered(self, data):
        """What a data set serves, as one array."""
        inputs.check_readable_again(type(self).__name__, data)
        return np.concatenate(list(inputs.batches(_in_order(data), 1024)))

    def _number(self, images, sample_ids):
        """Returns the rows of the samples, with a new table on the first call."""
        count = images.shape[0]
        if sample_ids is not None:
            self._require_fitted("sample_ids")
            rows = self.table.positions(sample_ids)
            if len(rows) != count:
                raise ValueError(
                    "`sample_ids` must have one id an example. Received: "
                    f"{len(rows)} for {count} examples"
                )
            return rows
        if not self.table.count:
            self._replace(self.table.extended(self._start_rows(images)))
        if self.table.count != count:
            raise ValueError(
                f"The model has codes of {self.table.count} samples. Received: "
                f"{count} examples; pass the same ones in the same order, name them by "
                "`sample_ids`, or add new ones with `extend`."
            )
        return np.arange(count, dtype="int32")

    def train_on_batch(self, x, y=None, *args, sample_ids: Any = None, **kwargs):
        """Takes one step on one batch; see `keras.Model.train_on_batch`.

        Args:
            x: Batch `(n, *image_shape)`.
            y: Ignored.
            *args, **kwargs: As in `keras.Model.train_on_batch`.
            sample_ids: Which of the model's samples they are, integers `(n,)`. Defaults
                to all of them, in order.
        """
        x = self._inspect(x, "x")
        rows = self._number(x, sample_ids)
        return super().train_on_batch(x, rows, *args, **kwargs)

    def _check_values(self, x, y, restored):
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
        return super()._check_values(x, y, restored)

    # Samples

    @property
    def sample_ids(self) -> np.ndarray:
        """The samples that the model has codes of, integers `(n,)` in rising order."""
        self._require_fitted("sample_ids")
        return self.table.sample_ids

    def codes(self, sample_ids: Any = None) -> np.ndarray:
        """Returns the codes of training samples, `(n, latent_dim)`.

        Args:
            sample_ids: Integers `(n,)`. Defaults to all of them, in order.

        Raises:
            ValueError: If there is no such sample.
        """
        return ops.convert_to_numpy(self.mean_codes(self._rows(sample_ids)))

    def _rows(self, sample_ids=None):
        self._require_fitted("codes")
        if sample_ids is None:
            return ops.convert_to_tensor(self.table.rows)
        return self.table.take(self.table.positions(sample_ids))

    def extend(
        self,
        x,
        mask: Any = None,
        epochs: int = 0,
        replay: float = 1.0,
        batch_size: int = 256,
        steps: int = 300,
        restarts: int = 1,
        seed: int = 0,
        **kwargs,
    ) -> np.ndarray:
        """Learns new samples, and keeps what was learnt.

        Their codes are searched for with the decoder frozen. With `epochs`, decoder and
        codes then learn on, from the new samples and from old ones replayed: an old
        sample's code is drawn, and what it decoded to before is what it is to decode to
        still. The old data are not needed.

        Args:
            x: New examples, data as for `fit`.
            mask: As in `fit`.
            epochs: Epochs over the new samples, >= 0; with 0 the decoder does not
                change, nor does any old code. A learning-rate schedule of `compile`
                that has come to its end leaves nothing to learn with: `compile` again.
            replay: Old samples replayed for each new one, >= 0, at most all of them.
            batch_size: Examples at a time.
            steps, restarts: As for `encode`.
            seed: Seed of what is replayed, >= 0.
            **kwargs: As for `fit`: `callbacks`, `validation_data`, `verbose`.

        Returns:
            The new samples' ids, integers `(n,)`.

        Raises:
            ValueError: If `fit` was not called before, or an argument is out of range.
        """
        self._require_fitted("extend")
        inputs.check_count("epochs", epochs, minimum=0)
        inputs.check_weight("replay", replay)
        inputs.check_seed(seed)
        data = self._inspect(with_missing(x, mask), "x")
        if not hasattr(data, "shape"):
            data = self._gathered(data)
        found = self._infer(data, batch_size, steps=steps, restarts=restarts)
        count = self.table.count
        old = np.random.default_rng(seed).permutation(count)
        old = np.sort(old[: round(min(replay * len(found), count))])
        replayed = np.zeros((0, *self.built_image_shape), "float32")
        if epochs and len(old):
            replayed = self.decode(self.codes(self.sample_ids[old]))
        self.forget_samplers()
        self._replace(self.table.extended(found[:, : self.row_width]))
        ids = self.sample_ids
        if epochs:
            new = ops.convert_to_numpy(inputs.to_floats(data))
            low, high = self.likelihood.low, self.likelihood.high
            self.fit(
                np.concatenate([new, np.clip(replayed, low, high)]),
                sample_ids=np.concatenate([ids[count:], ids[old]]),
                batch_size=batch_size,
                epochs=epochs,
                **kwargs,
            )
        return ids[count:]

    def remove(self, sample_ids: Any) -> None:
        """Forgets the codes of samples; their ids are not given to others.

        Args:
            sample_ids: Integers `(n,)`.

        Raises:
            ValueError: If there is no such sample, or none would be left.
        """
        self._require_fitted("remove")
        positions = self.table.positions(sample_ids)
        if len(positions) == self.table.count:
            raise ValueError(
                "`sample_ids` must leave a sample. Received: all "
                f"{self.table.count} of them; make a new model."
            )
        self.forget_samplers()
        self._replace(self.table.without(positions))

    def _require_fitted(self, verb):
        self._require_built(verb)
        if not self.table.count:
            raise ValueError(
                f"{type(self).__name__} must have learnt samples before `{verb}`. "
                "Received: a model that was not fitted; call `fit` first."
            )

    # Verbs

    def infer(
        self,
        x,
        mask: Any = None,
        steps: int | None = None,
        restarts: int = 1,
        candidates: int = 1000,
        learning_rate: float = 0.2,
        batch_size: int = 256,
    ) -> Inferred:
        """Searches for the codes of examples, with the decoder fixed.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes. NaN marks a
                missing value.
            mask: Booleans of the shape of `x`, which must be an array: True where a
                value was observed.
            steps: Steps of the search, >= 1. Defaults to `search_steps`.
            restarts: Nearest training codes to start from, >= 1; the best end counts.
            candidates: Training codes, spread over all of them, that the nearest are
                chosen from, >= `restarts`.
            learning_rate: Rate of the first step, > 0, in standard deviations of the
                training codes; it falls to 0.
            batch_size: Examples at a time, for arrays.

        Returns:
            `Inferred`: the codes, the error that they come to, and which of them came
            to rest.

        Raises:
            ValueError: If an argument is out of range, or an example has no observed
                value.
        """
        x = self._inspect(with_missing(x, mask), "x")
        found = self._infer(x, batch_size, steps, restarts, candidates, learning_rate)
        codes = self.mean_codes(ops.convert_to_tensor(found[:, : self.row_width]))
        *_, error, slope = found.T
        return Inferred(ops.convert_to_numpy(codes), error, slope < CONVERGED)

    def encode(self, x, batch_size: int = 256, **kwargs) -> np.ndarray:
        """Returns the codes of `x`, `(n, latent_dim)`, that `infer` finds.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.
            **kwargs: `mask`, `steps`, `restarts`, `candidates` and `learning_rate` of
                `infer`.
        """
        return self.infer(x, batch_size=batch_size, **kwargs).codes

    def reconstruct(self, x, batch_size: int = 256, **kwargs) -> np.ndarray:
        """Returns the decoded codes of `x`, missing values filled in.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.
            **kwargs: As for `encode`.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].
        """
        return self.decode(self.encode(x, batch_size, **kwargs), batch_size)

    @property
    def draws_by_itself(self):
        return True

    def remember(self, data):
        """Nothing: the codes of all samples are at hand."""

    def _default_sampler(self):
        if not self.has_prior:
            self._require_fitted("sample")
        return super()._default_sampler()

    def _known_codes(self):
        if not self.table.count:
            return None
        rows = self.table.sample_ids
        rng = np.random.default_rng(0)
        some = rng.choice(rows, min(len(rows), sampling.EXAMPLES), replace=False)
        return self._drawn_codes(some, rng)

    def _drawn_codes(self, sample_ids, rng):
        """Codes of some samples as the decoder is given them, `(n, latent_dim)`."""
        return self.codes(sample_ids)

    def sampler(self, name: str):
        """Returns a sampler, fitted now to the codes of all samples if it was not yet.

        Raises:
            ValueError: If the model was not fitted, or the sampler is unknown.
        """
        if name in self.SAMPLERS and name not in self.fitted_samplers:
            self.fit_sampler(name)
        return super().sampler(name)

    def _codes_to_fit(self, x, seed):
        self._require_fitted("sample")
        return self.codes() if x is None else self.encode(x)

    def _encode(self, x):
        x, observed = observed_values(self.to_floats(x))
        return self.mean_codes(self._search(x, observed, self.search_steps).z)

    def _infer(
        self,
        x,
        batch_size,
        steps=None,
        restarts=1,
        candidates=1000,
        learning_rate=0.2,
    ):
        """Rows, errors and slopes beside each other, `(n, row_width + 2)`."""
        steps = inputs.check_count(
            "steps", self.search_steps if steps is None else steps
        )
        inputs.check_count("restarts", restarts)
        inputs.check_count("candidates", candidates, minimum=restarts)
        if restarts > max(self.table.count, 1):
            raise ValueError(
                f"`restarts` must be at most the number of training samples, "
                f"{self.table.count}. Received: restarts={restarts}"
            )
        if not isinstance(learning_rate, numbers.Real) or not learning_rate > 0:
            raise ValueError(
                f"`learning_rate` must be > 0. Received: learning_rate={learning_rate}"
            )
        settings = {
            "steps": steps,
            "restarts": restarts,
            "candidates": candidates,
            "learning_rate": learning_rate,
        }
        function = functools.partial(self._search_and_measure, **settings)
        return self._in_batches(f"infer {settings}", function, x, batch_size)

    def _search_and_measure(self, x, **settings):
        x, observed = observed_values(self.to_floats(x))
        found = self._search(x, observed, **settings)
        parameters = self.decoder(self.mean_codes(found.z), training=False)
        error = self.likelihood.mean_squared_error(x, parameters, observed)
        return ops.concatenate([found.z, error[:, None], found.slope[:, None]], axis=1)

    def _search(
        self, x, observed, steps, restarts=1, candidates=256, learning_rate=0.2
    ):
        """Finds the rows of a batch."""

        def objective(x, rows, observed, step):
            # NaN again, which is how `terms` is told.
            x = ops.where(observed, x, float("nan"))
            outputs = self.decoded(self.constrain(rows), False, step)
            return sum(self.terms(x, outputs).values())

        starts, spread = self._starts(candidates)
        found = latent_search.search(
            x,
            lambda rows: self._decode(self.mean_codes(rows)),
            autodiff.pure(self, objective),
            starts,
            restarts,
            steps,
            learning_rate * spread,
            observed,
            self.search_turns,
        )
        return found._replace(z=self.constrain(found.z))

    def _starts(self, candidates):
        """Rows to start a search from, and the standard deviation of the codes."""
        count = self.table.count
        if not count:
            return ops.zeros((1, self.row_width)), 1.0
        chosen = np.linspace(0, count - 1, min(candidates, count)).astype("int32")
        rows = self.table.take(ops.convert_to_tensor(chosen))
        z = self.mean_codes(rows)
        spread = ops.sqrt(ops.mean(ops.square(z - ops.mean(z, axis=0))))
        return rows, ops.maximum(spread, 1e-3)


def with_missing(x, mask):
    """Returns examples with NaN where a mask is False; x itself without a mask.

    Raises:
        ValueError: If the mask is not of the shape of an array x, or not boolean.
    """
    if mask is None:
        return x
    if not hasattr(x, "shape"):
        raise ValueError(
            "`mask` needs `x` to be an array. Received: a "
            f"{type(x).__name__}; put NaN into its batches where a value is missing."
        )
    mask = np.asarray(mask)
    if mask.shape != tuple(x.shape) or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"`mask` must be booleans of the shape of `x`, {tuple(x.shape)}, True "
            f"where a value was observed. Received: shape {mask.shape}, dtype "
            f"{mask.dtype}"
        )
    floats = ops.convert_to_numpy(inputs.to_floats(ops.convert_to_tensor(x)))
    return np.where(mask.astype(bool), floats, np.float32("nan"))


def observed_values(x):
    """Examples with 0 for what is missing (NaN), and booleans of what was observed."""
    observed = ops.logical_not(ops.isnan(x))
    return ops.where(observed, x, 0.0), observed


def _in_order(data):
    """What a data set serves, in the order in which `fit` would number it."""
    return data.images if isinstance(data, Batches) else data


def _numbered(batches, rows):
    """The same batches in the same order, with the rows of their samples beside."""
    numbered = copy.copy(batches)
    numbered.targets = rows
    return numbered


def _refuse_distribution(model):
    replicas = autodiff.replicas(model)
    if replicas > 1:
        raise ValueError(
            f"{type(model).__name__} trains on one device: a sample's code is on one. "
            f"Received: a strategy of tf.distribute with {replicas} replicas"
        )
