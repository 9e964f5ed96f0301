"""Functions of tensors of which a backend's own are slow."""

from keras import ops

from keras_ae.backend.autodiff import BACKEND

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax


def softplus(x):
    """Returns log(1 + exp(x)), of the shape of x.

    JAX's own looks for NaN and infinities too, and takes three times as long on a CPU.
    """
    if BACKEND != "jax":
        return ops.softplus(x)
    # At a tie, each side gets half of the gradient: at 0 the sum is 1/2, as it must be.
    # That of abs(x) would be 1.
    small = jax.numpy.exp(jax.numpy.minimum(x, -x))
    return jax.numpy.maximum(x, 0) + jax.numpy.log1p(small)


def normalized(x, scale, shift, epsilon: float):
    """Normalises each channel of a batch of pictures in one operation, or returns None.

    Args:
        x: Tensor `(batch, height, width, channels)`.
        scale, shift: Tensors or variables `(channels,)`.
        epsilon: Added to the variance.

    Returns:
        The normalised tensor, mean and variance; None where the backend has no such
        operation.
    """
    if BACKEND != "tensorflow" or scale.dtype != "float32":
        return None
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=shift, mean=[], variance=[], epsilon=epsilon
    )
    # It is corrected for the mean, which Keras' is not.
    count = tf.cast(tf.size(x, tf.int64) // x.shape[-1], "float32")
    return y, mean, variance * (count - 1) / count


def filters_in_order(x, kernel):
    """Returns a convolution's kernel, laid out so that PyTorch can differentiate it.

    Its CPU convolves one small picture by another way than several, whose gradient of
    the kernel fails where Keras has only changed the order of its axes: "slow_conv2d:
    grad_weight must be contiguous".

    Args:
        x: Tensor `(batch, height, width, channels)`.
        kernel: Tensor or variable `(rows, columns, channels, filters)`.
    """
    if BACKEND != "torch" or x.shape[0] != 1:
        return kernel
    kernel = ops.transpose(ops.convert_to_tensor(kernel), (3, 2, 0, 1)).contiguous()
    return ops.transpose(kernel, (2, 3, 1, 0))


def convolved_to_one(x, kernel):
    """Convolves pictures with one filter, padded to their size, or returns None.

    Args:
        x: Tensor `(batch, height, width, channels)`.
        kernel: Tensor `(rows, columns, channels, 1)`.

    Returns:
        Tensor `(batch, height, width, 1)`; None where the backend's own is faster.
    """
    if BACKEND != "tensorflow" or x.dtype != "float32":
        return None
    if tf.config.list_logical_devices("GPU"):
        return None
    if None in x.shape[1:]:
        return None
    return tf.custom_gradient(_convolution_to_one)(x, tf.convert_to_tensor(kernel))


def _convolution_to_one(x, kernel):
    """The convolution, and the function of its gradients."""
    # oneDNN computes filters by the dozen. Here all pixels are multiplied with all
    # places of the kernel at once, and the products shifted and added.
    _, height, width, channels = x.shape
    rows, columns = kernel.shape[:2]
    places = [(i, j) for i in range(rows) for j in range(columns)]
    before = ((rows - 1) // 2, (columns - 1) // 2)
    after = (rows // 2, columns // 2)
    pixels = tf.reshape(x, (-1, channels))

    def padded(maps, before, after):
        edges = [(0, 0)] * (maps.shape.rank - 2)
        return tf.pad(maps, [*edges, *zip(before, after, strict=True)])

    def window(maps, i, j):
        return maps[..., i : i + height, j : j + width]

    products = tf.matmul(tf.reshape(kernel, (-1, channels)), pixels, transpose_b=True)
    products = tf.reshape(products, (rows * columns, -1, height, width))
    products = padded(products, before, after)
    y = tf.add_n([window(products[k], *place) for k, place in enumerate(places)])

    def gradient(upstream):
        slope = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x),
            filter=kernel,
            out_backprop=upstream,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )
        maps = padded(upstream[..., 0], after, before)
        maps = [window(maps, rows - 1 - i, columns - 1 - j) for i, j in places]
        of_kernel = tf.matmul(tf.reshape(tf.stack(maps), (len(places), -1)), pixels)
        return slope, tf.reshape(of_kernel, kernel.shape)

    return y[..., None], gradient
