"""The answers of `hf-ela predict`, as lines of JSON or as tables."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


class Counts(Counter[str]):
    """How many pictures got which answer."""

    def words(self) -> str:
        """Return them in words: ``20 pictures: 5 fake, 15 real.``."""
        found = ", ".join(f"{self[name]} {name}" for name in OUTCOMES if self[name])
        number = f"{self.total()} picture{'' if self.total() == 1 else 's'}"
        return f"{number}: {found}." if found else f"{number}."


def print_table(results: Iterable[dict[str, Any]], meaning: str) -> int:
    """Print tables as they fill, a count, and what answers mean; return how many are refusals."""
    from hf_ela._threads import batched

    counts = Counts()
    for rows in batched(results, ROWS):
        counts.update(map(outcome, rows))
        _print(_table(rows))
    if counts.total() > 1:
        _print(counts.words())
    elif counts.total() and (frequency := rows[0].get("frequency")):
        _print(frequency)
    if counts.keys() - {"refused"}:
        _print(meaning)
    return counts["refused"]


def outcome(result: Mapping[str, Any]) -> str:
    """Return which of `OUTCOMES` an answer is."""
    if "error" in result:
        return "refused"
    return "uncertain" if result["uncertain"] else str(result["label"])


def noted(result: Mapping[str, Any]) -> str:
    """Return what stands beside a score: why it is in doubt, and what the file says."""
    from hf_ela.images.claims import Claim

    notes = [result["reason"]] if "reason" in result else []
    notes += [f"the file says: {Claim(**claim).words}" for claim in result["claims"]]
    return "; ".join(notes)


def _table(results: Sequence[dict[str, Any]]) -> "Table":
    table = new_table("File", "Label", "P(fake)", "Note")
    for result in results:
        file = plain_text(result["file"])
        if "error" in result:
            table.add_row(file, "-", "-", plain_text(result["error"]["message"]))
        else:
            label = f"uncertain ({result['label']}?)" if result["uncertain"] else result["label"]
            note = plain_text(noted(result))
            table.add_row(file, label, f"{result['probability']:.3f}", note)
    return table


def _print(content: "Table | str") -> None:
    from tqdm import tqdm

    with tqdm.external_write_mode(), printing() as console:  # above a bar on the same terminal
        console.print(content)
