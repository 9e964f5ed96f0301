"""`fit` of Keras itself, on a VAE written as Keras' own examples write it."""

import keras
from fit_keras_ae import Epochs
from keras import layers, ops

from keras_ae import machine


class Sampling(layers.Layer):
    """Draws a code from its mean and log-variance."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        mean, log_var = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * noise


def networks(workload):
    dense = workload.architecture == "dense"
    inputs = keras.Input(workload.image_shape)
    x = layers.Flatten()(inputs) if dense else inputs
    for width in workload.widths:
        if dense:
            x = layers.Dense(width, activation="relu")(x)
        else:
            x = layers.Conv2D(width, 4, 2, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = x if dense else layers.Flatten()(x)
    mean = layers.Dense(workload.latent_dim, dtype="float32")(x)
    log_var = layers.Dense(workload.latent_dim, dtype="float32")(x)
    encoder = keras.Model(inputs, [mean, log_var, Sampling()([mean, log_var])])

    activation = "sigmoid" if workload.likelihood == "bernoulli" else None
    codes = keras.Input((workload.latent_dim,))
    x = codes
    if dense:
        for width in reversed(workload.widths):
            x = layers.Dense(width, activation="relu")(x)
        x = layers.Dense(workload.values, activation, dtype="float32")(x)
        x = layers.Reshape(workload.image_shape)(x)
    else:
        rows, columns = workload.grid
        filters = workload.widths[-1]
        x = layers.Dense(rows * columns * filters, activation="relu")(x)
        x = layers.Reshape((rows, columns, filters))(x)
        for width in (*reversed(workload.widths[:-1]), workload.widths[0]):
            x = layers.Conv2DTranspose(width, 4, 2, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        channels = workload.image_shape[-1]
        x = layers.Conv2D(
            channels, 3, 1, "same", activation=activation, dtype="float32"
        )(x)
    return encoder, keras.Model(codes, x)


class VAE(keras.Model):
    def __init__(self, workload):
        super().__init__()
        self.likelihood = workload.likelihood
        self.encoder, self.decoder = networks(workload)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        # So that every backend knows the model is built before it trains.
        self.build((None, *workload.image_shape))

    def build(self, input_shape):
        self.built = True

    @property
    def metrics(self):
        return [self.loss_tracker]

    def call(self, x, training=False):
        mean, log_var, z = self.encoder(x, training=training)
        return mean, log_var, self.decoder(z, training=training)

    def loss_of(self, x, mean, log_var, restored):
        if self.likelihood == "bernoulli":
            errors = keras.losses.binary_crossentropy(x, restored)  # (batch, h, w)
            reconstruction = ops.sum(errors, axis=(1, 2))
        else:
            reconstruction = 0.5 * ops.sum(ops.square(x - restored), axis=(1, 2, 3))
        kl = -0.5 * (1 + log_var - ops.square(mean) - ops.exp(log_var))
        return ops.mean(reconstruction + ops.sum(kl, axis=1))

    def tensorflow_step(self, x):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.loss_of(x, *self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_weights, strict=True)
        )
        self.loss_tracker.update_state(loss, sample_weight=ops.shape(x)[0])
        return {"loss": self.loss_tracker.result()}

    def torch_step(self, x):
        import torch

        self.zero_grad()
        loss = self.loss_of(x, *self(x, training=True))
        loss.backward()
        weights = list(self.trainable_weights)
        with torch.no_grad():
            self.optimizer.apply([w.value.grad for w in weights], weights)
        self.loss_tracker.update_state(loss, sample_weight=ops.shape(x)[0])
        return {"loss": self.loss_tracker.result()}

    def jax_step(self, state, x):
        import jax

        trainable, others, optimizer, metrics = state

        def compute(trainable, others):
            outputs, others = self.stateless_call(trainable, others, x, training=True)
            return self.loss_of(x, *outputs), others

        (loss, others), gradients = jax.value_and_grad(compute, has_aux=True)(
            trainable, others
        )
        trainable, optimizer = self.optimizer.stateless_apply(
            optimizer, gradients, trainable
        )
        metrics = self.loss_tracker.stateless_update_state(
            metrics, loss, sample_weight=x.shape[0]
        )
        logs = {"loss": self.loss_tracker.stateless_result(metrics)}
        return logs, (trainable, others, optimizer, metrics)

    def train_step(self, *arguments):
        *state, data = arguments
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        step = getattr(self, f"{keras.config.backend()}_step")
        return step(*state, x)


def train(workload, x, settings, clock):
    keras.utils.set_random_seed(settings["seed"])
    keras.config.set_dtype_policy(settings["precision"])
    model = VAE(workload)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    clock.start()
    model.fit(
        x.astype("float32") / 255,
        batch_size=workload.batch_size,
        epochs=settings["epochs"],
        callbacks=[Epochs(clock)],
    )
    return machine.device(keras.config.backend())
