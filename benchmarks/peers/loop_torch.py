"""A loop written by hand for PyTorch: tensors on the device, Adam fused."""

import sys

import elbo
import torch
import torch.nn.functional as F
import workloads

from keras_ae import machine

relu, exp = F.relu, torch.exp


def images(x):
    # Channels first for PyTorch, channels last in memory.
    return x.permute(0, 3, 1, 2)


def flatten(x):
    return x.permute(0, 2, 3, 1).flatten(1)


def grid(x, workload):
    return x.reshape(len(x), *workload.grid, -1).permute(0, 3, 1, 2)


def dense(x, kernel, bias):
    return F.linear(x, kernel, bias).float()


def convolve(x, kernel, strides, bias=None):
    # As "same" does it: even kernels of stride 1 see one more below than above.
    size = kernel.shape[-1]
    if strides == 1 and size == 2:
        x = F.pad(x, (0, 1, 0, 1))
    padding = (size - 1) // 2
    return F.conv2d(x, kernel, bias, strides, padding).float()


depth_to_space = torch.nn.PixelShuffle(2)


def normalize(x, gain, shift):
    # The running averages are updated in place: here of momentum 1, the batch's own.
    mean, variance = torch.empty_like(gain), torch.empty_like(gain)
    y = F.batch_norm(x, mean, variance, gain, shift, True, 1.0, 1e-3)
    return y, mean.detach(), variance.detach()


def cross_entropy(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none")


def total(x):
    return x.flatten(1).sum(1)


def arranged(workload, weights):
    """The weights as PyTorch has them: outputs first, pixels of a channel together."""
    found = []
    for weight in map(torch.as_tensor, weights):
        if weight.ndim == 2:
            weight = weight.T.contiguous()
        elif weight.ndim == 4:
            if weight.shape[0] == 2:
                # depth_to_space has the channels of a pixel together.
                weight = weight.unflatten(-1, (4, -1)).transpose(-1, -2).flatten(-2)
            weight = weight.permute(3, 2, 0, 1)
            weight = weight.contiguous(memory_format=torch.channels_last)
        found.append(weight)
    return found


def train(workload, x, settings, clock):
    torch.manual_seed(settings["seed"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    low = settings["precision"] == "mixed_bfloat16"
    weights = [
        weight.to(device).requires_grad_()
        for weight in arranged(
            workload, workloads.initial_weights(workload, settings["seed"])
        )
    ]
    running = [
        [
            torch.zeros(layer.shape, device=device),
            torch.ones(layer.shape, device=device),
        ]
        for layer in workloads.layers(workload)
        if layer.kind == "norm"
    ]
    adam = torch.optim.Adam(weights, lr=1e-3, eps=1e-7, fused=True)
    clock.start()
    x = torch.as_tensor(x, device=device)
    for _ in range(settings["epochs"]):
        summed = torch.zeros((), device=device)
        for rows in torch.randperm(len(x), device=device).split(workload.batch_size):
            batch = x[rows].float() / 255
            noise = torch.randn(len(rows), workload.latent_dim, device=device)
            adam.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=low):
                each, moments = elbo.losses(
                    sys.modules[__name__], workload, weights, batch, noise
                )
            each.mean().backward()
            adam.step()
            for averages, values in zip(running, moments, strict=True):
                for average, value in zip(averages, values, strict=True):
                    average.lerp_(value, 0.1)
            summed += each.detach().sum()
        clock.epoch(summed.item() / len(x))
    return machine.device("torch")
