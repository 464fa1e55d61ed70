"""The command `hf-ela evaluate`."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ela.errors import ModelError, RunError
from hf_ela.files import check_output, write_json
from hf_ela.intervals import in_words, no_width
from hf_ela.terminal import native_messages_held_back, printable

if TYPE_CHECKING:
    from rich.table import Table

    from hf_ela.classifier import ElaClassifier

__all__ = ["add_evaluate"]


def add_evaluate(commands: Any) -> None:
    """Add the command to a parser."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on labelled images",
        description="Measure a saved model on a split of a dataset, at its own threshold: every "
        "metric as-is and aligned with 95 % intervals, tables by source and by generator, and "
        "what is left after JPEG, resizing and other changes. Needs the extra `train`.",
    )
    evaluate.add_argument(
        "data", metavar="DATA", help="Hub id[@revision], imagefolder or Parquet files"
    )
    evaluate.add_argument(
        "--model",
        metavar="MODEL",
        help="a saved model, a run, or user/repo[@revision] of the Hub; by default the model that "
        "comes with hf-ela",
    )
    evaluate.add_argument(
        "--compare",
        metavar="MODEL",
        help="another one, measured beside it, and whether they differ by more than chance",
    )
    evaluate.add_argument(
        "--groups", metavar="CSV", help="file_name,group[,source[,generator]], as for train.py"
    )
    evaluate.add_argument("--split", default="test", help="of the dataset (test, or the only one)")
    evaluate.add_argument(
        "--label-map", metavar="NAME=CLASS,...", help="class names to fake and real"
    )
    evaluate.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="only the first N images, half of each class: a quick look",
    )
    evaluate.add_argument(
        "--max-rejected",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="share of unreadable images that is tolerated (0.02)",
    )
    evaluate.add_argument(
        "--base",
        choices=["aligned", "as_is"],
        default="aligned",
        help="what images are before they are changed, for the robustness table (aligned)",
    )
    evaluate.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write evaluation.json and plots/ there"
    )
    evaluate.add_argument("--json", action="store_true", help="print evaluation.json, no tables")
    evaluate.set_defaults(run=_evaluate, parser=evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    try:
        with native_messages_held_back():
            from hf_ela.assessment import assess
            from hf_ela.paired import mcnemar
            from hf_ela.source import DataOptions, parse_label_map
    except ModuleNotFoundError as error:
        raise ModelError(
            "To evaluate takes what training takes, the extra `train`. Received: no module "
            f'{error.name}. Install it with pip install "hf-ela[train]"'
        ) from error
    from hf_ela.origin import split_revision

    source, revision = split_revision(options.data)
    data = DataOptions(
        source=source,
        revision=revision,
        groups=options.groups,
        label_map=parse_label_map(options.label_map) if options.label_map else {},
        limit=options.limit,
        max_rejected=options.max_rejected,
    )
    if options.out:
        check_output(options.out, data.source)
        if (options.out / "run.json").exists():
            raise RunError(
                "A folder for results must not hold a run, whose plots they would replace. "
                f"Received: {options.out}. Take another."
            )
    classifiers = {_name(options.model, {}): _load(options.model)}
    if options.compare:
        classifiers[_name(options.compare, classifiers)] = _load(options.compare)
    found = {
        name: assess(
            classifier,
            data,
            split=options.split,
            base=options.base,
            progress=sys.stderr.isatty(),
        )
        for name, classifier in classifiers.items()
    }
    results = {name: _described(classifiers[name]) | one.sections for name, one in found.items()}
    (split,) = {found["data"]["split"] for found in results.values()}
    if split != options.split:
        print(
            f"{printable(source)} has no split {printable(options.split)}: measured on its only "
            f"one, {printable(split)}.",
            file=sys.stderr,
        )
    report = {"schema": 1, "models": results}
    if options.compare:
        ours, theirs = (one.right for one in found.values())
        report["compared"] = {name: mcnemar(ours[name], theirs[name]) for name in ours}
    if options.out:
        _write(report, options.out)
    if options.json:
        print(json.dumps(report, indent=2, allow_nan=False))
        return 0
    _print(report)
    if options.out:
        print(f"Written to {printable(str(options.out))}: evaluation.json, plots/")
    return 0


def _load(origin: str | None) -> "ElaClassifier":
    from hf_ela.classifier import ElaClassifier
    from hf_ela.origin import locate, split_revision

    source, revision = split_revision(origin) if origin else (None, None)
    # Of many images Keras judges more in the same time, and what evaluates has it.
    folder, _ = locate(source, revision=revision, runtime="keras")
    with native_messages_held_back():
        return ElaClassifier.from_pretrained(folder, runtime="keras")


def _name(origin: str | None, taken: Mapping[str, Any]) -> str:
    """Return a name without the folders of this machine."""
    from hf_ela.origin import PACKAGED

    if origin is None:
        return PACKAGED
    name = Path(origin).resolve().name if Path(origin).exists() else origin
    return f"{name} (compared)" if name in taken else name


def _described(classifier: "ElaClassifier") -> dict[str, Any]:
    return {"recipe": classifier.recipe.name, "parameters": classifier.model.count_params()}


def _write(report: dict[str, Any], folder: Path) -> None:
    from hf_ela import plots, robustness_plot

    folder.mkdir(parents=True, exist_ok=True)
    results = report["models"]
    robustness_plot.robustness(
        {name: found["robustness"] for name, found in results.items()},
        folder / "plots" / "robustness.png",
    )
    (main, *_) = results.values()
    for section in ("sources", "generators"):
        for protocol, rows in main[section].items():
            path = folder / "plots" / f"{section}_{protocol}.png"
            path.unlink(missing_ok=True)  # of an evaluation before, perhaps of other images
            if rows:
                title = f"{protocol.replace('_', '-')}, n = {main['data']['n']}"
                plots.per_source(rows, path, title=title)
    write_json(folder / "evaluation.json", report)


def _print(report: Mapping[str, Any]) -> None:
    from rich.console import Console

    results = report["models"]
    console = Console()
    with console.capture() as captured:  # rich itself would exit on a closed pipe
        for name, found in results.items():
            data, calibration = found["data"], found["calibration"]
            band = calibration["uncertain"]
            unsure = f", uncertain from {band[0]:.3f} to {band[1]:.3f}" if band else ""
            console.print(
                f"\n{printable(name)} ({found['recipe']}, {found['parameters']:,} parameters) on "
                f"{data['id']}, {data['split']}: {data['fake']} fake, {data['real']} real, "
                f"{len(data['rejected'])} refused. Called fake from "
                f"{calibration['threshold']:.3f} on{unsure}; with 95 % intervals.",
                markup=False,
                highlight=False,
            )
            for table in _tables(found):
                console.print(table)
            metrics = found["evaluation"][found["data"]["split"]].values()
            if warning := no_width((*metrics, *found["robustness"]["rows"])):
                console.print(warning, highlight=False)
        if "compared" in report:
            console.print(_side_by_side(results))
            for line in _compared(report):
                console.print(line, markup=False, highlight=False)
    sys.stdout.write(captured.get())


def _tables(found: Mapping[str, Any]) -> Iterator["Table"]:
    from hf_ela.perturbations import words

    by_protocol = found["evaluation"][found["data"]["split"]]
    metrics = _table("Metric", *map(_protocol, by_protocol))
    for metric in next(iter(by_protocol.values())):
        if metric != "confusion":
            metrics.add_row(metric, *(in_words(cells[metric]) for cells in by_protocol.values()))
    if found["calibration"]["uncertain"]:
        left = [cells["shipped"] for cells in found["evaluation"]["coverage"].values()]
        metrics.add_row("share decided", *(in_words(cells["coverage"]) for cells in left))
        metrics.add_row("accuracy of the decided", *(in_words(cells["accuracy"]) for cells in left))
    yield metrics

    for section in found["spread"]:
        headings = ("n (groups)", "fake", "real", "right, as-is", "right, aligned")
        table = _table(section.capitalize(), *headings)
        as_is, aligned = (found[section][protocol] for protocol in ("as_is", "aligned"))
        for row, other in zip(as_is, aligned, strict=True):
            right = (in_words(row["accuracy"]), in_words(other["accuracy"]))
            n = f"{row['n']} ({row['groups']})" if "groups" in row else str(row["n"])
            table.add_row(_text(row["source"]), n, str(row["fake"]), str(row["real"]), *right)
        yield table
        spread = _spread_table(section, found["spread"][section])
        if spread.row_count:  # else none has enough images
            yield spread

    changed = found["robustness"]
    heading = f"{_protocol(changed['base'])}, n={changed['n']}, then"
    table = _table(heading, "balanced accuracy", "loss", "recall", "specificity", "AUC")
    for row in changed["rows"]:
        values = (f"{row[name]['value']:.3f}" for name in ("recall", "specificity", "roc_auc"))
        loss = f"{row['loss']:+.3f}"
        table.add_row(words(row["perturbation"]), in_words(row["balanced_accuracy"]), loss, *values)
    yield table


def _side_by_side(results: Mapping[str, Mapping[str, Any]]) -> "Table":
    """Return what is left after each change, of both models."""
    from hf_ela.perturbations import words

    ours, theirs = results.values()
    table = _table(f"Balanced accuracy, {_protocol(ours['robustness']['base'])}, then")
    for name in (*results, "difference"):
        table.add_column(_text(name), overflow="fold")
    pairs = zip(ours["robustness"]["rows"], theirs["robustness"]["rows"], strict=True)
    for row, other in pairs:
        cells = row["balanced_accuracy"], other["balanced_accuracy"]
        difference = f"{cells[0]['value'] - cells[1]['value']:+.3f}"
        table.add_row(words(row["perturbation"]), *map(in_words, cells), difference)
    return table


def _compared(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield, for each protocol, on how many images the models differ."""
    ours, theirs = map(printable, report["models"])
    for protocol, test in report["compared"].items():
        yield (
            f"{_protocol(protocol).capitalize()}: {ours} alone is right about {test['only_a']} "
            f"images, {theirs} alone about {test['only_b']}, p = {test['p']:.2g}."
        )
    yield (
        "p is that of McNemar's exact test, which takes images as independent: where they come in "
        "groups, of one artist or one prompt, it is too small."
    )


def _spread_table(section: str, by_protocol: Mapping[str, Any]) -> "Table":
    table = _table(f"Over {section}", "counted", "mean", "minimum", "where")
    for protocol, spread in by_protocol.items():
        for label, measure in (("fake", "recall"), ("real", "specificity")):
            one = spread[label]
            if one["sources"]:
                table.add_row(
                    f"{measure}, {_protocol(protocol)}",
                    str(one["sources"]),
                    f"{one['mean']:.3f}",
                    f"{one['minimum']:.3f}",
                    _text(one["worst"]),
                )
    return table


def _table(*headings: str) -> "Table":
    from rich.table import Table

    table = Table(*headings)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _text(name: str) -> Any:
    from rich.text import Text

    return Text(printable(name))  # it may look like markup


def _protocol(name: str) -> str:
    return name.replace("_", "-")
