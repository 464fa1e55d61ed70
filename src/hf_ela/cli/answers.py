"""The answers of `hf-ela predict`, as lines of JSON or as tables."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hf_ela.cli.tables import new_table, plain_text, printing

if TYPE_CHECKING:
    from rich.table import Table

ROWS = 200
"""Rows of a table: more come in several tables, as they are scored, so that memory stays flat."""
OUTCOMES = ("fake", "real", "uncertain", "refused")


def print_lines(results: Iterable[dict[str, Any]]) -> int:
    """Print a JSON object a line, as they come; return how many are refusals."""
    refused = 0
    for result in results:
        print(json.dumps(result), flush=True)
        refused += "error" in result
    return refused


def print_table(results: Iterable[dict[str, Any]], meaning: str) -> int:
    """Print tables as they fill, a count, and what answers mean; return how many are refusals."""
    from hf_ela._threads import batched

    answers: Counter[str] = Counter()
    for rows in batched(results, ROWS):
        answers.update(map(_outcome, rows))
        _print(_table(rows))
    if answers.total() > 1:
        counts = ", ".join(f"{answers[name]} {name}" for name in OUTCOMES if answers[name])
        _print(f"{answers.total()} pictures: {counts}.")
    if answers.keys() - {"refused"}:
        _print(meaning)
    return answers["refused"]


def _outcome(result: dict[str, Any]) -> str:
    if "error" in result:
        return "refused"
    return "uncertain" if result["uncertain"] else str(result["label"])


def _table(results: Sequence[dict[str, Any]]) -> "Table":
    table = new_table("File", "Label", "P(fake)", "Note")
    for result in results:
        file = plain_text(result["file"])
        if "error" in result:
            table.add_row(file, "-", "-", plain_text(result["error"]["message"]))
        else:
            label = f"uncertain ({result['label']}?)" if result["uncertain"] else result["label"]
            notes = [result.get("reason", ""), *map(_claimed, result["claims"])]
            note = plain_text("; ".join(filter(None, notes)))
            table.add_row(file, label, f"{result['scores']['fake']:.3f}", note)
    return table


def _claimed(claim: dict[str, Any]) -> str:
    from hf_ela.images.claims import SAYS_WORDS

    said = SAYS_WORDS.get(claim["says"], "a signature")
    return f"the file says: {said}{', ' + claim['tool'] if claim['tool'] else ''}"


def _print(content: "Table | str") -> None:
    from tqdm import tqdm

    with tqdm.external_write_mode(), printing() as console:  # above a bar on the same terminal
        console.print(content)
