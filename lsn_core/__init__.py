"""Layer Separation Networks: a finger-joint radiograph as soft tissue and two bones, and back at any width."""

from importlib.metadata import version

from lsn_core.data import open_dataset, read_radiograph
from lsn_core.joint import Joint
from lsn_core.networks import load_generator
from lsn_core.phantom import Phantom
from lsn_core.radiograph import LAYERS, Shift, absorbance, adjust_jsw, compose, shift

__version__ = version("lsn-core")
__all__ = [
    "LAYERS",
    "Joint",
    "Phantom",
    "Shift",
    "absorbance",
    "adjust_jsw",
    "compose",
    "load_generator",
    "open_dataset",
    "read_radiograph",
    "shift",
]
