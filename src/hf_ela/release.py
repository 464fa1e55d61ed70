"""What a release is made of: a run folder in, the files of a Hub repository out. No network.

Only the files listed in `release_files` ever leave the machine, and JSON with a path of this
machine or a token in it stays as well.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_ela.card import check_card, decode_card, make_card
from hf_ela.errors import ReleaseError
from hf_ela.package import requirements, wheel
from hf_ela.run_file import read_run
from hf_ela.saved import FILES as MODEL_FILES

__all__ = ["CARD", "Files", "contents", "model_files", "release_files"]

Files = Mapping[str, bytes | Path]
"""Path in the repository -> contents, or the local file that holds them."""

CARD = "README.md"
ENDPOINT_BACKEND = "jax"
"""The Keras backend that an endpoint installs: the smallest one."""

# An absolute path of Unix (of two parts or more, after a space, a quote or a bracket), of Windows,
# or below a home; and an access token of the Hub.
_PRIVATE = re.compile(r"(?:^|[\s'\"(\[=])(?:/[\w.-]+/|~/|[A-Za-z]:[\\/])|\bhf_[A-Za-z0-9]{20,}")


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
        card_before: The repository's card: what a person wrote in it stays. Without one, the card
            in the run folder takes its place.
        replace_card: Write the card anew instead.

    Raises:
        RunError: The run has not ended, or its record is damaged.
        ReleaseError: A file of the run is missing, or must not be published.
        CardError: The card cannot be made, or the Hub would refuse it.
    """
    run = read_run(run_folder)
    local = run_folder / CARD
    if card_before is None and local.is_file():
        card_before = local.read_bytes()
    previous = None if replace_card or card_before is None else decode_card(card_before)
    card = make_card(run, repo_id=repo_id, revision=revision, previous=previous)
    check_card(card)
    result = {key: run[key] for key in ("calibration", "evaluation")}
    files = {
        CARD: card.encode(),
        "run.json": run_folder / "run.json",
        "metrics.json": (json.dumps(result, indent=2, allow_nan=False) + "\n").encode(),
        **model_files(run_folder / "weights"),
        **{f"plots/{name}": run_folder / "plots" / name for name in run["plots"]},
        **{f"samples/{path.name}": path for path in sorted((run_folder / "samples").iterdir())},
    }
    _check(files)
    return files


def contents(file: bytes | Path) -> bytes:
    """Return the contents of one of `Files`."""
    return file.read_bytes() if isinstance(file, Path) else file


def model_files(folder: Path) -> Files:
    """Return a saved model, and what deploys it as an Inference Endpoint."""
    handler = Path(__file__).parent / "assets" / "handler.py"
    name, package = wheel()
    return {
        **{name: folder / name for name in sorted(MODEL_FILES)},
        "handler.py": handler.read_bytes(),
        "requirements.txt": requirements(ENDPOINT_BACKEND).encode(),
        name: package,
    }


def _check(files: Files) -> None:
    for name, content in files.items():
        if isinstance(content, Path) and not content.is_file():
            raise ReleaseError(
                f"A release needs {name}. Received: a run folder without {content.name}. "
                "Copy the folder again, or train again."
            )
        if name.endswith(".json"):
            for place, value in _strings(json.loads(contents(content))):
                if _PRIVATE.search(value):
                    # The value itself may be a secret.
                    raise ReleaseError(
                        "What is published must hold no path of this machine and no token. "
                        f"Received: one in {name}, at {place}. Mend it there, or train again."
                    )


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
