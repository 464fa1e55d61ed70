"""Files on their way to the Hub, and the check that they hold nothing private. No network."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_ela.errors import ReleaseError

Files = Mapping[str, bytes | Path]
"""Path in the repository -> content, or the local file that holds it."""

_JSON = (".json", ".ipynb")
# An absolute path of Unix (of two parts or more), of Windows, of a share, or below a home.
_PATH = re.compile(r"(?<![\w./])(?:/[\w.-]+/|~/|\\\\[\w.-]+\\)|(?<!\w)(?:[A-Za-z]:[\\/]|file:)")
_TOKEN = re.compile(r"\b(?:hf|ghp|gho|api_org)_[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{16}\b")


def content_of(file: bytes | Path) -> bytes:
    """Return the content of one of `Files`."""
    return file.read_bytes() if isinstance(file, Path) else file


def check_private(files: Files) -> None:
    """Refuse a path of this machine in JSON, and a token or the home folder in any text.

    Raises:
        ReleaseError: One has it, or a file is missing.
    """
    for name, file in files.items():
        if isinstance(file, Path) and (file.is_symlink() or not file.is_file()):
            raise ReleaseError(
                f"The run folder has no file {name}, or has a link in its place. Copy the folder "
                "again, or train again."
            )
        try:
            text = content_of(file).decode()
        except UnicodeDecodeError:  # numbers or pixels
            if name.endswith(_JSON):
                raise
            continue
        strings = _strings(json.loads(text)) if name.endswith(_JSON) else ()
        found = (at for at, value in strings if _PATH.search(value) or _TOKEN.search(value))
        private = next(found, None)
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
