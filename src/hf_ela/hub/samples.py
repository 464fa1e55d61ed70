"""The sample pictures of a release, whose scores verify it: those of the package, or one's own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hf_ela.errors import ImageError, ReleaseError
from hf_ela.hub.package import MODEL_CARD, SAMPLES, sample_files, sample_label, sample_pictures
from hf_ela.hub.private import Files
from hf_ela.models.detector import Detector
from hf_ela.models.folder import read_model
from hf_ela.recipes.schema import LABELS

MOST = 12
"""Pictures of one's own: the Space shows a button for each, and the page in the browser too."""
MOST_BYTES = 10_000_000
"""Their size together: the page in the browser loads them all when it opens."""
# What every browser shows; and a name in it is safe in an address, in a command and in code.
_NAME = re.compile(r"(?:fake|real)-[\w.-]+\.(?:jpe?g|png|webp)", re.ASCII | re.IGNORECASE)
_ABOUT = "README.md"
_ELA = "ela.png"
"""The picture in the text of a new card."""


@dataclass(frozen=True)
class Samples:
    """Pictures of a release.

    Attributes:
        records: `file`, `title` and `label` of each, and in a release `sha256` and `score`.
        files: Everything in ``samples/``: the pictures, their description, ``ela.png``.
    """

    records: list[dict[str, Any]]
    files: Files


def package_samples() -> Samples:
    """Return the pictures of the package, without scores."""
    records = [
        {"file": name, "title": title, "label": sample_label(name)}
        for name, title in SAMPLES.items()
    ]
    return Samples(records, sample_files())


def recorded_samples(run: Mapping[str, Any], folder: Path) -> Samples:
    """Return the pictures of the package as a training scored them.

    Args:
        run: What ``run.json`` holds.
        folder: The run folder.

    Raises:
        ReleaseError: There are no scores, or a picture is not the one that was scored.
    """
    records = run.get("samples") or []
    known = {*sample_pictures()}
    if not records or not {sample["file"] for sample in records} <= known:
        raise ReleaseError(
            "run.json must record the scores of the sample pictures, which verify a release: "
            f"{', '.join(sorted(known))}. Received: "
            f"{[sample['file'] for sample in records] or 'none'}. Train again with this version."
        )
    for sample in records:
        path = folder / "samples" / sample["file"]
        if path.is_file() and sha256(path.read_bytes()).hexdigest() != sample["sha256"]:
            raise ReleaseError(
                f"{path} is not the sample picture that was scored. Copy it from tests/data, or "
                "train again."
            )
    names = (*(sample["file"] for sample in records), _ABOUT, _ELA)
    return Samples(records, {name: folder / "samples" / name for name in names})


def own_samples(folder: Path, model: Path) -> Samples:
    """Return the pictures of a folder, scored.

    Args:
        folder: Holds pictures in ``fake/`` and ``real/``, or named ``fake-*`` and ``real-*``; and a
            README.md that names their sources and licences. A picture in ``fake/`` gets the
            prefix.
        model: Folder of the saved model that is released.

    Raises:
        ReleaseError: The folder has not that form, has too much, or a picture is refused.
        ModelError: The model is not usable.
    """
    if not folder.is_dir():
        raise ReleaseError(f"`samples` must be a folder. Received: {folder}. Correct it.")
    about = folder / _ABOUT
    if not about.is_file():
        raise ReleaseError(
            f"`samples` must be a folder with pictures and a {_ABOUT} that names their sources and "
            f"licences, to which the card points. Received: {folder}, without {_ABOUT}. Write it."
        )
    files = _pictures(folder)
    size = sum(path.stat().st_size for path in files.values())
    if len(files) > MOST or size > MOST_BYTES:
        raise ReleaseError(
            f"`samples` may hold {MOST} pictures of {MOST_BYTES / 1e6:g} MB together: the page in "
            f"the browser loads them all. Received: {len(files)} of {size / 1e6:.1f} MB. Choose "
            "fewer."
        )
    pictures = {name: path.read_bytes() for name, path in files.items()}
    records = []
    scores = Detector.from_settings(*read_model(model)).scores(list(pictures.values()))
    for (name, content), score in zip(pictures.items(), scores, strict=True):
        if isinstance(score, ImageError):
            raise ReleaseError(
                f"{files[name]} cannot be a sample picture: {score.reason}."
            ) from score
        words = re.sub(r"[-_.]+", " ", Path(name).stem.partition("-")[2]).strip()
        records.append(
            {
                "file": name,
                "title": words[:1].upper() + words[1:],
                "label": sample_label(name),
                "sha256": sha256(content).hexdigest(),
                "score": float(score),
            }
        )
    ela = MODEL_CARD / "samples" / _ELA
    return Samples(records, {**pictures, _ABOUT: about.read_bytes(), _ELA: ela})


def _pictures(folder: Path) -> dict[str, Path]:
    """Return the pictures by their names in a release.

    Raises:
        ReleaseError: A name is not fit for that, or a class has none.
    """
    parts = {f"{label}-": folder / label for label in LABELS if (folder / label).is_dir()}
    found = {
        prefix + path.name: path
        for prefix, place in {**parts, "": folder}.items()
        for path in place.iterdir()
        if path.is_file() and path.name != _ABOUT and not path.name.startswith(".")
    }
    if wrong := [name for name in found if not _NAME.fullmatch(name)]:
        raise ReleaseError(
            "A sample picture must lie in fake/ or real/, or be named fake-* or real-*, end with "
            ".jpg, .png or .webp, and have only A to Z, digits, '.', '_' and '-' in its name. "
            f"Received: {wrong[0]!r}. Rename or remove it."
        )
    if missing := {*LABELS} - {sample_label(name) for name in found}:
        raise ReleaseError(
            f"`samples` must hold at least one picture of each class, {' and '.join(LABELS)}. "
            f"Received: {folder}, without {' and '.join(sorted(missing))}. Add one."
        )
    return dict(sorted(found.items()))
