"""Which images belong together: groups from a CSV, near-duplicates by perceptual hash."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from hf_ela.errors import DataError

NEAR_DUPLICATE_BITS = 3
"""Perceptual hashes (64 bits) that differ in at most so many bits are near-duplicates."""


@dataclass(frozen=True)
class GroupTable:
    """Groups and sources by file name, from a CSV with `file_name,group` and perhaps `source`."""

    rows: dict[str, dict[str, str]]
    path: Path | None = None

    @classmethod
    def read(cls, path: str | Path | None) -> "GroupTable":
        """Read the CSV; ``None`` gives an empty table.

        A row is found by the path inside the dataset, or by the bare file name where only one
        row has it (Parquet keeps no folders).

        Raises:
            DataError: The file is missing, or has not the two columns.
        """
        if path is None:
            return cls({})
        try:
            with Path(path).open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                if not {"file_name", "group"} <= set(reader.fieldnames or ()):
                    raise DataError(
                        "A groups file is a CSV with the columns file_name and group. "
                        f"Received: {path} with the columns {reader.fieldnames}."
                    )
                listed = {row["file_name"]: row for row in reader}
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"The groups file {path} cannot be read: {error}") from None
        bare: dict[str, list[dict[str, str]]] = {}
        for name, row in listed.items():
            bare.setdefault(PurePosixPath(name).name, []).append(row)
        unique = {name: rows[0] for name, rows in bare.items() if len(rows) == 1}
        return cls(unique | listed, Path(path))

    def get(self, file_name: str, column: str) -> str | None:
        """Return a column of an image's row; ``None`` where the table does not know."""
        row = self.rows.get(file_name) or self.rows.get(PurePosixPath(file_name).name)
        return (row.get(column) or None) if row else None


def clusters(file_names: Sequence[str], hashes: Sequence[int], groups: GroupTable) -> np.ndarray:
    """Return a cluster number per image: one group, or a chain of near-duplicates, is a cluster."""
    first: dict[str, int] = {}
    edges = [
        (index, first.setdefault(group, index))
        for index, name in enumerate(file_names)
        if (group := groups.get(name, "group"))
    ]
    edges += _near_duplicates(np.array(hashes, np.int64).view(np.uint64))
    left, right = np.array(edges or [(0, 0)]).T
    n = len(file_names)
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


def _near_duplicates(hashes: np.ndarray) -> list[tuple[int, int]]:
    pairs = []
    for start in range(0, len(hashes), 256):  # 256 rows of the matrix at a time
        block = hashes[start : start + 256, np.newaxis] ^ hashes[np.newaxis, :]
        rows, columns = np.nonzero(np.bitwise_count(block) <= NEAR_DUPLICATE_BITS)
        pairs += list(zip((rows + start).tolist(), columns.tolist(), strict=True))
    return [(a, b) for a, b in pairs if a < b]


def grouped_split(
    labels: np.ndarray, members: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows about `fraction` to the second side, whole clusters, classes balanced.

    Returns:
        Row numbers of the larger and the smaller side, each in ascending order.

    Raises:
        DataError: Too few clusters for such a split.
    """
    folds = max(2, round(1 / fraction))
    counts = [len(np.unique(members[labels == label])) for label in np.unique(labels)]
    if len(counts) < 2 or min(counts) < folds:
        raise DataError(
            f"A split that holds out {fraction:.0%} needs at least {folds} groups of each class. "
            f"Received: {counts} groups. Give more images, or a smaller validation.fraction."
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    kept, held = next(splitter.split(labels, labels, members))
    return kept, held
