"""What a release is made of: a run folder in, the files of a Hub repository out. No network.

Only the files named in `release_files` and `model_files` ever leave the machine. JSON with a path
of this machine in it stays as well, and so does any text with a token.
"""

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from hf_ela.errors import ReleaseError
from hf_ela.hub.card import CAPTIONS, decode_card, has_text, make_card
from hf_ela.hub.samples import sample_pictures
from hf_ela.hub.wheel import requirements, wheel
from hf_ela.models.folder import saved_files
from hf_ela.models.settings import ONNX_FILE
from hf_ela.run_record import read_run

__all__ = ["CARD", "RECORD", "Files", "contents", "model_files", "release_files"]

Files = Mapping[str, bytes | Path]
"""Path in the repository -> contents, or the local file that holds them."""

CARD = "README.md"
RECORD = "run.json"
BACKEND = "jax"
"""The Keras backend that an endpoint or a Space installs for a model without ONNX: the smallest."""

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
        run_folder: A complete run folder.
        repo_id: ``user/name``, for the card's snippets.
        revision: Tag of the release, for the same.
        card_before: The repository's card: what a person wrote in it stays. Where it has no text,
            the card in the run folder takes its place.
        replace_card: Take the card in the run folder all the same.

    Raises:
        RunError: The run has not ended, or its record is damaged.
        ReleaseError: A file of the run is missing, or must not be published.
        CardError: The card cannot be made, or the Hub would refuse it.
    """
    run = read_run(run_folder)
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
    """Return the plots of a run that a card shows; others may show images of the dataset."""
    plots = run.get("plots")
    if not isinstance(plots, list) or not set(plots) <= set(CAPTIONS):
        raise ReleaseError(
            f"`plots` of run.json must be a list of {', '.join(CAPTIONS)}. Received: {plots!r}. "
            "Train again with this version."
        )
    return plots


def _samples(run: Mapping[str, Any], folder: Path) -> list[str]:
    """Return the sample pictures with recorded scores, and what belongs to them.

    Verification rests on them, so that there must be some, as they were scored.
    """
    recorded = {sample["file"]: sample["sha256"] for sample in run.get("samples") or []}
    known = set(sample_pictures())
    if not recorded or not set(recorded) <= known:
        raise ReleaseError(
            "A release is verified by the recorded scores of the sample pictures, "
            f"{', '.join(sorted(known))}. Received: a run.json with {list(recorded) or 'none'}. "
            "Train again with this version."
        )
    for name, digest in recorded.items():
        path = folder / "samples" / name
        if path.is_file() and sha256(path.read_bytes()).hexdigest() != digest:
            raise ReleaseError(
                f"A sample picture must be the one that was scored. Received: another {path}. "
                "Copy it from model_card/samples, or train again."
            )
    return sorted([*recorded, "README.md", "ela.png"])


def contents(file: bytes | Path) -> bytes:
    """Return the contents of one of `Files`."""
    return file.read_bytes() if isinstance(file, Path) else file


def model_files(folder: Path) -> Files:
    """Return a saved model, and what deploys it as an Inference Endpoint.

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
                f"A release needs {name}, and as a file. Received: a run folder without "
                f"{file.name}, or with a link. Copy the folder again, or train again."
            )
        if name.endswith((".json", ".md")):
            text = contents(file).decode()
            private = _private_place(text) if name.endswith(".json") else None
            if private is None and (_TOKEN.search(text) or _names_home(text)):
                private = "some place"
            if private:  # what stands there may itself be a secret
                raise ReleaseError(
                    "What is published must hold no path of this machine and no token. "
                    f"Received: one in {name}, at {private}. Mend it there, or train again."
                )


def _names_home(text: str) -> bool:
    home = str(Path.home())
    return len(home) > 1 and f"{home}/" in text  # "/" itself is in every address


def _private_place(text: str) -> str | None:
    """Return where in JSON a path of a machine or a token stands."""
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
