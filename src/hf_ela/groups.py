"""Which images belong together: groups from a CSV, near-duplicates by perceptual hash."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from hf_ela.errors import DataError

NEAR_DUPLICATE_BITS = 3
"""Perceptual hashes (64 bits) that differ in at most so many bits are near-duplicates."""
FEWEST_BITS = 8
"""Of a hash with fewer set, or fewer unset, nothing follows: any flat picture and any even gradient
has none, a page with a few strokes of ink a few. Pictures of art have more, and so have their
copies, which may differ by `NEAR_DUPLICATE_BITS`: a test looks at some."""
ROWS_AT_A_TIME = 256

Facts = Sequence[Mapping[str, Any]]
"""Of images: `file_name`, `perceptual_hash` and `key` (`hf_ela.rows`)."""


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

    def matched(self, file_names: Sequence[str]) -> int:
        """Return of how many images the table knows the group.

        Raises:
            DataError: It is of none, though a table was given: it is that of another dataset.
        """
        found = sum(self.get(name, "group") is not None for name in file_names)
        if self.sha256 and not found:
            raise DataError(
                "The groups file must name images of the dataset, such as "
                f"{', '.join(file_names[:1])}. Received: one of {len(self.rows)} rows, which names "
                "none. Take the CSV of this dataset, with names as inside its folder."
            )
        return found


def clusters(facts: Facts, groups: GroupTable) -> np.ndarray:
    """Return a cluster number per image: one group, or a chain of near-duplicates, is a cluster."""
    n = len(facts)
    distinct, position = np.unique(fingerprints(facts), return_inverse=True)
    # Nodes are the images, then the distinct fingerprints: equal images take no edge per pair.
    edges = [np.stack([np.arange(n), n + position])]
    for start, near in near_blocks(distinct, distinct):
        edges.append(n + np.stack(np.nonzero(near)) + [[start], [0]])
    first: dict[str, int] = {}
    edges += [
        np.array([[index], [first.setdefault(group, index)]])
        for index, row in enumerate(facts)
        if (group := groups.get(row["file_name"], "group"))
    ]
    left, right = np.concatenate(edges, axis=1)
    nodes = n + len(distinct)
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1][:n])


def near_duplicates(facts: Facts, others: Facts) -> np.ndarray:
    """Return bool per image: whether one of the others is a near-duplicate."""
    found = np.zeros(len(facts), bool)
    for start, near in near_blocks(fingerprints(facts), fingerprints(others)):
        found[start : start + len(near)] = near.any(axis=1)
    return found


def fingerprints(facts: Facts) -> np.ndarray:
    """Return what near-duplicates are told by, uint64 per image: the perceptual hash.

    Where a hash says next to nothing (`FEWEST_BITS`) it is 64 bits of the file's sum, which only
    the same file has.
    """
    found = np.array([row["perceptual_hash"] for row in facts], np.int64).view(np.uint64)
    bits = np.bitwise_count(found).astype(int)
    for index in np.flatnonzero(np.minimum(bits, 64 - bits) < FEWEST_BITS).tolist():
        found[index] = int.from_bytes(sha256(facts[index]["key"].encode()).digest()[:8])
    return found


def near_blocks(some: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield which fingerprints are near which others: a first row, and bool for some rows of all.

    The whole matrix would not fit in memory for a large dataset.
    """
    for start in range(0, len(some), ROWS_AT_A_TIME):
        different = some[start : start + ROWS_AT_A_TIME, np.newaxis] ^ others
        yield start, np.bitwise_count(different) <= NEAR_DUPLICATE_BITS


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
