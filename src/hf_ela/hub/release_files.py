"""Turn a run folder into the files of a release. No network.

Only the files named in `release_files` and `model_files` ever leave the machine. JSON with a path
of this machine, or any text with a token, stops the release.
"""

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from hf_ela.errors import ReleaseError
from hf_ela.hub.card import decode_card, has_text, make_card
from hf_ela.hub.card_text import CAPTIONS
from hf_ela.hub.samples import sample_pictures
from hf_ela.hub.wheel import requirements, wheel
from hf_ela.models.folder import saved_files
from hf_ela.models.settings import ONNX_FILE
from hf_ela.run_record import read_run

__all__ = ["CARD", "RECORD", "Files", "content_of", "model_files", "release_files"]

Files = Mapping[str, bytes | Path]
"""Path in the repository -> content, or the local file that holds it."""

CARD = "README.md"
RECORD = "run.json"
BACKEND = "jax"
"""The smallest Keras backend, which endpoints and Spaces install for a model without ONNX."""

# An absolute path of Unix (of two parts or more), of Windows, of a share, or below a home.
_PATH = re.compile(r"(?<![\w./])(?:/[\w.-]+/|~/|\\\\[\w.-]+\\)|(?<!\w)(?:[A-Za-z]:[\\/]|file:)")
_TOKEN = re.compile(r"\b(?:hf|ghp|gho|api_org)_[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{16}\b")


def release_files(
    run_folder: Path,
    repo_id: str,
    *,
    revision: str | None = None,
    card_before: bytes | None = None,
    replace_card: bool = False,
) -> Files:
    """Return the files of a release.

    Args:
        run_folder: A finished run folder.
        repo_id: ``user/name``, for the snippets of the card.
        revision: Tag of the release, for the same.
        card_before: The card of the repository: text that a person wrote stays. If it has no text,
            the card in the run folder is used.
        replace_card: Use the card in the run folder in any case.

    Raises:
        RunError: The run has not finished.
        ModelError: Its record is not valid.
        ReleaseError: A file of the run is missing, or must not be published.
        CardError: The card cannot be made.
    """
    run = read_run(run_folder).content()
    local = run_folder / CARD
    previous = None if replace_card or card_before is None else decode_card(card_before)
    if local.is_file() and not has_text(previous):
        previous = decode_card(local.read_bytes())
    card = make_card(run, repo_id=repo_id, revision=revision, previous=previous)
    result = {key: run[key] for key in ("calibration", "evaluation")}
    files = {
        CARD: card.encode(),
        RECORD: run_folder / RECORD,
        "metrics.json": (json.dumps(result, indent=2, allow_nan=False) + "\n").encode(),
        **model_files(run_folder / "weights"),
        **{f"plots/{name}": run_folder / "plots" / name for name in _plots(run)},
        **{f"samples/{name}": run_folder / "samples" / name for name in _samples(run, run_folder)},
    }
    _check(files)
    return files


def _plots(run: Mapping[str, Any]) -> list[str]:
    """Return the plots that a card shows; others may show images of the dataset."""
    plots = run.get("plots")
    if not isinstance(plots, list) or not set(plots) <= set(CAPTIONS):
        raise ReleaseError(
            f"`plots` of {RECORD} must be a list of {', '.join(CAPTIONS)}. Received: {plots!r}. "
            "Train again with this version."
        )
    return plots


def _samples(run: Mapping[str, Any], folder: Path) -> list[str]:
    """Return the sample pictures with recorded scores, for verification, and their description."""
    recorded = {sample["file"]: sample["sha256"] for sample in run.get("samples") or []}
    known = set(sample_pictures())
    if not recorded or not set(recorded) <= known:
        raise ReleaseError(
            f"{RECORD} must record the scores of the sample pictures, which verify a release: "
            f"{', '.join(sorted(known))}. Received: {list(recorded) or 'none'}. Train again with "
            "this version."
        )
    for name, digest in recorded.items():
        path = folder / "samples" / name
        if path.is_file() and sha256(path.read_bytes()).hexdigest() != digest:
            raise ReleaseError(
                f"{path} is not the sample picture that was scored. Copy it from tests/data, or "
                "train again."
            )
    return sorted([*recorded, "README.md", "ela.png"])


def content_of(file: bytes | Path) -> bytes:
    """Return the content of one of `Files`."""
    return file.read_bytes() if isinstance(file, Path) else file


def model_files(folder: Path) -> Files:
    """Return a saved model with the files that deploy it as an Inference Endpoint.

    Raises:
        ModelError: The settings of the model are not valid.
    """
    handler = Path(__file__).parent / "assets" / "handler.py"
    name, package = wheel()
    model = saved_files(folder)
    return {
        **{name: folder / name for name in model},
        "handler.py": handler.read_bytes(),
        "requirements.txt": requirements(*([] if ONNX_FILE in model else [BACKEND])).encode(),
        name: package,
    }


def _check(files: Files) -> None:
    for name, file in files.items():
        if isinstance(file, Path) and (file.is_symlink() or not file.is_file()):
            raise ReleaseError(
                f"The run folder has no file {name}, or has a link in its place. Copy the folder "
                "again, or train again."
            )
        if name.endswith((".json", ".md")):
            text = content_of(file).decode()
            private = _private_place(text) if name.endswith(".json") else None
            if private is None and (_TOKEN.search(text) or _names_home(text)):
                private = "an unknown place"
            if private:  # the text there may itself be a secret
                raise ReleaseError(
                    f"{name} holds a path of this machine or a token, at {private}. Remove it, or "
                    "train again."
                )


def _names_home(text: str) -> bool:
    home = str(Path.home())
    return len(home) > 1 and f"{home}/" in text  # "/" itself is in every address


def _private_place(text: str) -> str | None:
    """Return where JSON holds a path of a machine or a token."""
    found = (
        place
        for place, value in _strings(json.loads(text))
        if _PATH.search(value) or _TOKEN.search(value)
    )
    return next(found, None)


def _strings(value: Any, place: str = "$") -> Iterator[tuple[str, str]]:
    """Yield every string in JSON with its place, keys too."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"{place} (a key)", key
            yield from _strings(item, f"{place}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings(item, f"{place}[{number}]")
