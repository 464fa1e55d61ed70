"""Files that are written whole or not at all, where they may go, and JSON read without trust."""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC, EROFS
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from hf_ela._version import __version__
from hf_ela.errors import ModelError, RunError

if TYPE_CHECKING:
    from pydantic import BaseModel

logger = logging.getLogger(__name__)


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
            "Choose another folder."
        )
    there = next(path for path in (whole, *whole.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        what = "is not writable" if there.is_dir() else "is a file"
        raise RunError(
            f"A folder for results must be writable. Received: {folder}, but {there} {what}. "
            "Choose another folder."
        )


def disk_full(error: BaseException) -> str | None:
    """Return what the system says where an error is that nothing can be written to a disk.

    HDF5 and the client of the Hub have the number of such an error only in their text.
    """
    found = re.search(r"\b(?:os error|errno =) (\d+)", str(error))
    number = int(found[1]) if found else getattr(error, "errno", None)
    return os.strerror(number) if number in (ENOSPC, EDQUOT, EFBIG, EROFS) else None


@contextmanager
def named_if_full(path: Path) -> Iterator[None]:
    """Name what is written in the block if the disk is full.

    Raises:
        RunError: It is.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if reason := disk_full(error):
            place = getattr(error, "filename", None) or path
            raise RunError(f"{reason}: {place}. Free space, and repeat the command.") from error
        raise


LOCK, TEMPORARY = ".lock", ".hf_ela-"
"""Name of a file that holds a folder, and how the names of unfinished files begin."""
SILENT = 1.0
"""Seconds for which another process is waited for without a word."""


@contextmanager
def held_alone(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold an existing folder for this process alone; a process that dies lets go of it.

    Args:
        folder: What is held.
        wait: Wait until another process is done, and say so.

    Raises:
        RunError: Another process holds the folder, and is not waited for.
    """
    from filelock import FileLock, Timeout  # training alone needs it

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=SILENT if wait else 0)
    except Timeout:
        if not wait:
            raise RunError(
                f"Another process still works in {folder}. Wait for it, or stop it."
            ) from None
        logger.warning("Waiting for another process that works in %s ...", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sweep(folder: Path, *patterns: str) -> None:
    """Remove what killed processes left unfinished in a folder that is held alone.

    These are files and folders with names that begin with `TEMPORARY`, and of further patterns.
    """
    for pattern in (f"{TEMPORARY}*", *patterns):
        for left in list(folder.glob(pattern)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to, and rename it to `path` in the end.

    No other process has the name, on any machine, and it is no longer than a name may be. It ends
    as `path` does, for writers that go by the ending. After an error nothing is left, and what was
    at `path` stays.
    """
    temporary = path.with_name(f"{TEMPORARY}{uuid4().hex}{path.name[-20:]}")
    try:
        with named_if_full(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")


Model = TypeVar("Model", bound="BaseModel")
JSON_LIMIT = 2**22
"""Bytes of JSON that are read: room for 25,000 refused images. Reading takes 30 times as many."""


def read_json(path: Path, kind: type[Model], schema: int) -> Model:
    """Read JSON from an untrusted file into a `kind`; the last of duplicate keys counts.

    Raises:
        ModelError: It is too large, not JSON, newer than `schema`, or not a valid `kind`.
    """
    from pydantic import ValidationError  # takes longer to start than a small command takes
    from pydantic_core import from_json

    with path.open("rb") as file:
        text = file.read(JSON_LIMIT + 1)
    if len(text) > JSON_LIMIT:
        raise ModelError(
            f"{path.name} must have at most {JSON_LIMIT:,} bytes. Received: a larger {path}. "
            "It is corrupt, or was not made by hf-ela."
        )
    try:
        values = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ModelError(f"{path} must be JSON: {error}. Copy the folder again.") from None
    found = values.get("schema") if isinstance(values, dict) else None
    if isinstance(found, bool):  # to a literal, true is 1
        raise ModelError(f"`schema` of {path} must be a number. Copy the folder again.")
    del values
    if isinstance(found, int) and found > schema:
        raise ModelError(
            f"`schema` of {path} must be at most {schema} for hf-ela {__version__}. "
            f"Received: schema={found}, from a newer hf-ela. Upgrade hf-ela."
        )
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"`{'.'.join(map(str, problem['loc']))[:100]}`: {problem['msg'][:300]}"
            for problem in error.errors(include_url=False)[:12]  # not a book, of a hostile file
        ]
        raise ModelError(
            f"{path} is not valid: {'; '.join(problems)}. Copy or save it again."
        ) from None
