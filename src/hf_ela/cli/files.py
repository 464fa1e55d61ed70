"""Which pictures the words of `hf-ela predict` name."""

import os
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from hf_ela.errors import RunError


class Shard(NamedTuple):
    """Every N-th picture, from the one at `number` on: N commands share all of them."""

    number: int
    of: int

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Read ``2/4``.

        Raises:
            ArgumentTypeError: There is no such shard.
        """
        number, _, of = text.partition("/")
        if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
            return cls(int(number), int(of))
        raise ArgumentTypeError(f"must be I/N with I from 1 to N, such as 2/4. Received: {text}.")

    def __str__(self) -> str:
        """Return what `parsed` reads."""
        return f"{self.number}/{self.of}"

    def part(self, files: list[str]) -> list[str]:
        """Return those of the files, in their order."""
        return files[self.number - 1 :: self.of]


def check_path(path: str) -> None:
    """Refuse what is neither a file nor a folder of pictures."""
    if "://" in path and not os.path.exists(path):  # noqa: PTH110  (a Path raises for long text)
        raise RunError(
            f"Pictures are read from files and folders. Received: {path}. Save the picture as "
            "a file first, and name that."
        )
    if not _is_searched(path):
        raise RunError(
            f"A folder to search must hold pictures. Received: {path}, the folder of a model. Pass "
            f"it as the model: hf-ela predict PICTURE --model {path}"
        )


def _is_searched(folder: str) -> bool:
    """Return whether a folder is not a model or a run: their plots are not pictures to score."""
    from hf_ela.models.settings import SETTINGS_FILE

    records = (f"{folder}/{name}" for name in (SETTINGS_FILE, "run.json"))
    return not any(map(os.path.isfile, records))


def named_files(paths: Sequence[str], others: list[str]) -> Iterator[str]:
    """Yield the files named, and the images in the folders named; an empty folder as itself.

    Models and runs in them are skipped. Files that are no pictures by their names join `others`.
    """
    from hf_ela.images.folders import walk_once
    from hf_ela.images.sources import IMAGE_SUFFIXES, UNREAD_SUFFIXES

    def refuse(error: OSError) -> None:
        unreadable.append(os.fsdecode(error.filename))

    for path in paths:
        unreadable: list[str] = []  # subfolders that may not be read: refused when they are opened
        found: list[str] = []
        for folder, names in walk_once([path], refuse, _is_searched):
            for name in names:
                is_picture = Path(name).suffix.lower() in IMAGE_SUFFIXES | UNREAD_SUFFIXES
                place = os.path.join(folder, name)  # noqa: PTH118  (a Path would drop a leading ./)
                (found if is_picture else others).append(place)
        yield from sorted(found + [name for name in unreadable if name != path]) or [path]
