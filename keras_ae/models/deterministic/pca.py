"""Principal component analysis: the linear yardstick of autoencoders."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
from keras import ops

from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.probability.likelihoods import Gaussian
from keras_ae.training import arguments, inputs

# Up to so many values an example, a matrix of their covariances is soon decomposed.
_EXACT = 2048
# Enough rows to keep a matrix product busy, few enough to stay within memory.
_CHUNK = 1024


class PCA(Autoencoder):
    """Principal component analysis: the linear autoencoder of least squared error.

        z = W (x - m),  x' = m + Wᵀ z

    m is the mean of the examples, and the rows of W are the orthonormal directions in
    which they vary most. `fit` computes them instead of descending a gradient: exactly,
    from the covariance matrix, for examples of up to 2,048 values, and by subspace
    iteration for larger ones. The data are read batch by batch, more than once, and
    need not fit in memory. Labels and weights beside them count for nothing.

    The codes are centred and uncorrelated, in the order of decreasing variance. The
    value of largest magnitude in each component is positive. All is computed in float32
    whatever the dtype policy, the covariances in float64.

    The encoder and the decoder are those of `AE(architecture="linear")`, which descends
    towards the same subspace. The likelihood is a Gaussian of scale 1.

    Args:
        latent_dim: Number of components, less than there are examples and at most the
            values of one example.
        image_shape: Shape of one example. Defaults to the shape of the first batch.
        **kwargs: `name` and `trainable`, as for any Keras model.

    Attributes:
        mean: Mean of the examples, `image_shape`.
        components: The rows of W, `(latent_dim, *image_shape)`.
        explained_variance_ratio: Fraction of the examples' variance that each component
            accounts for, `(latent_dim,)`.

    Example:

    ```python
    model = keras_ae.PCA(latent_dim=30)
    model.fit(x_train)
    codes = model.encode(x_test)  # (n, 30)
    error = keras_ae.metrics.mse(x_test, model.reconstruct(x_test))
    ```

    Reference:
        Pearson, On Lines and Planes of Closest Fit to Systems of Points in Space, 1901
        (https://doi.org/10.1080/14786440109462720); Halko, Martinsson and Tropp,
        Finding Structure with Randomness, 2011 (https://doi.org/10.1137/090771806).
    """

    # A projection, as other software has it.
    keeps_range = False
    settled_arguments: tuple[str, ...] = (
        "architecture",
        "widths",
        "activation",
        "likelihood",
        "encoder",
        "decoder",
    )

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        image_shape: Sequence[int] | None = None,
        **kwargs,
    ):
        self.refuse_settled(
            kwargs, "PCA is linear, with a Gaussian likelihood, unlike `AE`"
        )
        super().__init__(
            latent_dim,
            image_shape,
            architecture="linear",
            likelihood=Gaussian(scale=1.0),
            **{**kwargs, "dtype": "float32"},
        )

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        # Gradients have nothing to do here.
        self.encoder.trainable = False
        self.decoder.trainable = False
        self._explained = self.add_weight(
            name="explained_variance_ratio",
            shape=(self.latent_dim,),
            trainable=False,
        )
        # What was never fitted must not look as if it had been.
        values = math.prod(image_shape)
        nothing = np.full((self.latent_dim, values), np.nan)
        self._assign(nothing[0, :1].repeat(values), nothing, nothing[:, 0])

    def call(self, x, training=False):
        z = self.encoder(self.to_floats(x))  # (batch, latent_dim)
        return {"z": z, "parameters": self.decoder(z)}

    def terms(self, x, outputs, training=False):
        return {"reconstruction": -self.likelihood.log_prob(x, outputs["parameters"])}

    @property
    def mean(self) -> np.ndarray:
        self._require_fitted("mean")
        return self.decoder.get_weights()[1].reshape(self.built_image_shape)

    @property
    def components(self) -> np.ndarray:
        self._require_fitted("components")
        return self.decoder.get_weights()[0].reshape(-1, *self.built_image_shape)

    @property
    def explained_variance_ratio(self) -> np.ndarray:
        self._require_fitted("explained_variance_ratio")
        return np.array(ops.convert_to_numpy(self._explained))

    # Fitting

    def fit(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose="auto",
        callbacks=None,
        validation_split: float = 0.0,
        validation_data=None,
        **kwargs,
    ):
        """Finds the principal components, then measures them in one epoch of Keras.

        Args:
            x: An array or tensor `(n, *image_shape)`, or a data set of batches that can
                be read again: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch
                `DataLoader` or a grain loader. Integers are read as 0-255.
            y: Ignored.
            epochs: Ignored: more epochs than one find nothing new.
            callbacks: Called as in an epoch of `keras.Model.fit`. The components are
                found when it begins, after each callback's `on_epoch_begin`.
            batch_size, verbose, validation_split, validation_data, **kwargs: As in
                `keras.Model.fit`, to measure the loss on.

        Returns:
            Keras' `History` with one row: the loss, its terms and monitors.

        Raises:
            ValueError: If `x` can be read only once or is not what the model can
                describe, there are too few examples for `latent_dim`, or `x` is to
                be weighted or read in part.
        """
        for name in ("sample_weight", "class_weight", "steps_per_epoch"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"`{name}` must be None: PCA reads all of `x`, each example with "
                    f"the same weight. Received: {name}={kwargs[name]!r}"
                )
        inputs.check_readable_again("PCA", x)
        x = self.check_data(x, "x", learns=True)
        if validation_split and validation_data is None:
            arguments.check_split(validation_split, x)
            cut = math.floor(x.shape[0] * (1 - validation_split))
            x, validation_data = x[:cut], x[cut:]

        finding = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self._find_components(x)
        )
        return super().fit(
            x,
            batch_size=batch_size,
            epochs=kwargs.get("initial_epoch", 0) + 1,
            verbose=verbose,
            callbacks=[*keras.tree.flatten(callbacks or []), finding],
            validation_data=validation_data,
            **{**kwargs, "shuffle": False},
        )

    def _train_on(self, data):
        # The components are found already: an epoch only measures them.
        return self._test_on(data)

    def train_on_batch(self, x, *args, **kwargs):
        """Refused: components are those of all examples; call `fit`."""
        raise ValueError(
            "PCA can't be trained on one batch after another: call `fit` with all "
            "examples, in an array or a data set of batches."
        )

    def _find_components(self, data):
        values = math.prod(self.built_image_shape)
        is_exact = values <= _EXACT
        count, mean, scatter = _moments(self._rows(data), full=is_exact)
        most = min(count - 1, values)
        if self.latent_dim > most:
            limit = "values in an example" if most == values else "examples less 1"
            raise ValueError(
                f"`latent_dim` must be at most {most}, the number of {limit}. "
                f"Received: latent_dim={self.latent_dim} and {count:,} "
                f"example{'' if count == 1 else 's'} of {values:,} values"
            )
        total = np.trace(scatter) if is_exact else scatter.sum()
        if not np.isfinite(total):
            raise ValueError(
                "The data must be finite. Received: values that are NaN or infinite; "
                "remove or replace them."
            )
        if is_exact:
            variances, axes = np.linalg.eigh(scatter)
            variances, axes = variances[-self.latent_dim :], axes[:, -self.latent_dim :]
        else:
            variances, axes = _subspace_iteration(
                lambda: self._rows(data), mean.astype("float32"), self.latent_dim
            )
        variances, components = variances[::-1], axes.T[::-1]  # (latent_dim, values)
        largest = np.abs(components).argmax(axis=1)[:, None]
        components = components * np.sign(
            np.take_along_axis(components, largest, axis=1)
        )
        # Of equal examples nothing varies, and nothing is explained.
        ratios = np.maximum(variances, 0) / (total or 1.0)
        self._assign(mean, components, ratios)

    def _rows(self, data) -> Iterator[np.ndarray]:
        """Yields the examples as rows `(about 1024, values)`, in float32."""
        gathered, count = [], 0
        for batch in inputs.batches(data, _CHUNK):
            rows = ops.convert_to_numpy(self.to_floats(batch))
            if rows.shape[1:] != self.built_image_shape:
                raise ValueError(
                    f"`x` must hold examples of shape {self.built_image_shape}. "
                    f"Received a batch of shape {rows.shape}"
                )
            gathered.append(rows.reshape(len(rows), -1))
            count += len(rows)
            if count >= _CHUNK:
                yield np.concatenate(gathered)
                gathered, count = [], 0
        if gathered:
            yield np.concatenate(gathered)

    def _assign(self, mean, components, ratios):
        self.encoder.set_weights([components.T, -components @ mean])
        self.decoder.set_weights([components, mean])
        self._explained.assign(ratios)

    # Nothing is measured or shown before `fit`

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Returns the loss, its terms and monitors; see `keras.Model.evaluate`."""
        self._require_fitted("evaluate")
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Returns the reconstructions; see `keras.Model.predict`."""
        self._require_fitted("predict")
        return super().predict(x, *args, **kwargs)

    def in_batches(self, name, *args, **kwargs):
        self._require_fitted(name)
        return super().in_batches(name, *args, **kwargs)

    def require_built(self, verb):
        self._require_fitted(verb)

    def _require_fitted(self, verb):
        if not self.built or np.isnan(ops.convert_to_numpy(self._explained)).any():
            raise ValueError(f"PCA must be fitted before `{verb}`: call `fit` first.")


def _moments(chunks: Iterable[np.ndarray], full: bool):
    """Number of rows, their mean, and their scatter about it, in one pass in float64.

    The scatter matrix `(values, values)` if `full`, else its diagonal `(values,)`.
    """
    count = 0
    for chunk in chunks:
        chunk = chunk.astype("float64")
        if not count:
            # About a point amid the data, a large mean costs no digits.
            origin = chunk.mean(axis=0)
            shift, scatter = np.zeros(len(origin)), 0.0
        chunk -= origin
        count += len(chunk)
        shift += chunk.sum(axis=0)
        scatter += chunk.T @ chunk if full else np.square(chunk).sum(axis=0)
    shift /= count
    scatter -= count * (np.outer(shift, shift) if full else np.square(shift))
    return count, origin + shift, scatter


def _subspace_iteration(
    read: Callable[[], Iterable[np.ndarray]], mean: np.ndarray, number: int
):
    """Leading eigenvalues and eigenvectors of the scatter matrix, in rising order.

    Args:
        read: Function of nothing that yields the rows anew, in chunks.
        mean: Their mean `(values,)`, in float32.
        number: How many to find.

    Returns:
        Eigenvalues `(number,)` and eigenvectors `(values, number)`.
    """
    # Twice as many directions as are asked for: the further the last of them is from
    # the last one wanted, the faster the wanted ones settle.
    width = min(2 * number + 10, mean.size)
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(mean.size, width)))[0]
    captured = 0.0
    for _ in range(100):
        basis = basis.astype("float32")
        image = np.zeros(basis.shape)  # scatter matrix @ basis
        for rows in read():
            rows = rows - mean
            image += rows.T @ (rows @ basis)
        values, turn = np.linalg.eigh(basis.T @ image)
        before, captured = captured, values[-number:].sum()
        if captured - before <= 1e-6 * captured:
            break
        basis = np.linalg.qr(image)[0]
    return values[-number:], basis @ turn[:, -number:]
