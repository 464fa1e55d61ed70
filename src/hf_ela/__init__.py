"""Tell human-made art from AI-generated art by Error Level Analysis.

``ElaClassifier`` predicts, ``error_level`` is the transform; everything heavy is imported on
first use, so that ``import hf_ela`` costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["ElaClassifier", "__version__", "error_level", "load_image"]

if TYPE_CHECKING:
    from hf_ela.classifier import ElaClassifier
    from hf_ela.ela import error_level
    from hf_ela.images import load_image

_HOME = {"ElaClassifier": "classifier", "error_level": "ela", "load_image": "images"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hf_ela' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"hf_ela.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
