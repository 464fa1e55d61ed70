"""Which images belong together: groups from a CSV, near-duplicates; splits that respect them."""

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

from hf_ela.data.duplicates import Facts, fingerprints, near_blocks
from hf_ela.errors import DataError

GROUP_COLUMNS = ("group", "source", "generator")


@dataclass(frozen=True)
class GroupTable:
    """A CSV about files: `file_name,group` and, optionally, `source` and `generator`.

    Attributes:
        rows: The CSV's rows by `file_name`.
        bare: The rows whose file has a unique name, whatever its folder, by that name.
        sha256: SHA-256 of the CSV; None without one.
    """

    rows: dict[str, dict[str, str]]
    bare: dict[str, dict[str, str]]
    sha256: str | None = None

    @classmethod
    def read(cls, path: str | Path | None) -> "GroupTable":
        """Read the CSV; ``None`` gives an empty table.

        Raises:
            DataError: The file is missing, lacks one of the two columns, or contradicts itself.
        """
        if path is None:
            return cls({}, {})
        try:
            content = Path(path).read_bytes()
            reader = csv.DictReader(StringIO(content.decode("utf-8-sig"), newline=""))
            listed = [row for row in reader if row.get("file_name")]
        except FileNotFoundError:
            raise DataError(f"The groups file {path} does not exist. Check the path.") from None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"The groups file {path} cannot be read: {error}") from None
        if not {"file_name", "group"} <= set(reader.fieldnames or ()):
            raise DataError(
                "A groups file is a CSV with the columns file_name and group. "
                f"Received: {path} with {', '.join(reader.fieldnames or ()) or 'no columns'}. "
                "Rename the columns."
            )
        rows: dict[str, dict[str, str]] = {}
        last_parts: dict[str, list[dict[str, str]]] = {}
        for row in listed:
            name = row["file_name"]
            if rows.setdefault(name, row) != row:
                raise DataError(f"{path} has two different rows for {name}. Remove one of them.")
            last_parts.setdefault(PurePosixPath(name).name, []).append(row)
        bare = {name: same[0] for name, same in last_parts.items() if len(same) == 1}
        return cls(rows, bare, sha256(content).hexdigest())

    def get(self, file_name: str, column: str) -> str | None:
        """Return a column of an image's row; None where the table does not have it.

        A row is found by the path inside the dataset, or by the bare file name where either side
        has no folder (Parquet keeps none) and only one row has that name.
        """
        row = self.rows.get(file_name)
        if row is None:
            found = self.bare.get(PurePosixPath(file_name).name)
            if found and not ("/" in file_name and "/" in found["file_name"]):
                row = found
        return (row.get(column) or None) if row else None

    def columns(self, file_names: Sequence[str]) -> dict[str, list[str | None]]:
        """Return `group`, `source` and `generator` of each image; None where not known."""
        return {column: [self.get(name, column) for name in file_names] for column in GROUP_COLUMNS}

    def matched(self, file_names: Sequence[str]) -> int:
        """Return how many of the images have a group in the table.

        Raises:
            DataError: None has one, though a table was given: it belongs to another dataset.
        """
        found = sum(self.get(name, "group") is not None for name in file_names)
        if self.sha256 and not found:
            raise DataError(
                f"The groups file names {len(self.rows)} images, none of this dataset, which has "
                f"such as {', '.join(file_names[:1])}. Give the CSV of this dataset, with paths "
                "inside its folder."
            )
        return found


def clusters(facts: Facts, groups: GroupTable) -> np.ndarray:
    """Number the cluster of each image: a group, or a chain of near-duplicates, is a cluster."""
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


def grouped_split(
    labels: np.ndarray, members: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Move about `fraction` of the rows to a second side: whole clusters, classes balanced.

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
            f"Holding out {fraction:.0%} needs at least {folds} groups of each class. "
            f"Received: {' and '.join(map(str, counts))} groups. Add images, or choose a "
            "rounder validation.fraction."
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parts = [part for _, part in splitter.split(labels, labels, members)]
    held = np.sort(np.concatenate(parts[: share.numerator]))
    return np.setdiff1d(np.arange(len(labels)), held), held
