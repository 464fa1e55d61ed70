"""The command `hf-ela evaluate`."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ela._files import check_output, write_json
from hf_ela._terminal import native_messages_held_back, printable
from hf_ela.cli.options import (
    add_data_options,
    add_model_option,
    data_options,
    load_classifier,
    use_token,
)
from hf_ela.cli.tables import print_report
from hf_ela.errors import DataError, RunError, needs_extra

if TYPE_CHECKING:
    from hf_ela.evaluation.evaluator import EvaluationResult


def add_evaluate(commands: Any) -> None:
    """Add the command to a parser."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on labelled images",
        description="Measure a saved model on a split of a dataset, at its own threshold: every "
        "metric as-is and aligned with 95 % intervals, tables by source and by generator, and "
        "robustness to JPEG, resizing and other changes. Requires the `train` extra.",
    )
    evaluate.add_argument("data", metavar="DATA", help="Hub id, imagefolder or Parquet files")
    add_model_option(evaluate)
    evaluate.add_argument(
        "--compare",
        metavar="MODEL",
        help="a second model to measure on the same images, with McNemar's test of the difference",
    )
    evaluate.add_argument("--split", help="split (test, or the only one)")
    add_data_options(evaluate)
    evaluate.add_argument(
        "--base",
        choices=["aligned", "as_is"],
        default="aligned",
        help="protocol of the images before they are perturbed, for the robustness table (aligned)",
    )
    evaluate.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write evaluation.json and plots/ there"
    )
    evaluate.add_argument("--json", action="store_true", help="print evaluation.json, no tables")
    evaluate.set_defaults(run=_evaluate, parser=evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    with needs_extra("train", "Evaluation"), native_messages_held_back():
        from hf_ela.evaluation.evaluator import evaluate

    use_token(options)
    data = data_options(options.data, options)
    if options.out:
        check_output(options.out, data.source)
        if (options.out / "run.json").exists():
            raise RunError(
                "A folder for results must not be a run folder: its plots would be replaced. "
                f"Received: {options.out}. Choose another folder."
            )
    # Keras scores many images in less time than ONNX Runtime, and evaluation has it anyway.
    classifiers = {_name(options.model, {}): load_classifier(options.model, "keras")}
    if options.compare:
        classifiers[_name(options.compare, classifiers)] = load_classifier(options.compare, "keras")
    found = {
        name: evaluate(
            classifier,
            data,
            split=options.split,
            base=options.base,
            progress=True,
            say=lambda line: print(printable(line), file=sys.stderr, flush=True),
        )
        for name, classifier in classifiers.items()
    }
    results = {
        name: {"recipe": one.recipe.name, "parameters": one.model.count_params()}
        | found[name].sections
        for name, one in classifiers.items()
    }
    (split,) = {found["data"]["split"] for found in results.values()}
    if split != (options.split or "test"):
        print(
            f"{printable(options.data)} has no split test: measured on {printable(split)}, its "
            "only one.",
            file=sys.stderr,
        )
    report = {"schema": 1, "models": results}
    if options.compare:
        report["compared"] = _compared(found)
    if options.out:
        _write(report, found, options.out)
    if options.json:
        print(json.dumps(report, indent=2, allow_nan=False))
        return 0
    print_report(report)
    if options.out:
        print(f"Written to {printable(str(options.out))}: evaluation.json, plots/")
    return 0


def _name(origin: str | None, taken: Mapping[str, Any]) -> str:
    """Return a model's name without the folders of this machine."""
    from hf_ela.hub.locate import PACKAGED

    if origin is None:
        return PACKAGED
    name = Path(origin).resolve().name if Path(origin).exists() else origin
    return f"{name} (compared)" if name in taken else name


def _compared(found: Mapping[str, "EvaluationResult"]) -> dict[str, Any]:
    """Return McNemar's test under each protocol; `a` is the first model, `b` the second."""
    from hf_ela.evaluation.intervals import mcnemar

    ours, theirs = found.values()
    if ours.sections["data"] != theirs.sections["data"]:
        raise DataError(
            "Two models must be compared on the same images, but the dataset changed while the "
            "first was measured. Run it again; `revision` pins a Hub dataset to a commit."
        )
    tests = {name: mcnemar(ours.correct(name), theirs.correct(name)) for name in ours.scores}
    return {"models": [*found], "mcnemar": tests}


def _write(report: dict[str, Any], found: Mapping[str, "EvaluationResult"], folder: Path) -> None:
    """Write JSON and plots: robustness of both models, everything else of the first."""
    from hf_ela.evaluation import plots

    folder.mkdir(parents=True, exist_ok=True)
    results = report["models"]
    plots.robustness_table(
        {name: one["robustness"] for name, one in results.items()},
        folder / "plots" / "robustness.png",
    )
    (main, *_), (measured, *_) = results.values(), found.values()
    plots.draw_evaluation(
        main,
        measured.labels,
        measured.scores,
        folder / "plots",
        split=main["data"]["split"],
        threshold=measured.threshold,
        uncertain=main["calibration"]["uncertain"],
        tables=("sources", "generators"),
    )
    write_json(folder / "evaluation.json", report)
