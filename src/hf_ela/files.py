"""Files that are written whole or not at all, and the folders that they may be written to."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_ela.errors import RunError


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
