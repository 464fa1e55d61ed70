"""An evaluation in sentences. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from hf_ela._text import FEW, of_hundred
from hf_ela.evaluation.intervals import McNemar

ENOUGH = 100
"""Unrelated images whose share of right answers has a 95 % interval of at most 20 of 100."""
SIGNIFICANT = 0.05
"""P-value from which on a difference may be chance."""


def verdict(found: Mapping[str, Any], aligning: McNemar) -> list[str]:
    """Return what the sections of an evaluation say, a sentence or two per line.

    Args:
        found: `data`, `calibration`, `evaluation` and `sources`, as `evaluate` returns them.
        aligning: The test of the answers as-is (a) against those aligned (b).
    """
    rows = (_of_answers(found), _of_history(found, aligning), _of_certain(found))
    return [line for part in (*rows, _of_sources(found), _of_size(found)) for line in part]


def _of_answers(found: Mapping[str, Any]) -> Iterator[str]:
    cells, sources = _metrics(found)["as_is"], found["sources"]["as_is"]
    where = f" of {len(sources)} sources" if len(sources) > 1 else ""
    sentence = (
        f"On {found['data']['n']:,} pictures{where}, as they come, it is right in "
        f"{of_hundred(cells['accuracy'])}. It finds {of_hundred(cells['recall'])} fakes and leaves "
        f"{of_hundred(cells['specificity'])} real pictures alone."
    )
    if cells["balanced_accuracy"]["low"] <= 0.5:
        sentence += " It may be no better than a guess."
    yield sentence


def _of_history(found: Mapping[str, Any], aligning: McNemar) -> Iterator[str]:
    more, p = aligning["only_b"] - aligning["only_a"], aligning["p"]
    if p >= SIGNIFICANT:
        says = "it cannot be seen that the history of the files helps"
    elif more < 0:
        says = "the history of the files helps it, or aligning hides what it looks for"
    else:
        says = "the history of the files misleads it"
    difference = f"{abs(more):,} {'fewer' if more < 0 else 'more'}" if more else "as many"
    yield (
        "With all files saved alike (aligned) it is right in "
        f"{of_hundred(_metrics(found)['aligned']['accuracy'])}, {difference} in all "
        f"(p = {p:.2g}): {says}."
    )


def _of_certain(found: Mapping[str, Any]) -> Iterator[str]:
    if found["calibration"]["uncertain"]:
        left = found["evaluation"]["coverage"]["as_is"]["shipped"]
        yield (
            f"It is certain about {of_hundred(left['coverage'])}, and then right in "
            f"{of_hundred(left['accuracy'])}."
        )


def _of_sources(found: Mapping[str, Any]) -> Iterator[str]:
    sources = found["sources"]["as_is"]
    rows = [row for row in sources if row["n"] >= FEW]
    if len(rows) < 2 <= len(sources):
        yield f"Too few sources have {FEW} pictures or more to tell which are hard."
    elif len(rows) > 1:
        worst = min(rows, key=lambda row: row["accuracy"]["value"])
        yield (
            f"It is worst on {worst['source']} (n = {worst['n']:,}): right in "
            f"{of_hundred(worst['accuracy'])}."
        )


def _of_size(found: Mapping[str, Any]) -> Iterator[str]:
    n, cell = found["data"]["n"], _metrics(found)["as_is"]["accuracy"]
    unrelated = cell.get("groups", n)
    if unrelated < ENOUGH:
        groups = f", in {unrelated} groups," if unrelated < n else ""
        yield f"{n} pictures{groups} give only a rough idea: it takes some {ENOUGH} unrelated ones."


def _metrics(found: Mapping[str, Any]) -> Mapping[str, Any]:
    metrics: Mapping[str, Any] = found["evaluation"][found["data"]["split"]]
    return metrics
