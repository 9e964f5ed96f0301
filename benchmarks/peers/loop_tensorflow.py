"""A loop written by hand for TensorFlow: an epoch is one call of a `tf.function`."""

import sys

import elbo
import tensorflow as tf
import workloads

from keras_ae import machine

COMPUTE = None  # dtype of products, where it is not that of the weights
relu, exp = tf.nn.relu, tf.exp


def images(x):
    return x


def flatten(x):
    return tf.reshape(x, (tf.shape(x)[0], x.shape[1:].num_elements()))


def grid(x, workload):
    return tf.reshape(x, (-1, *workload.grid, workload.widths[-1]))


def _low(*tensors):
    return [tf.cast(x, COMPUTE) if COMPUTE else x for x in tensors]


def dense(x, kernel, bias):
    return tf.cast(tf.matmul(*_low(x, kernel)), "float32") + bias


def convolve(x, kernel, strides, bias=None):
    y = tf.cast(tf.nn.conv2d(*_low(x, kernel), strides, "SAME"), "float32")
    return y if bias is None else tf.nn.bias_add(y, bias)


def depth_to_space(x):
    return tf.nn.depth_to_space(x, 2)


def normalize(x, gain, shift):
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gain, offset=shift, mean=[], variance=[], epsilon=1e-3
    )
    return y, mean, variance


def cross_entropy(logits, x):
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)


def total(x):
    return tf.reduce_sum(x, tuple(range(1, x.shape.rank)))


def train(workload, x, settings, clock):
    global COMPUTE
    COMPUTE = "bfloat16" if settings["precision"] == "mixed_bfloat16" else None
    tf.random.set_seed(settings["seed"])
    weights = [
        tf.Variable(weight)
        for weight in workloads.initial_weights(workload, settings["seed"])
    ]
    moments = [[tf.Variable(tf.zeros_like(w)) for w in weights] for _ in range(2)]
    running = [
        [tf.Variable(tf.zeros(layer.shape)), tf.Variable(tf.ones(layer.shape))]
        for layer in workloads.layers(workload)
        if layer.kind == "norm"
    ]
    count = tf.Variable(0.0)
    steps = -(-len(x) // workload.batch_size)

    # XLA compiles the whole step; measured on CPUs, it is slower at convolutions.
    jit = workload.architecture == "dense" or bool(
        tf.config.list_physical_devices("GPU")
    )

    @tf.function(jit_compile=jit, autograph=False)
    def step(batch):
        batch = tf.cast(batch, "float32") / 255
        noise = tf.random.normal((tf.shape(batch)[0], workload.latent_dim))
        with tf.GradientTape() as tape:
            each, found = elbo.losses(
                sys.modules[__name__], workload, weights, batch, noise
            )
            loss = tf.reduce_mean(each)
        gradients = tape.gradient(loss, weights)
        count.assign_add(1.0)
        for weight, m, v, gradient in zip(weights, *moments, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=0.9**count,
                beta2_power=0.999**count,
                lr=1e-3,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-7,
                grad=gradient,
            )
        for averages, values in zip(running, found, strict=True):
            for average, value in zip(averages, values, strict=True):
                average.assign(0.9 * average + 0.1 * value)
        return tf.reduce_sum(each)

    size = workload.batch_size

    @tf.function
    def epoch(x):
        order = tf.random.shuffle(tf.range(len(x)))
        summed = 0.0
        for i in tf.range(steps):
            summed += step(tf.gather(x, order[i * size : (i + 1) * size]))
        return summed / len(x)

    clock.start()
    x = tf.constant(x)
    for _ in range(settings["epochs"]):
        clock.epoch(epoch(x).numpy())
    return machine.device("tensorflow")
