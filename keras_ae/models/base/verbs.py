"""What people do with a trained model: encode, decode, reconstruct, interpolate."""

import numbers
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_ae import arrays, backend, checks, progress
from keras_ae.probability.distributions import Seed
from keras_ae.training import inputs
from keras_ae.training.arguments import settings_of


class Verbs:
    """The verbs that every autoencoder has, on arrays and data sets, in batches.

    A model implements `encode_batch`, `decode_batch` and `reconstruct_batch`, functions
    of a batch in `keras.ops`; `in_batches` compiles them and applies them to data.
    """

    # Whether means are kept in [0, 1] where all of the training data were.
    keeps_range: bool = True

    _in_unit_range: bool | None = None

    @property
    def in_unit_range(self) -> bool | None:
        """Whether what it was trained on lies in [0, 1]; None before it was trained."""
        return self._in_unit_range

    @in_unit_range.setter
    def in_unit_range(self, value: bool) -> None:
        if value != self._in_unit_range:
            self._in_unit_range = bool(value)
            # They would go on as they were compiled.
            self._compiled_functions.clear()
            self.predict_function = None

    def _state(self):
        """What is saved beside configuration and variables."""
        return {**super()._state(), "in_unit_range": self._in_unit_range}

    def _restore(self, state):
        super()._restore(state)
        if state.get("in_unit_range") is not None:
            self.in_unit_range = state["in_unit_range"]

    @property
    def code_dim(self) -> int:
        """Numbers that the decoder takes: `latent_dim`, and what a model adds to it."""
        return self.latent_dim

    def encode(self, x, batch_size: int = 256) -> np.ndarray:
        """Returns the codes of `x`.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes. In a graph,
                as of `tf.data.Dataset.map(model.encode)` or `jax.jit`, a tensor.
            batch_size: Examples at a time, for arrays.

        Returns:
            Array `(n, code_dim)`; in a graph a tensor.
        """
        x = self.check_data(x, "x", restored=False)
        return self.in_batches("encode", self.encode_batch, x, batch_size)

    def decode(self, z, batch_size: int = 256) -> np.ndarray:
        """Returns the likelihood's mean for codes `z`.

        Args:
            z: Array `(n, code_dim)`.
            batch_size: Codes at a time.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].
        """
        z = self._checked_codes(z, "decode")
        return self.in_batches("decode", self.decode_batch, z, batch_size)

    def _checked_codes(self, z, verb):
        self.require_built(verb)
        if not backend.is_traced(z):
            z = arrays.as_array("z", z).astype("float32")
        if len(z.shape) != 2 or z.shape[1] != self.code_dim or z.shape[0] == 0:
            raise ValueError(
                f"`z` must have the shape (n, {self.code_dim}), of one code or more. "
                f"Received: {z.shape}"
            )
        return z

    def decode_parameters(self, z, batch_size: int = 256) -> np.ndarray:
        """Returns the parameters of p(x | z) for codes `z`, the decoder's output.

        Args:
            z: Array `(n, code_dim)`.
            batch_size: Codes at a time.

        Returns:
            Array `(n, *image_shape)`; `(n, *image_shape, 2)` where the likelihood
            predicts a scale for each value.
        """
        z = self._checked_codes(z, "decode_parameters")
        function = self.parameters_batch
        return self.in_batches("decode_parameters", function, z, batch_size)

    def decode_scale(self, z, batch_size: int = 256) -> np.ndarray:
        """Returns the scale of p(x | z) for codes `z`, a Gaussian's σ: how sure it is.

        Args:
            z: Array `(n, code_dim)`.
            batch_size: Codes at a time.

        Returns:
            Array `(n, *image_shape)`, > 0, in the units of x.

        Raises:
            ValueError: If the likelihood has no scale.
        """
        if not hasattr(self.likelihood, "scale_of"):
            raise ValueError(
                "`likelihood` must have a scale, as `Gaussian`, `Laplace` and "
                f"`StudentT` have. Received: a {type(self.likelihood).__name__}"
            )
        parameters = self.decode_parameters(z, batch_size)
        scale = ops.convert_to_numpy(self.likelihood.scale_of(parameters))
        shape = (len(parameters), *self.built_image_shape)
        return np.array(np.broadcast_to(scale, shape))

    def sample_likelihood(
        self, z, seed: Seed = None, batch_size: int = 256
    ) -> np.ndarray:
        """Draws x from p(x | z) for codes `z`, where `decode` gives its mean.

        Args:
            z: Array `(n, code_dim)`.
            seed: Integer; the same seed gives the same x.
            batch_size: Codes at a time.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].
        """
        parameters = self.decode_parameters(z, batch_size)
        seeds = seed_generator(seed)
        drawn = []
        for i in range(0, len(parameters), batch_size):
            part = ops.convert_to_tensor(parameters[i : i + batch_size])
            drawn.append(self._in_range(self.likelihood.sample(part, seeds)))
        return np.concatenate([ops.convert_to_numpy(part) for part in drawn])

    def reconstruct(self, x, batch_size: int = 256) -> np.ndarray:
        """Returns the decoded codes of `x`.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].
        """
        x = self.check_data(x, "x", restored=False)
        return self.in_batches("reconstruct", self.reconstruct_batch, x, batch_size)

    def interpolate(
        self, a, b, steps: int = 9, spherical: bool = False, batch_size: int = 256
    ) -> np.ndarray:
        """Returns pictures on the way from `a` to `b`, through the codes between.

        Args:
            a: One example of shape `image_shape`, or several `(n, *image_shape)`.
            b: As `a`.
            steps: Pictures in a row, the reconstructions of `a` and `b` included.
            spherical: Whether to follow the great circle between the codes instead of
                the straight line; samples of a Gaussian prior lie near a sphere.
            batch_size: Codes decoded at a time.

        Returns:
            Array `(steps, *image_shape)` for one example, `(n, steps, *image_shape)`
            for several.

        Reference:
            White, Sampling Generative Networks, 2016 (https://arxiv.org/abs/1609.04468).
        """
        self.require_built("interpolate")
        checks.check_count("steps", steps, minimum=2)
        spherical = checks.check_flag("spherical", spherical)
        a, b = self.as_array("a", a), self.as_array("b", b)
        if a.shape != b.shape:
            raise ValueError(
                "`a` and `b` must have the same shape. "
                f"Received: {a.shape} and {b.shape}"
            )
        single = a.ndim == len(self.built_image_shape)
        if single:
            a, b = a[None], b[None]
        z_a, z_b = (self.encode(x)[:, None] for x in (a, b))  # (n, 1, latent_dim)
        t = np.linspace(0, 1, steps, dtype="float32")[:, None]  # (steps, 1)
        z = _slerp(z_a, z_b, t) if spherical else (1 - t) * z_a + t * z_b
        x = self.decode(z.reshape(-1, self.code_dim), batch_size)
        x = x.reshape(len(a), steps, *self.built_image_shape)
        return x[0] if single else x

    def traverse(
        self,
        x,
        dims: Sequence[int] | None = None,
        steps: int = 9,
        span: float = 3.0,
        batch_size: int = 256,
    ) -> np.ndarray:
        """Returns what changing one latent dimension at a time does to a picture.

        Args:
            x: One example of shape `image_shape`.
            dims: Latent dimensions to change. Defaults to all.
            steps: Values that each dimension takes.
            span: They run from `-span` to `span`.
            batch_size: Codes decoded at a time.

        Returns:
            Array `(len(dims), steps, *image_shape)`.
        """
        self.require_built("traverse")
        checks.check_count("steps", steps)
        if not isinstance(span, numbers.Real) or not np.isfinite(span):
            raise ValueError(f"`span` must be a finite number. Received: span={span!r}")
        dims = range(self.prior_dim) if dims is None else dims
        known = set(range(self.prior_dim))
        if not np.size(dims) or np.ndim(dims) != 1 or not {*dims} <= known:
            raise ValueError(
                f"`dims` must be dimensions from 0 to {self.prior_dim - 1}, in a list. "
                f"Received: dims={dims if np.ndim(dims) == 0 else list(dims)}"
            )
        x = arrays.as_array("x", x)
        z = np.tile(self.encode(x[None]), (len(dims), steps, 1))
        for row, dim in enumerate(dims):
            z[row, :, int(dim)] = np.linspace(-span, span, steps)
        x = self.decode(z.reshape(-1, self.code_dim), batch_size)
        return x.reshape(len(dims), steps, *self.built_image_shape)

    def attribute_vector(self, x, has_attribute, batch_size: int = 256) -> np.ndarray:
        """Returns the way from codes without an attribute to codes with it.

        Attributes that come together in the data come together in the vector, too: give
        pictures in which others are as common with this one as without it.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            has_attribute: Booleans, or 0 and 1, `(n,)`: which of `x` have the
                attribute.
            batch_size: Examples at a time, for arrays.

        Returns:
            Array `(code_dim,)`: the mean code of those that have the attribute less
            the mean code of those that do not.

        Raises:
            ValueError: If `has_attribute` is not one 0 or 1 an example, or all are
                alike.

        Example:

        ```python
        faces, labels = keras_ae.datasets.load("celeba", labels=True)
        smile = model.attribute_vector(faces, labels["Smiling"])
        smiling = model.add_attribute(faces[:8], smile)
        ```

        Reference:
            Larsen et al., Autoencoding beyond Pixels Using a Learned Similarity Metric,
            2016 (https://arxiv.org/abs/1512.09300).
        """
        values = np.asarray(has_attribute)
        numbers = values.dtype.kind in "biuf"
        if values.ndim != 1 or not numbers or not np.isin(values, (0, 1)).all():
            raise ValueError(
                "`has_attribute` must be booleans, or 0 and 1, one an example. "
                f"Received: an array of dtype {values.dtype} and shape {values.shape}"
                + (f", with {np.unique(values)[:3]}" if values.size else "")
            )
        values = values.astype(bool)
        if values.all() or not values.any():
            raise ValueError(
                "`has_attribute` must hold for some examples and not for others. "
                f"Received: {values.sum()} of {len(values)} have the attribute"
            )
        codes = self.encode(x, batch_size).astype("float64")  # (n, latent_dim)
        if len(codes) != len(values):
            raise ValueError(
                "`has_attribute` must have one value an example. Received: "
                f"{len(values)} for {len(codes)} examples"
            )
        vector = codes[values].mean(axis=0) - codes[~values].mean(axis=0)
        return vector.astype("float32")

    def add_attribute(
        self,
        x,
        vector: np.ndarray,
        strength: float | Sequence[float] = 1.0,
        batch_size: int = 256,
    ) -> np.ndarray:
        """Returns the decoded codes of `x` after a step along an attribute vector.

        Args:
            x: One example of shape `image_shape`, or several `(n, *image_shape)`.
            vector: What `attribute_vector` returned, or a sum of such vectors.
            strength: Length of the step, in vectors; below 0 it takes the attribute
                away, and 0 gives the reconstruction. Several lengths give a row each.
            batch_size: Codes decoded at a time.

        Returns:
            Array `(n, *image_shape)` for one strength, `(n, strengths, *image_shape)`
            for several; without the first axis for one example.

        Raises:
            ValueError: If one of them is not finite, or the vector no code's length.
        """
        self.require_built("add_attribute")
        vector = checks.check_numbers("vector", vector).astype("float32")
        if vector.shape != (self.code_dim,) or not np.isfinite(vector).all():
            raise ValueError(
                f"`vector` must be {self.code_dim} finite numbers, as "
                f"`attribute_vector` gives. Received: an array of shape {vector.shape}"
            )
        strengths = checks.check_numbers("strength", strength).astype("float32")
        if strengths.ndim > 1 or not strengths.size or not np.isfinite(strengths).all():
            raise ValueError(
                "`strength` must be a finite number, or several. Received: "
                f"strength={strength!r}"
            )
        x = self.as_array("x", x)
        single = x.ndim == len(self.built_image_shape)
        z = self.encode(x[None] if single else x)[:, None]  # (n, 1, latent_dim)
        z = z + strengths.reshape(-1, 1) * vector  # (n, strengths, latent_dim)
        decoded = self.decode(z.reshape(-1, self.code_dim), batch_size)
        shape = (len(z), *strengths.shape, *self.built_image_shape)
        decoded = decoded.reshape(shape)
        return decoded[0] if single else decoded

    def encode_batch(self, x):
        """Returns the codes `(batch, latent_dim)` of a batch; for `encode`."""
        return self.encoder(self.to_floats(x), training=False)

    def decode_batch(self, z):
        """Returns the likelihood's mean for a batch of codes; for `decode`."""
        return self._in_range(self.likelihood.mean(self.parameters_batch(z)))

    def parameters_batch(self, z):
        """Returns the decoder's output for a batch of codes."""
        return self.decoder(z, training=False)

    def _in_range(self, x):
        """What is decoded, in [0, 1] where the data were; linear stays linear.

        The likelihood itself may well be one of all numbers: a Gaussian of a bounded
        mean learns black and white more slowly.
        """
        bounded = self.in_unit_range and self.keeps_range
        bounded = bounded and self.architecture != "linear"
        return ops.clip(x, 0.0, 1.0) if bounded else x

    def reconstruct_batch(self, x):
        """Returns the reconstructions of a batch; for `reconstruct` and `predict`."""
        return self.decode_batch(self.encode_batch(x))

    def in_batches(self, name, function, data, batch_size, labelled=False):
        """Applies a compiled function to all of `data`, in batches.

        Args:
            name: What it is called in the line of progress, and compiled under: another
                function has another name.
            function: Function of one tensor, of two where `labelled`, or of as many as
                the tuple `data` has arrays.
            data: An array, a tuple of arrays, or a data set of batches.
            batch_size: Examples at a time.
            labelled: Whether the function takes the labels of a data set too.

        Returns:
            Array `(n, ...)`.
        """
        checks.check_count("batch_size", batch_size)
        if backend.is_traced(data):
            return function(data)
        function = self.compiled_function(name, function)
        is_array = hasattr(data, "shape") or isinstance(data, tuple)
        outputs, done = [], 0
        with progress.shown(name, inputs.count(data)) as advance:
            for batch in inputs.batches(data, batch_size, labelled):
                parts = batch if isinstance(batch, tuple) else (batch,)
                size = parts[0].shape[0]
                if size < batch_size and is_array:
                    # A last, shorter batch would be compiled a second time, and on JAX
                    # every number of examples by itself.
                    fixed = batch_size if outputs else backend.common_size(size)
                    fixed = min(fixed, batch_size)
                    parts = [padded(part, fixed) for part in parts]
                output = function(*map(ops.convert_to_tensor, parts))
                outputs.append(ops.convert_to_numpy(output)[:size])
                done += size
                advance(done)
        return np.concatenate(outputs)

    def compiled_function(self, name, function):
        """Returns a function of tensors compiled, once under each name."""
        key = f"{name}, {settings_of(self)}"
        if key not in self._compiled_functions:
            self._compiled_functions[key] = backend.compiled(function, self.variables)
        return self._compiled_functions[key]

    def require_built(self, verb):
        """Raises `ValueError` for a model that has no variables yet."""
        if not self.built:
            raise ValueError(
                f"{type(self).__name__} must know its `image_shape` before `{verb}`: "
                "pass it to the constructor or call `fit` first."
            )


def seed_generator(seed: Seed) -> keras.random.SeedGenerator:
    """A generator of seeds, a random one for None, one that is given as it is."""
    if isinstance(seed, keras.random.SeedGenerator):
        return seed
    return keras.random.SeedGenerator(None if seed is None else checks.check_seed(seed))


def padded(batch, size):
    """A batch with rows of zeros behind its own."""
    padding = [(0, size - batch.shape[0])] + [(0, 0)] * (batch.ndim - 1)
    return np.pad(batch, padding)


def _slerp(a, b, t):
    """Spherical interpolation of codes `(..., latent_dim)` at `t` in [0, 1]."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.sum(a * b, axis=-1) / np.maximum(norms, 1e-12)
    angle = np.arccos(np.clip(cosine, -1, 1))[..., None]
    # Parallel codes have no plane to turn in; the straight line is the limit.
    straight = np.sin(angle) < 1e-4
    sine = np.where(straight, 1.0, np.sin(angle))
    weight_a = np.where(straight, 1 - t, np.sin((1 - t) * angle) / sine)
    weight_b = np.where(straight, t, np.sin(t * angle) / sine)
    return (weight_a * a + weight_b * b).astype("float32")
