"""A training in a process of its own, or in several that share it.

`-m` this module, and a request in JSON.
"""

from __future__ import annotations

import inspect
import json
import math
import pathlib
import re
import sys
import time
import traceback

import numpy as np

from keras_ae import files, machine, processes
from keras_ae.benchmark import _load

# Where a data set has no classes, which the cost of a model does not depend on.
_CLASSES = 10


def _main(request):
    """Trains, and leaves a report or the reason why there is none."""
    request = json.loads(request)
    machine.keep_freed_memory()
    try:
        report = _train(request)
    except Exception as error:
        traceback.print_exc()
        report = {"error": _reason(error)}
    if processes.is_first():
        files.write_json(pathlib.Path(request["report"]), report)


def _train(request):
    """Trains as a user does; returns what it cost."""
    import keras

    from keras_ae import distribute, models

    if request["devices"] > 1:
        distribute(request["devices"])
    keras.utils.set_random_seed(request["seed"])
    keras.config.set_dtype_policy(request["precision"])
    images, found = _load(request, request["image_size"])
    constructor = getattr(models, request["model"])
    arguments, labels = _particular(constructor, request["settings"], images, found)
    model = constructor(**arguments)
    clock, first_steps = machine.Clock(), []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: first_steps or _note(first_steps),
        on_epoch_end=lambda epoch, logs: clock.epoch(logs["loss"]),
    )
    # It does nothing that steps would have to be taken singly for, or waited for.
    watch.needs_each_batch, watch.async_safe = False, True
    clock.start()
    model.fit(
        images,
        labels,
        batch_size=request["batch_size"],
        epochs=request["epochs"],
        verbose=0,
        callbacks=[watch],
    )
    measured = clock.report()
    losses = [loss if math.isfinite(loss) else None for loss in measured["losses"]]
    return {
        "seed": request["seed"],
        **measured,
        "losses": losses,
        "first_step_after": first_steps[0] - request["spawned"],
        "host_bytes": machine.peak_memory(),
        **machine.device(request["backend"]),
        "parameters": model.count_params(),
        "feeding": model.feeding._asdict(),
        "versions": {"python": sys.version.split()[0], **machine.versions()},
    }


def _note(times):
    times.append(time.time())


def _particular(constructor, settings, images, found):
    """Arguments and labels that a model needs to be trained at all."""
    arguments, labels = dict(settings), None
    if "pretraining_epochs" in inspect.signature(constructor.__init__).parameters:
        # Each of its phases costs something else: what is trained is the whole.
        arguments.setdefault("pretraining_epochs", 0)
    if constructor.needs_labels:
        labels = found.get("label")
        if labels is None:
            labels = np.arange(len(images)) % _CLASSES
        classes, labels = np.unique(labels, return_inverse=True)
        arguments.setdefault("num_classes", len(classes))
    return arguments, labels


def _reason(error):
    """What went wrong, in a sentence."""
    text = str(error).strip()
    short = re.search(r".*(out of memory|\bOOM\b|RESOURCE_EXHAUSTED).*", text, re.I)
    if isinstance(error, MemoryError) or short:
        return f"out of memory: {short[0].strip() if short else 'of the host'}"
    # Keras appends what it was called with, on further lines.
    sentence = text.partition("\n")[0]
    if isinstance(error, ValueError | OSError | ImportError) and sentence:
        return sentence
    return f"{type(error).__name__}: {sentence}"


if __name__ == "__main__":
    _main(sys.argv[1])
