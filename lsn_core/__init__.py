"""Layer Separation Networks: a finger-joint radiograph as soft tissue and two bones, and back at any width."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

MODULES = {
    "LAYERS": "radiograph",
    "Joint": "joint",
    "Phantom": "phantom",
    "Shift": "radiograph",
    "absorbance": "radiograph",
    "adjust_jsw": "radiograph",
    "compose": "radiograph",
    "load_generator": "networks",
    "open_dataset": "data",
    "read_radiograph": "data",
    "shift": "radiograph",
}

__version__ = version("lsn-core")
__all__ = list(MODULES)


def __getattr__(name: str) -> Any:
    """A name of the package from its module, loaded when first asked for: what starts notebooks needs no PyTorch."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    """All names, for completion."""
    return sorted({*globals(), *MODULES})
