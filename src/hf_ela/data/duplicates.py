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
import pandas as pd
from PIL import Image

NEAR_DUPLICATE_BITS = 3
"""Perceptual hashes (64 bits) that differ in at most this many bits are near-duplicates."""
FEWEST_BITS = 8
"""A hash with fewer bits set, or fewer unset, is uninformative: any flat picture and any even
gradient has none, a page with a few strokes of ink a few. Pictures of art have more, and so have
their copies, which may differ by `NEAR_DUPLICATE_BITS`."""
BANDS, BAND_BITS = NEAR_DUPLICATE_BITS + 1, 64 // (NEAR_DUPLICATE_BITS + 1)
"""A near-duplicate differs in none of the bits of one of so many bands at least."""
PAIRS_AT_A_TIME = 2**16

Facts = Sequence[Mapping[str, Any]]
"""File facts of images: `file_name`, `perceptual_hash` and `key` (`hf_ela.data.rows`)."""


def near_duplicates(facts: Facts, others: Facts) -> np.ndarray:
    """Return bool per image: whether one of the others is a near-duplicate."""
    found = np.zeros(len(facts), bool)
    for rows, _ in near_pairs(fingerprints(facts), fingerprints(others)):
        found[rows] = True
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


def near_pairs(
    some: np.ndarray, others: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs of near fingerprints, each once: their numbers in both arrays, int64.

    Only fingerprints with an equal band are compared, which loses no pair.

    Args:
        some: Fingerprints.
        others: What they are compared with; by default each other, in any order.
    """
    for band in range(BANDS):
        keys = _band(some, band)
        rows, keys = _sorted(keys)
        if others is None:
            columns, first = rows, np.arange(1, len(rows) + 1)
            last = np.searchsorted(keys, keys, "right")
        else:
            columns, theirs = _sorted(_band(others, band))
            first, last = (np.searchsorted(theirs, keys, side) for side in ("left", "right"))
        ends = np.cumsum(last - first)
        start = 0
        while start < len(rows):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_AT_A_TIME)))
            counts = last[start:stop] - first[start:stop]
            at = np.repeat(np.arange(start, stop), counts)
            within = np.arange(len(at)) - np.repeat(ends[start:stop] - counts - done, counts)
            pair = rows[at], columns[first[at] + within]
            different = some[pair[0]] ^ (some if others is None else others)[pair[1]]
            near = np.bitwise_count(different) <= NEAR_DUPLICATE_BITS
            for earlier in range(band):
                near &= _band(different, earlier) != 0  # else that band has found it
            if near.any():
                yield pair[0][near], pair[1][near]
            start = stop


def _band(fingerprints: np.ndarray, band: int) -> np.ndarray:
    return (fingerprints >> np.uint64(BAND_BITS * band)).astype(np.uint16)


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    return order, keys[order]


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
    for found_pairs in near_pairs(prints):
        pairs = np.sort(found_pairs, axis=0)
        same, crosses, conflicts = (
            values[pairs[0]] == values[pairs[1]] for values in (keys, sides, labels)
        )
        crosses, conflicts = ~crosses, ~conflicts
        for kind, of_kind in (("exact", same), ("near", ~same)):
            found[kind].add(pairs[:, of_kind], crosses[of_kind], conflicts[of_kind])
    return {kind: pairs.summary(images) for kind, pairs in found.items()}


def _numbered(values: Sequence[Any]) -> np.ndarray:
    return np.asarray(pd.factorize(np.array(values, object))[0])


def _no_pairs() -> np.ndarray:
    return np.empty((2, 0), np.int64)


@dataclass
class _Pairs:
    """Counts of the pairs of one kind, and the first pairs by the numbers of their images."""

    members: np.ndarray
    pairs: int = 0
    across_splits: int = 0
    across_classes: int = 0
    crossing: np.ndarray = field(default_factory=_no_pairs)
    alike: np.ndarray = field(default_factory=_no_pairs)
    conflicts: np.ndarray = field(default_factory=_no_pairs)

    def add(self, pairs: np.ndarray, crosses: np.ndarray, conflicts: np.ndarray) -> None:
        """Count pairs, 2 x N, and whether each crosses splits and has two labels."""
        self.members[pairs] = True
        self.pairs += pairs.shape[1]
        self.across_splits += int(crosses.sum())
        self.across_classes += int(conflicts.sum())
        self.crossing = _first(self.crossing, pairs[:, crosses & ~conflicts])
        self.alike = _first(self.alike, pairs[:, ~crosses & ~conflicts])
        self.conflicts = _first(self.conflicts, pairs[:, conflicts])

    def summary(self, images: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
        """Return one kind of `find_duplicates`, given the images with their splits."""
        return {
            "pairs": self.pairs,
            "images": int(self.members.sum()),
            "across_splits": self.across_splits,
            "across_classes": self.across_classes,
            "listed": [
                _named(images, pair)
                for pair in [*self.crossing.T.tolist(), *self.alike.T.tolist()][:LISTED]
            ],
            "conflicts": [_named(images, pair) for pair in self.conflicts.T.tolist()],
        }


def _first(listed: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Return the first of all these pairs, 2 x at most `LISTED`."""
    both = np.concatenate([listed, more], axis=1)
    return both[:, np.lexsort(both[::-1])[:LISTED]]


def _named(images: Sequence[tuple[str, Mapping[str, Any]]], pair: Sequence[int]) -> dict[str, Any]:
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
