"""The sample pictures that go with every release, and the folder of the model card."""

from pathlib import Path

__all__ = ["MODEL_CARD", "SAMPLES", "sample_files", "sample_label", "sample_pictures"]

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parents[1]
# A checkout has it at the top, where people look for it; a wheel has it inside the package.
_PLACES = (_PACKAGE / "model_card", _CHECKOUT / "model_card")
MODEL_CARD = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
"""Folder with `template.md`, `prose.md` and `samples/`."""

SAMPLES = {
    "fake-carved-car.webp": "A carved car, by Stable Diffusion",
    "fake-dark-fantasy.webp": "A dark fantasy, by Stable Diffusion",
    "real-durer-great-piece-of-turf.jpg": "Great Piece of Turf, by Albrecht Dürer",
    "real-hokusai-asakusa-honganji.jpg": "Hongan-ji at Asakusa, by Katsushika Hokusai",
}
"""File name -> title. `model_card/samples/README.md` says why these, and names their sources."""


def sample_pictures() -> dict[str, Path]:
    """Return the sample pictures by file name."""
    folder = MODEL_CARD / "samples"
    # A checkout holds them once, with the other pictures of its tests.
    if not (folder / next(iter(SAMPLES))).is_file():
        folder = _CHECKOUT / "tests" / "data"
    return {name: folder / name for name in SAMPLES}


def sample_files() -> dict[str, Path]:
    """Return all files of a release's `samples/` by name: the pictures and their description."""
    folder = MODEL_CARD / "samples"
    return {**sample_pictures(), **{name: folder / name for name in ("README.md", "ela.png")}}


def sample_label(name: str) -> str:
    """Return the true label of a sample picture, ``fake`` or ``real``: its name begins with it."""
    return name.partition("-")[0]
