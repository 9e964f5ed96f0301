"""Conditional variational autoencoders: the class is told, the code holds the style."""

from typing import Any

import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.models.base.labels import TakesLabels
from keras_ae.models.variational.vae import VAE
from keras_ae.nn import networks
from keras_ae.probability import distributions
from keras_ae.training import inputs

# Codes drawn to compare the ELBOs of an example under the classes.
CLASS_SAMPLES = 4


class ConditionalVAE(TakesLabels, VAE):
    """Conditional VAE: encoder and decoder are told the class y of x.

        ELBO(x | y) = E_q(z|x,y) [log p(x | z, y)] - KL(q(z | x, y) || p(z))
        loss(x, y) = reconstruction + kl
                   = -log p(x | z, y) + β KL(q(z | x, y) || p(z)),  z ~ q(z | x, y)

    z, of the same prior in every class, holds what the class does not tell: the style.
    The encoder is given y one-hot, as further channels of pictures that are constant
    over a picture, or as further features of vectors; the decoder is given the code
    [z, y] of `latent_dim + num_classes` numbers. `elbo` and `mse` are logged as by
    `VAE`, given the labels.

    `fit` and `evaluate` need a label for every example. `encode`, `reconstruct` and
    what builds on them take labels, as an argument or in the batches (x, y) of a data
    set, and do without: then an example's class is that under which its ELBO is
    highest, the likeliest of `classify`. `log_likelihood` without labels is that of
    all classes together.

    Args:
        latent_dim: Numbers in z.
        num_classes: Number of classes, >= 2.
        encoder: Your own Keras model from x and y, `(height, width, channels +
            num_classes)` or `(features + num_classes,)`, to a dict of `"mean"` and
            `"log_var"`, each `(batch, latent_dim)`.
        decoder: Your own Keras model from codes `(batch, latent_dim + num_classes)` to
            the likelihood's parameters.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.ConditionalVAE(latent_dim=16, num_classes=10)
    model.fit(x_train, y_train, validation_data=(x_test, y_test), epochs=10)
    sevens = model.sample(8, seed=0, labels=7)  # (8, height, width, channels)
    # The first picture's style in each of the classes.
    z = model.encode(x_test[:1], labels=y_test[:1])[:, :16]
    codes = np.concatenate([np.repeat(z, 10, axis=0), np.eye(10)], axis=1)
    analogies = model.decode(codes)  # (10, height, width, channels)
    ```

    Reference:
        Sohn et al., Learning Structured Output Representation using Deep Conditional
        Generative Models, 2015
        (https://papers.nips.cc/paper/5775-learning-structured-output-representation-using-deep-conditional-generative-models);
        Kingma et al., Semi-Supervised Learning with Deep Generative Models, 2014
        (https://arxiv.org/abs/1406.5298), for p(x | y, z).
    """

    needs_labels = True
    learns_prior = False

    def __init__(self, latent_dim: int = 32, *, num_classes: int, **kwargs):
        super().__init__(latent_dim, **kwargs)
        self.num_classes = checks.check_count("num_classes", num_classes, minimum=2)

    def encoder_options(self, image_shape):
        shape = networks.with_channels(image_shape, self.architecture)
        return {
            **super().encoder_options(image_shape),
            "image_shape": (*shape[:-1], shape[-1] + self.num_classes),
            "latent_dim": self.latent_dim,
            "planes": self.num_classes,
        }

    def posterior(self, x, training=False, labels=None) -> distributions.Normal:
        """Returns q(z | x, y): a `Normal`, `(batch, latent_dim)`."""
        x = self.to_floats(x)
        y = self._one_hot(self._labels(x, labels))  # (batch, num_classes)
        if len(self.built_image_shape) > 1:
            shape = networks.with_channels(self.built_image_shape, self.architecture)
            x = ops.reshape(x, (-1, *shape))
            y = ops.reshape(y, (-1, *[1] * (len(shape) - 1), self.num_classes))
            y = ops.broadcast_to(y, (*ops.shape(x)[:-1], self.num_classes))
        return super().posterior(ops.concatenate([x, y], axis=-1), training)

    def call(self, x, training=False, labels=None):
        labels = self._labels(x, labels)
        outputs = super().call(x, training, labels=labels)
        return {**outputs, "labels": labels}

    def _code(self, z, labels):
        """Returns [z, y] for z `(..., batch, latent_dim)`."""
        y = self._one_hot(labels)  # (batch, num_classes)
        y = ops.broadcast_to(y, (*ops.shape(z)[:-1], self.num_classes))
        return ops.concatenate([z, y], axis=-1)

    def _one_hot(self, labels):
        return ops.cast(labels[:, None] == ops.arange(self.num_classes), "float32")

    def terms(self, x, outputs, training=False):
        terms = super().terms(x, outputs, training)
        for name in ("reconstruction", "elbo"):
            terms[name] = self._nan_unless_valid(outputs["labels"], terms[name])
        return terms

    # Classes of examples without labels

    def _labels(self, x, labels):
        """Returns labels `(batch,)`, or the classes under which ELBOs are highest."""
        if labels is None:
            return ops.cast(ops.argmax(self._elbos(x), axis=-1), "int32")
        return ops.cast(ops.reshape(labels, (-1,)), "int32")

    def _elbos(self, x):
        """Estimates of the ELBOs of x under all classes, `(batch, num_classes)`."""
        # The same noise for every class and on every backend.
        random = np.random.default_rng(0)
        noise = random.standard_normal((CLASS_SAMPLES, 1, self.latent_dim), "float32")
        by_class = self._log_weights_by_class(ops.convert_to_tensor(noise), x)
        return ops.transpose(ops.mean(by_class, axis=1))

    def _log_weights_by_class(self, noise, x):
        """log p(x, z | y) - log q(z | x, y), `(num_classes, samples, batch)`."""

        def under(label):
            labels = ops.broadcast_to(label, (ops.shape(x)[0],))
            return super(ConditionalVAE, self)._log_weights(noise, x, labels=labels)

        return ops.map(under, ops.arange(self.num_classes, dtype="int32"))

    def _log_weights(self, noise, x, labels=None):
        if labels is not None:
            return super()._log_weights(noise, x, labels=self._labels(x, labels))
        by_class = self._log_weights_by_class(noise, x)
        return ops.logsumexp(by_class, axis=0) - np.log(self.num_classes)

    def _class_probabilities(self, x):
        return ops.softmax(self._elbos(x), axis=-1)

    # Verbs

    def classify(self, x, batch_size: int = 256) -> np.ndarray:
        """Returns the probabilities of the classes, by Bayes' rule from the ELBOs.

            p(y | x) ∝ exp(ELBO(x | y))

        for classes that are equally common. Each ELBO is estimated from a few codes,
        the same ones every time.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes; labels in it
                are not looked at.
            batch_size: Examples at a time, for arrays.

        Returns:
            Array `(n, num_classes)`, in [0, 1]; rows sum to 1.
        """
        x = self.check_data(x, "x", restored=False)
        return self.in_batches("classify", self._class_probabilities, x, batch_size)

    def encode(self, x, batch_size: int = 256, labels: Any = None) -> np.ndarray:
        """Returns the codes [z, y] of `x`, with the posterior's mean as z.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.
            labels: The classes of an array, `(n,)`. Defaults to those in a data set's
                batches (x, y), or else to those under which the ELBOs are highest.

        Returns:
            Array `(n, latent_dim + num_classes)`.

        Raises:
            ValueError: If labels are out of range or not one an example.
        """
        x, labelled = self._beside(x, labels)
        return self.in_batches("encode", self.encode_batch, x, batch_size, labelled)

    def reconstruct(self, x, batch_size: int = 256, labels: Any = None) -> np.ndarray:
        """Returns the decoded codes of `x`; encoder and decoder are told one class.

        To decode the style of `x` as another class, change the code: see the example of
        `ConditionalVAE`.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.
            labels: As for `encode`.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].

        Raises:
            ValueError: If labels are out of range or not one an example.
        """
        x, labelled = self._beside(x, labels)
        return self.in_batches(
            "reconstruct", self.reconstruct_batch, x, batch_size, labelled
        )

    def sample_posterior(
        self,
        x,
        seed: int | None = None,
        batch_size: int = 256,
        labels: Any = None,
    ) -> np.ndarray:
        """Draws a code z for each example from q(z | x, y).

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            seed: Integer; the same seed gives the same codes.
            batch_size: Examples at a time, for arrays.
            labels: As for `encode`.

        Returns:
            Array `(n, latent_dim)`.

        Raises:
            ValueError: If labels are out of range or not one an example.
        """
        x, labelled = self._beside(x, labels)
        return self._posterior_draws(x, seed, batch_size, labelled)

    def _sample_posterior(self, noise, x, labels=None):
        return super()._sample_posterior(noise, x, labels=labels)

    def log_likelihood(
        self,
        x,
        samples: int = 100,
        seed: int | None = None,
        chunk_size: int = 4096,
        labels: Any = None,
    ) -> np.ndarray:
        """Estimates log p(x | y), or without labels log p(x), as `VAE` does.

            log p(x) = log 1/num_classes Σ_y p(x | y)

        for classes that are equally common: comparable with a `VAE`'s.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            samples: Codes drawn for each example, and without labels for each class.
            seed: Integer; the same seed gives the same estimate.
            chunk_size: At most this many codes are decoded at a time.
            labels: The classes of an array, `(n,)`. Defaults to those in a data set's
                batches (x, y), or else to none.

        Returns:
            Array `(n,)`, in nats.

        Raises:
            ValueError: If labels are out of range or not one an example.
        """
        x, labelled = self._beside(x, labels)
        return self._log_likelihood(x, samples, seed, chunk_size, labelled)

    def _predict_on(self, data):
        x, others, _ = self.unpack_batch(data)
        restored = self.reconstruct_batch(x, **others)
        if not others:
            return restored
        shape = (-1, *[1] * len(self.built_image_shape))
        labels = ops.reshape(others["labels"], shape)
        return self._nan_unless_valid(labels, restored)

    def _beside(self, x, labels):
        """Returns x, or (x, labels), and whether x is a data set with labels in it."""
        x = self.check_data(x, "x", restored=False)
        if hasattr(x, "shape"):
            if labels is None:
                return x, False
            return (x, self._check_labels(labels, x.shape[0])), False
        if labels is not None:
            raise ValueError(
                "`labels` belong to an array; a data set has them in its batches "
                f"(x, y). Received: labels beside a {type(x).__name__}"
            )
        (_, labels, _), x = inputs.first_batch(x)
        if labels is None:
            return x, False
        # The first batch was looked at; the others are when it is their turn.
        pairs = inputs.batches(x, 1, labelled=True)
        return ((x, self._check_labels(y, len(x))) for x, y in pairs), True

    def encode_batch(self, x, labels=None):
        labels = self._labels(x, labels)
        return self._code(self.posterior(x, labels=labels).mean, labels)

    def reconstruct_batch(self, x, labels=None):
        return self.decode_batch(self.encode_batch(x, labels))
