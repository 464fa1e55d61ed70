"""Copies in a dataset and the order of its rows: what flatters a score without any leak in files.

Pure. A copy is exact where the bytes of two files are the same, near where their perceptual hashes
are, where these tell anything (`hf_ela.groups`).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hf_ela.groups import Facts, fingerprints, near_blocks

__all__ = ["LISTED", "class_order", "find_duplicates"]

LISTED = 20
"""Pairs that are listed by name, of each kind; all are counted."""

Splits = Mapping[str, Sequence[Mapping[str, Any]]]


def find_duplicates(splits: Splits) -> dict[str, Any]:
    """Count and list pairs of copies.

    Args:
        splits: File facts of every image by split, with `file_name`, `label`, `key` and
            `perceptual_hash`.

    Returns:
        ``exact`` and ``near``, each with the numbers of ``pairs``, ``images`` in them, pairs
        ``across_splits`` and ``across_classes``; ``listed``, pairs with one label, those across
        splits first; and ``conflicts``, pairs with two labels.
    """
    images = [(split, facts) for split, listed in splits.items() for facts in listed]
    found: dict[str, list[dict[str, Any]]] = {"exact": [], "near": []}
    members: dict[str, set[int]] = {"exact": set(), "near": set()}
    for pair in _near_pairs([facts for _, facts in images]):
        (_, first), (_, second) = both = [images[number] for number in pair]
        kind = "exact" if first["key"] == second["key"] else "near"
        members[kind].update(pair)
        found[kind].append(
            {
                "files": [facts["file_name"] for _, facts in both],
                "splits": [split for split, _ in both],
                "labels": ["fake" if facts["label"] else "real" for _, facts in both],
            }
        )
    return {kind: _summary(pairs, len(members[kind])) for kind, pairs in found.items()}


def _near_pairs(facts: Facts) -> list[tuple[int, int]]:
    prints = fingerprints(facts)
    pairs: list[tuple[int, int]] = []
    for start, near in near_blocks(prints, prints):
        rows, columns = np.nonzero(np.triu(near, start + 1))
        pairs += zip((rows + start).tolist(), columns.tolist(), strict=True)
    return pairs


def _summary(pairs: list[dict[str, Any]], images: int) -> dict[str, Any]:
    def differs(pair: dict[str, Any], what: str) -> bool:
        first, second = pair[what]
        return bool(first != second)

    alike = [pair for pair in pairs if not differs(pair, "labels")]
    conflicts = [pair for pair in pairs if differs(pair, "labels")]
    alike.sort(key=lambda pair: not differs(pair, "splits"))
    return {
        "pairs": len(pairs),
        "images": images,
        "across_splits": sum(differs(pair, "splits") for pair in pairs),
        "across_classes": len(conflicts),
        "listed": alike[:LISTED],
        "conflicts": conflicts[:LISTED],
    }


def class_order(splits: Splits) -> dict[str, dict[str, Any]]:
    """Return, for each split, its runs of rows of one class, and whether it is sorted by class."""
    found = {}
    for split, rows in splits.items():
        changes = sum(a["label"] != b["label"] for a, b in pairwise(rows))
        found[split] = {"runs": changes + bool(rows), "sorted": changes == 1 and len(rows) > 2}
    return found
