"""Which images belong together: groups from a CSV, near-duplicates by perceptual hash."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from io import StringIO
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
    """What a CSV knows of files: `file_name,group`, and perhaps `source` and `generator`.

    Attributes:
        rows: The CSV's rows by `file_name`.
        bare: Those whose last part of the name no other row has, by that part.
        sha256: Of the CSV; None without one.
    """

    rows: dict[str, dict[str, str]]
    bare: dict[str, dict[str, str]]
    sha256: str | None = None

    @classmethod
    def read(cls, path: str | Path | None) -> "GroupTable":
        """Read the CSV; ``None`` gives an empty table.

        Raises:
            DataError: The file is missing, has not the two columns, or contradicts itself.
        """
        if path is None:
            return cls({}, {})
        try:
            content = Path(path).read_bytes()
            reader = csv.DictReader(StringIO(content.decode("utf-8-sig"), newline=""))
            listed = [row for row in reader if row.get("file_name")]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"The groups file {path} cannot be read: {error}") from None
        if not {"file_name", "group"} <= set(reader.fieldnames or ()):
            raise DataError(
                "A groups file is a CSV with the columns file_name and group. "
                f"Received: {path} with the columns {reader.fieldnames}."
            )
        rows: dict[str, dict[str, str]] = {}
        last_parts: dict[str, list[dict[str, str]]] = {}
        for row in listed:
            name = row["file_name"]
            if rows.setdefault(name, row) != row:
                raise DataError(f"A file has one group. Received: {path} with two for {name}.")
            last_parts.setdefault(PurePosixPath(name).name, []).append(row)
        bare = {name: same[0] for name, same in last_parts.items() if len(same) == 1}
        return cls(rows, bare, sha256(content).hexdigest())

    def get(self, file_name: str, column: str) -> str | None:
        """Return a column of an image's row; None where the table does not know.

        A row is found by the path inside the dataset. By the bare file name too, where either
        side has no folder (Parquet keeps none) and only one row has that name.
        """
        row = self.rows.get(file_name)
        if row is None:
            found = self.bare.get(PurePosixPath(file_name).name)
            if found and not ("/" in file_name and "/" in found["file_name"]):
                row = found
        return (row.get(column) or None) if row else None


def clusters(file_names: Sequence[str], hashes: Sequence[int], groups: GroupTable) -> np.ndarray:
    """Return a cluster number per image: one group, or a chain of near-duplicates, is a cluster."""
    first: dict[str, int] = {}
    edges = [
        (index, first.setdefault(group, index))
        for index, name in enumerate(file_names)
        if (group := groups.get(name, "group"))
    ]
    edges += near_pairs(hashes)
    left, right = np.array(edges or [(0, 0)]).T
    n = len(file_names)
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


def near_pairs(hashes: Sequence[int]) -> list[tuple[int, int]]:
    """Return every pair of near-duplicates once, the lower number first."""
    unsigned = _unsigned(hashes)
    return [(a, b) for a, b in _near_pairs(unsigned, unsigned) if a < b]


def near_duplicates(hashes: Sequence[int], others: Sequence[int]) -> np.ndarray:
    """Return bool per hash: whether one of the others is a near-duplicate."""
    found = np.zeros(len(hashes), bool)
    found[[row for row, _ in _near_pairs(_unsigned(hashes), _unsigned(others))]] = True
    return found


def _unsigned(hashes: Sequence[int]) -> np.ndarray:
    return np.array(hashes, np.int64).view(np.uint64)


def _near_pairs(hashes: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes), 256):  # 256 rows of the matrix at a time
        block = hashes[start : start + 256, np.newaxis] ^ others[np.newaxis, :]
        rows, columns = np.nonzero(np.bitwise_count(block) <= NEAR_DUPLICATE_BITS)
        pairs += zip((rows + start).tolist(), columns.tolist(), strict=True)
    return pairs


def grouped_split(
    labels: np.ndarray, members: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows about `fraction` to the second side, whole clusters, classes balanced.

    Returns:
        Row numbers of the larger and the smaller side, each in ascending order.

    Raises:
        DataError: Too few clusters for such a split.
    """
    share = max(Fraction(fraction).limit_denominator(20), Fraction(1, 20))
    folds = share.denominator
    counts = [len(np.unique(members[labels == label])) for label in np.unique(labels)]
    if len(counts) < 2 or min(counts) < folds:
        raise DataError(
            f"A split that holds out {fraction:.0%} needs at least {folds} groups of each class. "
            f"Received: {counts} groups. Give more images, or a rounder validation.fraction."
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parts = [part for _, part in splitter.split(labels, labels, members)]
    held = np.sort(np.concatenate(parts[: share.numerator]))
    return np.setdiff1d(np.arange(len(labels)), held), held
