"""What a run tells of itself: one HTML page that needs nothing beside it, and a card.

Both are made from the same facts, which are read from the run's directory.
"""

from keras_ae.runs.report.facts import OWN_CHANGES, Facts, duration, next_command
from keras_ae.runs.report.writing import write

__all__ = [
    "Facts",
    "OWN_CHANGES",
    "duration",
    "next_command",
    "write",
]
