"""Folders that are searched: links followed, and no folder read twice."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "__pycache__"})


def walk_once(
    tops: Iterable[str],
    refuse: Callable[[OSError], None],
    is_entered: Callable[[str], bool] = lambda folder: True,
) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder with the names of its files, in a fixed order.

    What is hidden or left behind by a system is passed over. The links to folders in a top are
    followed after the rest of it. They may form loops, or lead to a folder that has been read: a
    warning names such a link.

    Args:
        tops: Where to search, one after the other.
        refuse: Called with the error of a folder that cannot be read.
        is_entered: Whether a folder below the tops is searched.
    """
    seen: dict[tuple[int, int], str] = {}
    waiting = list(reversed(list(tops)))
    while waiting:
        top = waiting.pop()
        links: list[str] = []
        for folder, within, names in os.walk(top, onerror=refuse):
            about = Path(folder).stat()
            if first := seen.get((about.st_dev, about.st_ino)):
                within.clear()
                if first != folder and Path(folder).is_symlink():
                    logger.warning("%s is not read again: it is %s.", folder, first)
                continue
            seen[about.st_dev, about.st_ino] = folder
            below = {
                name: os.path.join(folder, name)  # noqa: PTH118  (a Path drops a leading ./)
                for name in sorted(filter(_is_kept, within))
            }
            within[:] = [name for name, path in below.items() if is_entered(path)]
            links += [below[name] for name in within if Path(below[name]).is_symlink()]
            yield folder, sorted(filter(_is_kept, names))
        waiting += reversed(links)


def _is_kept(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _SYSTEM_FILES
