"""The workloads' network and loss, for the hand-written loops of all backends."""


def losses(ops, workload, weights, x, noise):
    """Returns the negative ELBO of each picture, and the moments of each batch norm.

    Args:
        ops: Module of the backend's functions: `images`, `flatten`, `grid`, `dense`,
            `convolve`, `depth_to_space`, `normalize`, `relu`, `exp`, `cross_entropy`
            and `total`, the sum over all but the first axis.
        workload: A `Workload`.
        weights: In the order of `workloads.layers`.
        x: Pictures `(batch, height, width, channels)`, in [0, 1].
        noise: `(batch, latent_dim)`, from N(0, I).
    """
    rest, moments = iter(weights), []

    def dense(h):
        return ops.dense(h, next(rest), next(rest))

    def normalized(h):
        h, *found = ops.normalize(h, next(rest), next(rest))
        moments.append(found)
        return ops.relu(h)

    x = ops.images(x)
    h = x
    if workload.architecture == "dense":
        h = ops.flatten(h)
        for _ in workload.widths:
            h = ops.relu(dense(h))
    else:
        for _ in workload.widths:
            h = normalized(ops.convolve(h, next(rest), 2))
        h = ops.flatten(h)
    mean, log_var = dense(h), dense(h)
    h = mean + ops.exp(0.5 * log_var) * noise
    if workload.architecture == "dense":
        x = ops.flatten(x)
        for _ in workload.widths:
            h = ops.relu(dense(h))
        h = dense(h)
    else:
        h = ops.grid(ops.relu(dense(h)), workload)
        for _ in workload.widths:
            h = normalized(ops.depth_to_space(ops.convolve(h, next(rest), 1)))
        h = ops.convolve(h, next(rest), 1, next(rest))
    if workload.likelihood == "bernoulli":
        reconstruction = ops.total(ops.cross_entropy(h, x))
    else:
        reconstruction = 0.5 * ops.total((x - h) ** 2)
    kl = 0.5 * ops.total(ops.exp(log_var) + mean**2 - 1.0 - log_var)
    return reconstruction + kl, moments
