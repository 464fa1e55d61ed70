"""Duplicates in a dataset and the order of its rows: they flatter a score without any file leak.

Pure. A copy is exact where the bytes of two files are the same, near where their perceptual hashes
are, as long as these are informative.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

NEAR_DUPLICATE_BITS = 3
"""Perceptual hashes (64 bits) that differ in at most this many bits are near-duplicates."""
FEWEST_BITS = 8
"""A hash with fewer bits set, or fewer unset, is uninformative: any flat picture and any even
gradient has none, a page with a few strokes of ink a few. Pictures of art have more, and so have
their copies, which may differ by `NEAR_DUPLICATE_BITS`."""
ROWS_AT_A_TIME = 256

Facts = Sequence[Mapping[str, Any]]
"""File facts of images: `file_name`, `perceptual_hash` and `key` (`hf_ela.data.rows`)."""


def near_duplicates(facts: Facts, others: Facts) -> np.ndarray:
    """Return bool per image: whether one of the others is a near-duplicate."""
    found = np.zeros(len(facts), bool)
    for start, near in near_blocks(fingerprints(facts), fingerprints(others)):
        found[start : start + len(near)] = near.any(axis=1)
    return found


def fingerprints(facts: Facts) -> np.ndarray:
    """Return what near-duplicates are found by, uint64 per image: the perceptual hash.

    An uninformative hash (`FEWEST_BITS`) is replaced by 64 bits of the file's SHA-256, which only
    the same file has.
    """
    found = np.array([row["perceptual_hash"] for row in facts], np.int64).view(np.uint64)
    bits = np.bitwise_count(found).astype(int)
    for index in np.flatnonzero(np.minimum(bits, 64 - bits) < FEWEST_BITS).tolist():
        found[index] = int.from_bytes(sha256(facts[index]["key"].encode()).digest()[:8])
    return found


def near_blocks(some: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield blocks of the matrix of which fingerprints are near which: first row, and bool rows.

    The whole matrix would not fit in memory for a large dataset.
    """
    for start in range(0, len(some), ROWS_AT_A_TIME):
        different = some[start : start + ROWS_AT_A_TIME, np.newaxis] ^ others
        yield start, np.bitwise_count(different) <= NEAR_DUPLICATE_BITS


def perceptual_hash(image: Image.Image) -> int:
    """Return the 64-bit difference hash: the signs of the horizontal gradient of a 9 x 8 thumbnail.

    Near-duplicates (another size, another JPEG quality) differ in a few bits; so do any two plain
    pictures (`hf_ela.data.duplicates.fingerprints`).
    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013.
    """
    thumbnail = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(np.diff(thumbnail) > 0).tobytes(), signed=True)


LISTED = 20
"""Pairs of each kind that are listed by name; all are counted."""

Splits = Mapping[str, Sequence[Mapping[str, Any]]]


def find_duplicates(splits: Splits) -> dict[str, Any]:
    """Count pairs of copies and list the first ones; memory grows with images, not with pairs.

    Args:
        splits: File facts of every image by split, with `file_name`, `label`, `key` and
            `perceptual_hash`.

    Returns:
        ``exact`` and ``near``, each with the numbers of ``pairs``, ``images`` in them, pairs
        ``across_splits`` and ``across_classes``; ``listed``, pairs with one label, those across
        splits first; and ``conflicts``, pairs with two labels.
    """
    images = [(split, row) for split, listed in splits.items() for row in listed]
    prints = fingerprints([row for _, row in images])
    keys = _numbered([row["key"] for _, row in images])
    sides = _numbered([split for split, _ in images])
    labels = _numbered([row["label"] for _, row in images])
    found = {kind: _Pairs(np.zeros(len(images), bool)) for kind in ("exact", "near")}
    for start, near in near_blocks(prints, prints):
        once = np.triu(near, start + 1)
        if once.any():
            rows = np.s_[start : start + len(near), np.newaxis]
            same = keys[rows] == keys
            crosses, conflicts = sides[rows] != sides, labels[rows] != labels
            found["exact"].add(start, once & same, crosses, conflicts)
            found["near"].add(start, once & ~same, crosses, conflicts)
    return {kind: pairs.summary(images) for kind, pairs in found.items()}


def _numbered(values: Sequence[Any]) -> np.ndarray:
    return np.unique(values, return_inverse=True)[1]


@dataclass
class _Pairs:
    """Counts of the pairs of one kind, and the first pairs by the numbers of their images."""

    members: np.ndarray
    pairs: int = 0
    across_splits: int = 0
    across_classes: int = 0
    crossing: list[tuple[int, int]] = field(default_factory=list)
    alike: list[tuple[int, int]] = field(default_factory=list)
    conflicts: list[tuple[int, int]] = field(default_factory=list)

    def add(
        self, start: int, pairs: np.ndarray, crosses: np.ndarray, conflicts: np.ndarray
    ) -> None:
        """Count some rows of the matrix of pairs, from row `start` on."""
        self.members[start : start + len(pairs)] |= pairs.any(axis=1)
        self.members |= pairs.any(axis=0)
        self.pairs += int(pairs.sum())
        self.across_splits += int((pairs & crosses).sum())
        self.across_classes += int((pairs & conflicts).sum())
        for listed, chosen in (
            (self.crossing, pairs & crosses & ~conflicts),
            (self.alike, pairs & ~crosses & ~conflicts),
            (self.conflicts, pairs & conflicts),
        ):
            first = np.flatnonzero(chosen)[: LISTED - len(listed)]
            rows, columns = np.unravel_index(first, chosen.shape)
            listed += zip((rows + start).tolist(), columns.tolist(), strict=True)

    def summary(self, images: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
        """Return one kind of `find_duplicates`, given the images with their splits."""
        return {
            "pairs": self.pairs,
            "images": int(self.members.sum()),
            "across_splits": self.across_splits,
            "across_classes": self.across_classes,
            "listed": [_named(images, pair) for pair in (self.crossing + self.alike)[:LISTED]],
            "conflicts": [_named(images, pair) for pair in self.conflicts],
        }


def _named(
    images: Sequence[tuple[str, Mapping[str, Any]]], pair: tuple[int, int]
) -> dict[str, Any]:
    both = [images[number] for number in pair]
    return {
        "files": [row["file_name"] for _, row in both],
        "splits": [split for split, _ in both],
        "labels": ["fake" if row["label"] else "real" for _, row in both],
    }


def class_order(splits: Splits) -> dict[str, dict[str, Any]]:
    """Return, for each split, its runs of rows of one class, and whether it is sorted by class."""
    found = {}
    for split, rows in splits.items():
        changes = sum(a["label"] != b["label"] for a, b in pairwise(rows))
        found[split] = {"runs": changes + bool(rows), "sorted": changes == 1 and len(rows) > 2}
    return found
