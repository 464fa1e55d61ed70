"""Files that are written whole or not at all, and the folders that they may be written to."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from hf_ela._version import __version__
from hf_ela.errors import ModelError, RunError

__all__ = ["read_json"]


def check_output(folder: Path, data: str) -> None:
    """Refuse a folder for results before any work; nothing is made yet.

    Args:
        folder: Where results shall go.
        data: What they are made of, if it is a folder: it would become a part of that.

    Raises:
        RunError: The folder lies in the data, or cannot be written.
    """
    whole = folder.resolve()
    if Path(data).is_dir() and whole.is_relative_to(Path(data).resolve()):
        raise RunError(
            f"A folder for results must lie outside the data. Received: {folder} in {data}. "
            "Take another."
        )
    there = next(path for path in (whole, *whole.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        what = "cannot be written" if there.is_dir() else "is a file"
        raise RunError(
            f"A folder for results must be writable. Received: {folder}, where {there} {what}. "
            "Take another."
        )


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to, and rename it to `path` in the end.

    The name ends as `path` does, for writers that go by the ending. After an error nothing is
    left, and what was at `path` stays.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")


Model = TypeVar("Model", bound=BaseModel)
JSON_LIMIT = 2**24
"""Bytes of JSON that are read: room for 100,000 refused images."""


def read_json(path: Path, kind: type[Model], schema: int) -> Model:
    """Read JSON that anybody may have written; of a key that comes twice, the last counts.

    Raises:
        ModelError: It is too large, no JSON, of a schema above `schema`, or not a valid `kind`.
    """
    with path.open("rb") as file:
        text = file.read(JSON_LIMIT + 1)
    if len(text) > JSON_LIMIT:
        raise ModelError(
            f"{path.name} has at most {JSON_LIMIT:,} bytes. Received: {path}, which is larger. "
            "It is damaged, or was not made by hf-ela: do not use it."
        )
    try:
        values = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ModelError(f"{path} must be JSON: {error}. Copy the folder again.") from None
    found = values.get("schema") if isinstance(values, dict) else None
    if isinstance(found, int) and found > schema:
        raise ModelError(
            f"`schema` of {path} must be at most {schema} for hf-ela {__version__}. "
            f"Received: schema={found}, of a newer version. Upgrade: pip install -U hf-ela"
        )
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"`{'.'.join(map(str, problem['loc']))[:100]}`: {problem['msg'][:300]}"
            for problem in error.errors(include_url=False)[:12]  # not a book, of a hostile file
        ]
        raise ModelError(
            f"{path} is not valid: {'; '.join(problems)}. Copy the folder again, or save the model "
            "again."
        ) from None
