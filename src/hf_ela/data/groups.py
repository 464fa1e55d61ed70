"""Which images belong together: groups from a CSV, near-duplicates; splits that respect them."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
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

from hf_ela.data.duplicates import Facts, fingerprints, near_pairs
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
        return {column: self.column(file_names, column) for column in GROUP_COLUMNS}

    def column(self, file_names: Sequence[str], column: str) -> list[str | None]:
        """Return a column of each image; None where not known."""
        return [self.get(name, column) for name in file_names]

    def sources(self, file_names: Sequence[str]) -> list[dict[str, Any]]:
        """Return each source with the number of its images, and its column `licence`, if any."""
        images = Counter(self.column(file_names, "source"))
        licences = dict(
            zip(*(self.column(file_names, c) for c in ("source", "licence")), strict=True)
        )
        return [
            {"source": name, "n": images[name], "licence": licences[name]}
            for name in sorted(filter(None, images))
        ]

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


def split_table(groups: GroupTable, splits: Mapping[str, Facts]) -> str:
    """Return a CSV by which others can check a split, without a name of a file or of a group.

    Each image has the SHA-256 of its file, a number for its group (empty without one), and its
    split.

    Args:
        groups: Has the groups.
        splits: The images of each split.
    """
    images = sorted(
        (facts["key"], name, groups.get(facts["file_name"], "group") or "")
        for name, split in splits.items()
        for facts in split
    )
    numbers: dict[str, int] = {"": 0}
    file = StringIO(newline="")
    table = csv.writer(file, lineterminator="\n")
    table.writerow(("sha256", "group", "split"))
    for key, name, group in images:
        table.writerow((key, numbers.setdefault(group, len(numbers)) or "", name))
    return file.getvalue()


def check_parts(
    column: str, labels: np.ndarray, file_names: Sequence[str], groups: GroupTable
) -> None:
    """Check that the sources of training images can be left out part by part.

    Args:
        column: The column that names the part of an image.
        labels: 1 for fake, 0 for real, of each image.
        file_names: The name of each image.
        groups: Has its source and its part.

    Raises:
        DataError: There are fewer than two parts, a source lies in two of them, or without one of
            them a class has no image.
    """
    rule = f"`calibration.left_out` divides the sources into parts, by the column {column}"
    sources, parts = (groups.column(file_names, name) for name in ("source", column))
    distinct = {part for part in parts if part}
    if len(distinct) < 2:
        raise DataError(
            f"{rule} of the groups file. Received: {len(distinct)} parts. Add the column, with two "
            "parts at least, or leave the setting out."
        )
    of_source: dict[str | None, set[str | None]] = {}
    for source, part in zip(sources, parts, strict=True):
        of_source.setdefault(source, set()).add(part)
    if divided := [name for name, found in of_source.items() if name and len(found) > 1]:
        raise DataError(f"{rule}. Received: the source {divided[0]} in more than one part.")
    for part in sorted(distinct):
        rest = {label for label, other in zip(labels.tolist(), parts, strict=True) if other != part}
        if len(rest) < 2:
            raise DataError(f"{rule}. Received: without part {part}, a class has no image.")


def clusters(facts: Facts, groups: GroupTable) -> np.ndarray:
    """Number the cluster of each image: a group, or a chain of near-duplicates, is a cluster."""
    n = len(facts)
    distinct, position = np.unique(fingerprints(facts), return_inverse=True)
    # Nodes are the images, then the distinct fingerprints: equal images take no edge per pair.
    edges = [np.stack([np.arange(n), n + position])]
    edges += [n + np.stack(pairs) for pairs in near_pairs(distinct)]
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
    labels: np.ndarray,
    members: np.ndarray,
    fraction: float,
    seed: int,
    remedy: str = "Add images.",
) -> tuple[np.ndarray, np.ndarray]:
    """Move about `fraction` of the rows to a second side: whole clusters, classes balanced.

    With too few clusters for that, `remedy` is what to do.

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
            f"Received: {' and '.join(map(str, counts))} groups, counting near-duplicates "
            f"as one. {remedy}"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parts = [part for _, part in splitter.split(labels, labels, members)]
    held = np.sort(np.concatenate(parts[: share.numerator]))
    return np.setdiff1d(np.arange(len(labels)), held), held
