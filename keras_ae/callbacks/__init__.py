"""Callbacks for `fit`: schedules, and pictures as training goes on."""

from keras_ae.callbacks.checkpoints import (
    NOTE,
    Checkpoint,
    EpochSeeds,
    HistoryFile,
    ResumedEarlyStopping,
    ResumedReduceLROnPlateau,
    Rows,
    read_note,
    reason,
    save,
    warn,
)
from keras_ae.callbacks.interrupt import Interrupt, Interrupted
from keras_ae.callbacks.samples import SampleSheet
from keras_ae.callbacks.schedules import BetaWarmUp, CapacityIncrease, CyclicalBeta
from keras_ae.callbacks.watches import AdversarialWatch, CollapseWatch

__all__ = [
    "AdversarialWatch",
    "BetaWarmUp",
    "CapacityIncrease",
    "Checkpoint",
    "CollapseWatch",
    "CyclicalBeta",
    "EpochSeeds",
    "HistoryFile",
    "Interrupt",
    "Interrupted",
    "NOTE",
    "ResumedEarlyStopping",
    "ResumedReduceLROnPlateau",
    "Rows",
    "SampleSheet",
    "read_note",
    "reason",
    "save",
    "warn",
]
