"""PyTorch: state is assigned in place, steps are recorded and run again."""

import contextlib
import itertools
import math

import keras
import numpy as np
import torch
from keras import ops
from torch.optim.adam import adam

from keras_ae.backend import (
    _shared,
    _torch_devices,
    _torch_processes,
    _torch_recording,
    keras_private,
)

LOOPS = False
TAKES_FEEDS = True
PROCESSES = _torch_processes


def build_scope(model):
    return contextlib.nullcontext()


@contextlib.contextmanager
def seeded(seed):
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def replicas(model):
    return 1


def distribute(devices):
    return _torch_processes.distribute(devices)


def most_processes():
    return len(_torch_processes.devices_found())


def meeting_point():
    return _torch_processes.meeting_point()


def spread_batches():
    return contextlib.nullcontext()


def replicas_here():
    return 1


def common_size(size):
    return size


def is_traced(x):
    return False


def run_step(step, arguments, variables):
    (data,) = arguments
    return step(data)


def loss_gradients(model, loss_fn, variables, optimizer, given):
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "A model must learn outside of `torch.inference_mode()`, in which there "
            "are no gradients. Received: a step of training within it"
        )
    given = [tensor.detach().requires_grad_() for tensor in given]
    loss, others = loss_fn(*given)
    learned = [variable.value for variable in variables if _learns(variable)]
    found = iter(())
    if learned or given:
        found = iter(
            torch.autograd.grad(
                optimizer.scale_loss(loss), [*learned, *given], allow_unused=True
            )
        )
    gradients = [next(found) if _learns(variable) else None for variable in variables]
    return others, gradients, [*found]


def _learns(variable):
    """Whether PyTorch's `requires_grad_(False)` has not frozen a variable."""
    return variable.value.requires_grad


@torch.no_grad()
def apply(optimizer, gradients, variables, condition, fused):
    if not any(map(_learns, variables)):
        return
    touched = [*variables, *optimizer.variables]
    # What scales the loss leaves the update to another.
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    update = contextlib.nullcontext()
    if fused and _shared.is_adam(inner):
        update = _shared.replaced(inner, keras_private.PARALLEL_UPDATE, _adam(inner))
    with _shared.kept_unless(condition, touched), update:
        optimizer.apply(gradients, variables)


def _adam(optimizer):
    """Keras' update of all variables, in one kernel on the CPU."""
    stepwise = getattr(optimizer, keras_private.PARALLEL_UPDATE)

    def update(gradients, variables, learning_rate):
        moments = keras_private.moments(optimizer, variables)
        tensors = [
            [variable.value for variable in variables],
            # The kernel goes by the order in memory.
            [gradient.contiguous() for gradient in gradients],
            *([moment.value for moment in group] for group in moments),
        ]
        # On an accelerator it would have to wait for the number of the step.
        if all(
            tensor.device.type == "cpu"
            and tensor.dtype == torch.float32
            and tensor.is_contiguous()
            for tensor in itertools.chain(*tensors)
        ):
            numbers = map(ops.convert_to_tensor, (learning_rate, optimizer.iterations))
            _torch_recording.call(_adam_kernel(optimizer), *numbers, *tensors)
        else:
            stepwise(gradients, variables, learning_rate)

    return update


def _adam_kernel(optimizer):
    """PyTorch's kernel for Keras' Adam, a function of tensors."""
    beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
    epsilon = optimizer.epsilon

    def update(learning_rate, iterations, *tensors):
        step = float(iterations) + 1.0
        adam(
            *tensors,
            [],
            [torch.tensor(step - 1.0) for _ in tensors[0]],
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=float(learning_rate),
            beta1=beta_1,
            beta2=beta_2,
            weight_decay=0.0,
            # Keras adds it to the velocity's root before correcting its bias.
            eps=epsilon / math.sqrt(1.0 - beta_2**step),
        )

    return update


def gradient(function, x):
    differentiable = torch.is_grad_enabled()
    # `evaluate` runs without gradients; this one is part of the loss.
    with torch.enable_grad():
        if not x.requires_grad:
            x = x.detach().requires_grad_()
        total = torch.sum(function(x))
        (result,) = torch.autograd.grad(total, x, create_graph=differentiable)
    return result


def take_rows(variable, rows):
    return ops.take(variable.value, rows, axis=0)


def assign_rows(variable, rows, values):
    with torch.no_grad():
        variable.value.index_copy_(0, rows.long(), values)


def compiled(function, variables):
    return torch.no_grad()(function)


def records_steps(model):
    if _torch_processes.count() > 1:
        return model.steps_per_execution == 1
    return (
        not model.jit_compile
        and not model.run_eagerly
        and not torch.is_inference_mode_enabled()
        and model.steps_per_execution == 1
        and keras.distribution.distribution() is None
        # What is to save memory shall not keep the copies that a recorder does.
        and not getattr(model, "remat", False)
    )


def recorded(model, step):
    learns = step == model.train_step
    if _torch_processes.count() > 1:
        return _torch_devices.Spread(model, step, learns)

    def run(batch):
        with torch.set_grad_enabled(learns):
            return step(batch)

    def variables():
        found = (*model.variables, *model.metrics_variables)
        found += tuple(model.optimizer.variables) if learns else ()
        return list({id(variable): variable for variable in found}.values())

    def take(batches):
        return take.steps(*batches)

    take.steps = _torch_recording.Recorded(run, variables)
    return take


def room_for_data():
    return torch.cuda.mem_get_info()[0] // 4 if torch.cuda.is_available() else 0


def to_device(array):
    return array if ops.is_tensor(array) else ops.convert_to_tensor(array)


def start_epoch():
    torch.empty((), dtype=torch.int64).random_()


def reorders(model):
    return False


def shuffled(count):
    return np.array([*torch.utils.data.RandomSampler(range(count))])


def filters_in_order(x, kernel):
    if x.shape[0] != 1:
        return kernel
    kernel = ops.transpose(ops.convert_to_tensor(kernel), (3, 2, 0, 1)).contiguous()
    return ops.transpose(kernel, (2, 3, 1, 0))
