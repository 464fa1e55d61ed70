"""The sample pictures that go with every release, and the folder of the model card."""

from pathlib import Path

__all__ = ["MODEL_CARD", "sample_pictures"]

_PACKAGE = Path(__file__).parents[1]
# In a checkout it is at the top, where people look for it; a wheel has it inside the package.
_PLACES = (_PACKAGE / "model_card", _PACKAGE.parents[1] / "model_card")
MODEL_CARD = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
"""Folder with `template.md`, `prose.md` and `samples/`."""


def sample_pictures() -> dict[str, Path]:
    """Return the labelled sample pictures by file name; the label is the stem's last word."""
    samples = MODEL_CARD / "samples"
    return {path.name: path for path in sorted(samples.glob("*-*.*")) if label_of(path.name)}


def label_of(name: str) -> str | None:
    """Return the label in the name of a sample picture, or None for another file."""
    word = Path(name).stem.rpartition("-")[2]
    return word if word in ("fake", "real") else None
