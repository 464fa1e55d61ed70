"""Tables on the terminal, and those that `hf-ela evaluate` prints from ``evaluation.json``."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ela._terminal import printable
from hf_ela._text import in_words, no_width, perturbation_label, protocol_label

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from hf_ela.run_record import Run


WIDE = 10_000
"""Columns where nobody looks: in a pipe or a file, no name is broken."""


@contextmanager
def printing() -> Iterator["Console"]:
    """Yield a console, and write what it prints at the end: rich would exit on a closed pipe."""
    from rich.console import Console

    looked_at = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if looked_at else WIDE)
    with console.capture() as captured:
        yield console
    sys.stdout.write(captured.get())
    sys.stdout.flush()


def new_table(*headings: str, title: str | None = None) -> "Table":
    """Return a table that folds long cells."""
    from rich.table import Table

    table = Table(*headings, title=title)
    for column in table.columns:
        column.overflow = "fold"
    return table


def plain_text(text: str) -> Any:
    """Return a cell with a text from outside, which may look like markup."""
    from rich.text import Text

    return Text(printable(text))


def print_report(report: Mapping[str, Any]) -> None:
    """Print the tables of each model, and of two models side by side, and last what they say."""
    from hf_ela.evaluation.leak_audit.verdict import ungrouped

    results = report["models"]
    with printing() as console:
        for name, found in results.items():
            data, calibration = found["data"], found["calibration"]
            ends = calibration["uncertain"]
            unsure = f", uncertain from {ends[0]:.3f} to {ends[1]:.3f}" if ends else ""
            console.print(
                f"\n{printable(name)} ({found['recipe']}, {found['parameters']:,} parameters) on "
                f"{data['id']}, {data['split']}: {data['fake']} fake, {data['real']} real, "
                f"{len(data['rejected'])} refused. Threshold "
                f"{calibration['threshold']:.3f}{unsure}; with 95 % intervals.",
                markup=False,
                highlight=False,
            )
            if data["groups"]:
                for line in ungrouped(data["groups"]["matched"], data["n"]):
                    console.print(line, highlight=False)
            for table in _tables(found):
                console.print(table)
            metrics = found["evaluation"][found["data"]["split"]].values()
            if warning := no_width((*metrics, *found["robustness"]["rows"])):
                console.print(warning, highlight=False)
        if "compared" in report:
            console.print(_side_by_side(results))
        for name, found in results.items():
            title = "Verdict" if len(results) == 1 else f"Verdict on {printable(name)}"
            console.print(f"\n{title}", style="bold", markup=False, highlight=False)
            for sentence in found["verdict"]:
                console.print(f"- {printable(sentence)}", markup=False, highlight=False)
        if "compared" in report:
            console.print()
            for line in _compared(report):
                console.print(line, markup=False, highlight=False)


def _tables(found: Mapping[str, Any]) -> Iterator["Table"]:
    by_protocol = found["evaluation"][found["data"]["split"]]
    metrics = new_table("Metric", *map(protocol_label, by_protocol))
    for metric in next(iter(by_protocol.values())):
        if metric != "confusion":
            metrics.add_row(metric, *(in_words(cells[metric]) for cells in by_protocol.values()))
    by_chance = found["evaluation"]["chance_ece"].values()
    metrics.add_row("ece of a calibrated model", *map(in_words, by_chance))
    if found["calibration"]["uncertain"]:
        left = [cells["shipped"] for cells in found["evaluation"]["coverage"].values()]
        metrics.add_row("coverage", *(in_words(cells["coverage"]) for cells in left))
        metrics.add_row("accuracy when certain", *(in_words(cells["accuracy"]) for cells in left))
    for share, threshold in found["calibration"]["false_alarms"].items():
        points = [cells[share] for cells in found["evaluation"]["false_alarms"].values()]
        where = f"from {threshold:.3f}, for {float(share):.0%} false alarms"
        metrics.add_row(f"recall {where}", *(in_words(cells["recall"]) for cells in points))
        alarms = (in_words(cells["false_alarms"]) for cells in points)
        metrics.add_row("false alarms there", *alarms)
    yield metrics

    for section in found["spread"]:
        headings = ("n (groups)", "fake", "real", "right, as-is", "right, aligned")
        table = new_table(section.capitalize(), *headings)
        as_is, aligned = (found[section][protocol] for protocol in ("as_is", "aligned"))
        for row, other in zip(as_is, aligned, strict=True):
            right = (in_words(row["accuracy"]), in_words(other["accuracy"]))
            n = f"{row['n']} ({row['groups']})" if "groups" in row else str(row["n"])
            table.add_row(plain_text(row["source"]), n, str(row["fake"]), str(row["real"]), *right)
        yield table
        spread = _spread_table(section, found["spread"][section])
        if spread.row_count:  # else none has enough images
            yield spread

    changed = found["robustness"]
    heading = f"{protocol_label(changed['base'])}, n={changed['n']}, then"
    table = new_table(heading, "balanced accuracy", "loss", "recall", "specificity", "AUC")
    for row in changed["rows"]:
        values = (f"{row[name]['value']:.3f}" for name in ("recall", "specificity", "roc_auc"))
        cells = (in_words(row["balanced_accuracy"]), f"{row['loss']:+.3f}", *values)
        table.add_row(perturbation_label(row["perturbation"]), *cells)
    yield table


def _side_by_side(results: Mapping[str, Mapping[str, Any]]) -> "Table":
    """Return the balanced accuracy of both models after each perturbation."""
    ours, theirs = results.values()
    table = new_table(f"Balanced accuracy, {protocol_label(ours['robustness']['base'])}, then")
    for name in (*results, "difference"):
        table.add_column(plain_text(name), overflow="fold")
    pairs = zip(ours["robustness"]["rows"], theirs["robustness"]["rows"], strict=True)
    for row, other in pairs:
        cells = row["balanced_accuracy"], other["balanced_accuracy"]
        difference = f"{cells[0]['value'] - cells[1]['value']:+.3f}"
        table.add_row(perturbation_label(row["perturbation"]), *map(in_words, cells), difference)
    return table


def _compared(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield, for each protocol, how many images only one of the models gets right."""
    ours, theirs = map(printable, report["compared"]["models"])
    for protocol, test in report["compared"]["mcnemar"].items():
        yield (
            f"{protocol_label(protocol).capitalize()}: only {ours} is right on {test['only_a']} "
            f"images, only {theirs} on {test['only_b']}; p = {test['p']:.2g}."
        )
    yield (
        "p is from McNemar's exact test, which treats images as independent: it is too small where "
        "images come in groups, such as several by one artist or from one prompt."
    )


def _spread_table(section: str, by_protocol: Mapping[str, Any]) -> "Table":
    table = new_table(f"Over {section}", "counted", "mean", "minimum", "where")
    for protocol, spread in by_protocol.items():
        for label, measure in (("fake", "recall"), ("real", "specificity")):
            one = spread[label]
            if one["sources"]:
                table.add_row(
                    f"{measure}, {protocol_label(protocol)}",
                    str(one["sources"]),
                    f"{one['mean']:.3f}",
                    f"{one['minimum']:.3f}",
                    plain_text(one["worst"]),
                )
    return table


def run_summary(run: "Run", out: Path) -> str:
    """Return the results of a run as a few lines for a terminal."""
    found = run.content()
    test, training = found["evaluation"]["test"], found["training"]
    n = test["as_is"]["accuracy"]["n"]
    lines = [
        "",
        f"{run.recipe.name}: {found['model']['parameters']:,} parameters, "
        f"{training['epochs']} epochs in {found['timing']['training_seconds']:.0f} s. "
        f"Test, n = {n}, with 95 % intervals:",
        f"{'':20}{'as-is':^22}{'aligned':^22}",
    ]
    for metric, as_is in test["as_is"].items():
        if metric != "confusion":
            lines.append(_metric_row(metric, as_is, test["aligned"][metric]))
    if warning := no_width(test.values()):
        lines.append(warning)
    if uncertain := found["calibration"]["uncertain"]:
        covered = found["evaluation"]["coverage"]
        as_is, aligned = (covered[protocol]["shipped"] for protocol in test)
        lines.append(f"Without uncertain scores, from {uncertain[0]:.3f} to {uncertain[1]:.3f}:")
        lines += [_metric_row(metric, as_is[metric], aligned[metric]) for metric in as_is]
    lines.append(f"Written to {out}: README.md (the model card), run.json, weights/, plots/, ...")
    return "\n".join(lines)


def _metric_row(metric: str, as_is: Mapping[str, Any], aligned: Mapping[str, Any]) -> str:
    return f"{metric:20}{in_words(as_is):^22}{in_words(aligned):^22}"
