"""A page to explore a trained model: its codes, and the pictures that they decode to.

The mathematics is NumPy in and NumPy out; `page` alone knows Gradio, and is imported
when a page is made.
"""

from keras_ae.explorer.directions import Directions, principal_directions
from keras_ae.explorer.map import LatentMap
from keras_ae.explorer.serving import check_address, explore
from keras_ae.explorer.view import Refinement, View

__all__ = [
    "Directions",
    "LatentMap",
    "Refinement",
    "View",
    "check_address",
    "explore",
    "principal_directions",
]
