"""The command `hf-ela audit`."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ela._files import check_output, write_json
from hf_ela._terminal import printable
from hf_ela._text import in_words, no_width
from hf_ela.cli.options import add_address_option, add_data_options, data_options, use_token
from hf_ela.cli.tables import new_table, printing
from hf_ela.errors import needs_extra

if TYPE_CHECKING:
    from rich.table import Table

REJECTED_SHOWN = 3
"""Unreadable images of each class that are listed by name; the JSON has all of them."""


def add_audit(commands: Any) -> None:
    """Add the command to a parser."""
    audit = commands.add_parser(
        "audit",
        help="find what in a dataset's files gives the class away",
        description="Audit a dataset before you believe a score on it: what file facts alone "
        "reveal about the class, copies, class order, and a plain classifier of error levels, "
        "trained and tested as-is, aligned, saved as JPEG 95, and resized. Requires the `train` "
        "extra.",
    )
    audit.add_argument("data", metavar="DATA", help="Hub id, imagefolder or Parquet files")
    audit.add_argument(
        "--sample",
        type=int,
        default=600,
        metavar="N",
        help="images of each class for the matrix (600); 0 leaves it out",
    )
    audit.add_argument("--json", action="store_true", help="print the audit as JSON")
    audit.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write audit.json and two pictures there"
    )
    add_data_options(audit)
    add_address_option(audit)
    audit.set_defaults(run=_audit, parser=audit)


def _audit(options: argparse.Namespace) -> int:
    if options.sample < 0:
        options.parser.error(f"--sample must be 0 or more. Received: {options.sample}.")
    with needs_extra("train", "An audit"):
        from hf_ela.evaluation.leak_audit.audit import audit

    use_token(options)
    data = data_options(options.data, options)
    if options.out:
        check_output(options.out, data.source)
    found = audit(data, sample=options.sample, say=lambda line: print(line, file=sys.stderr))
    if options.out:
        from hf_ela.evaluation.leak_audit.plots import draw_audit

        options.out.mkdir(parents=True, exist_ok=True)
        draw_audit(found, options.out)
        write_json(options.out / "audit.json", found)
    if options.json:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        _print(found)
        if options.out:
            print(f"Written to {printable(str(options.out))}: audit.json and pictures")
    return 0


def _print(found: Mapping[str, Any]) -> None:
    tables = [_of_classifiers(found), _of_values(found), _of_classes(found)]
    if found.get("matrix"):
        tables.append(_of_matrix(found["matrix"]))
    with printing() as console:
        console.print("Verdict", style="bold")
        for sentence in found["verdict"]:
            console.print(f"- {printable(sentence)}", markup=False, highlight=False)
        console.print()
        for table in tables:
            if table.row_count:
                console.print(table)
        matrix = found.get("matrix") or {"cells": {}}
        cells = [cell for row in matrix["cells"].values() for cell in row.values()]
        measured = [row for row in found["classifiers"].values() if row]
        if warning := no_width((*measured, *found["facts"], *cells)):
            console.print(warning, highlight=False)
        for line in (*_of_copies(found), *_of_rejected(found)):
            console.print(printable(line), markup=False, highlight=False)


def _of_classifiers(found: Mapping[str, Any]) -> "Table":
    table = new_table(
        "Held out, by", "accuracy", "balanced accuracy", "ROC AUC", title="File facts"
    )
    named = {
        "all file facts": found["classifiers"]["file_facts"],
        "mean error level": found["classifiers"]["mean_error_level"],
        **{f"{row['fact']} alone": row for row in found["facts"]},
    }
    for name, row in named.items():
        if row:
            metrics = ("accuracy", "balanced_accuracy", "roc_auc")
            table.add_row(name, *(in_words(row[metric]) for metric in metrics))
    return table


def _of_values(found: Mapping[str, Any]) -> "Table":
    table = new_table("Fact", "value", "fake", "real", title="Values that reveal the class")
    for row in found["values"]:
        table.add_row(row["fact"], printable(row["value"]), str(row["fake"]), str(row["real"]))
    return table


def _of_classes(found: Mapping[str, Any]) -> "Table":
    table = new_table("Fact", "fake", "real", title="By class")
    fake, real = found["tables"]["fake"], found["tables"]["real"]
    table.add_row("images", f"{fake['n']:,}", f"{real['n']:,}")
    for fact in fake["values"]:
        table.add_row(fact, *(_counts(kind["values"][fact]) for kind in (fake, real)))
    for fact in fake["quartiles"]:
        table.add_row(
            f"{fact}, quartiles", *(_numbers(kind["quartiles"][fact]) for kind in (fake, real))
        )
    return table


def _of_matrix(matrix: Mapping[str, Any]) -> "Table":
    cells = matrix["cells"]
    images = matrix["images"]
    table = new_table(
        "Trained",
        *(f"tested {name.replace('_', '-')}" for name in cells),
        title=f"Statistics of error levels, {images['fake']} fake and {images['real']} real "
        "images: ROC AUC / balanced accuracy",
    )
    for trained, row in cells.items():
        table.add_row(
            trained.replace("_", "-"),
            *(
                f"{cell['roc_auc']['value']:.3f} / {cell['balanced_accuracy']['value']:.3f}"
                for cell in row.values()
            ),
        )
    return table


def _of_copies(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind, copies in found["duplicates"].items():
        lines.append(
            f"{'Exact copies' if kind == 'exact' else 'Near-duplicates'}: {copies['pairs']} pairs, "
            f"{copies['across_splits']} in two splits, {copies['across_classes']} in two classes"
        )
        listed = (*copies["conflicts"], *copies["listed"])
        lines += ["  " + " = ".join(pair["files"]) for pair in listed]
    return lines


def _of_rejected(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind in found["tables"]:
        rejected = [bad for bad in found["rejected"] if bad["class"] == kind]
        if rejected:
            lines.append(f"Cannot be read: {len(rejected)} {kind}")
            lines += [f"  {bad['file']}: {bad['reason']}" for bad in rejected[:REJECTED_SHOWN]]
            lines += ["  ..."] * (len(rejected) > REJECTED_SHOWN)
    return lines


def _counts(values: Mapping[str, int]) -> str:
    return printable(", ".join(f"{value}: {n}" for value, n in [*values.items()][:6]))


def _numbers(quartiles: list[float] | None) -> str:
    return " ".join(f"{value:g}" for value in quartiles) if quartiles else "-"
