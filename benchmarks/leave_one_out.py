"""Leave one source out: train without it, test on it. What a detector is worth on the unseen.

    python benchmarks/leave_one_out.py --data FOLDER --groups CSV
    python benchmarks/leave_one_out.py --data FOLDER --groups CSV --recipe reference --seeds 3

For each value of a column of the groups file, a training leaves out all of its images. It is then
tested, aligned, at its own threshold, on them: those of train and test, with the test images of
the other class beside them (a source of both classes is tested alone). ELA is computed once for
all trainings; a fold that is finished, in --runs, is not trained again.
"""

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from common import apart, data_options, save, seeded, trained, training_parser

from hf_ela._files import write_json
from hf_ela._text import over_seeds
from hf_ela.data.groups import GroupTable
from hf_ela.data.loading import DataOptions
from hf_ela.errors import HfElaError
from hf_ela.recipes.schema import Recipe

METRICS = ("roc_auc", "balanced_accuracy")
TITLES = ("AUC", "balanced accuracy")


def fold(recipe: Recipe, options: DataOptions, folder: Path) -> dict[str, Any]:
    """Train without a value and test on it; return the row, which is kept in the folder."""
    trained(recipe, options, folder)
    if (folder / "fold.json").exists():
        return dict(json.loads((folder / "fold.json").read_text("utf-8")))
    row = {"seed": recipe.training.seed, **tested(folder, options)}
    write_json(folder / "fold.json", row)
    return row


def tested(run: Path, options: DataOptions) -> dict[str, Any]:
    """Score a run on what it left out, aligned.

    Beside it, where it has one class alone, are the test images of the other class.
    """
    from hf_ela.classifier import ElaClassifier
    from hf_ela.data.loading import open_for_training
    from hf_ela.errors import ImageError
    from hf_ela.evaluation.evaluator import labelled_images, score_images
    from hf_ela.evaluation.intervals import measure
    from hf_ela.evaluation.robustness import load_aligned

    column, _, value = str(options.leave_out).partition("=")
    groups = GroupTable.read(options.groups)
    source = open_for_training(options, groups)
    classifier = ElaClassifier.from_pretrained(run, runtime="keras")

    def unseen(name: str) -> bool:
        return groups.get(name, column) == value

    images = (
        image
        for split in source.splits
        for image in labelled_images(source, split)
        if unseen(image.name) or split == "test"
    )
    found = [
        (unseen(image.name), image.label, float(scores[0]), groups.get(image.name, "group"))
        for image, scores in score_images(
            classifier, images, lambda content: [load_aligned(content)]
        )
        if not isinstance(scores, ImageError)
    ]
    held, labels, scores, members = map(np.array, zip(*found, strict=True))
    # What is of the class that the source lacks; nothing, where it has both.
    beside = ~np.isin(labels, labels[held])
    asked = held | beside
    cells = measure(labels[asked], scores[asked], classifier.threshold, members[asked].tolist())
    return {
        "value": value,
        "fake": int(labels[asked].sum()),
        "real": int((1 - labels[asked]).sum()),
        "unseen": int(held.sum()),
        **{metric: cells[metric] for metric in METRICS},
    }


def summed(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return mean and minimum over values of each metric, for each seed."""
    found = {}
    for metric in METRICS:
        by_seed = [
            [row[metric]["value"] for row in rows if row["seed"] == seed]
            for seed in sorted({row["seed"] for row in rows})
        ]
        found[metric] = {"mean": list(map(mean, by_seed)), "minimum": list(map(min, by_seed))}
    return found


def listed(options: DataOptions, column: str) -> list[str]:
    """Return the values of a column."""
    rows = GroupTable.read(options.groups).rows.values()
    return sorted({row[column] for row in rows if row.get(column)})


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = training_parser(__doc__, "leave-one-out", seeds=1)
    p.add_argument("--column", default="source", help="of the groups file (source)")
    p.add_argument("--only", nargs="+", metavar="VALUE", help="these values alone")
    p.add_argument("--recipe", default="default", metavar="NAME|FILE")
    return p


def main() -> None:
    """Train, test, print a table, write JSON."""
    args = parser().parse_args()
    options = data_options(args)
    try:
        values = args.only or listed(options, args.column)
    except HfElaError as error:
        sys.exit(str(error))
    if not values:
        sys.exit(f"--column must be one of the groups file. Received: {args.column}, without any.")
    rows, failed = [], {}
    for seed in range(args.seeds):
        recipe = seeded(args.recipe, args.overrides, seed)
        for value in values:
            if value in failed:
                continue
            stem = re.sub(r"[^\w.-]", "_", f"{recipe.name}-{args.column}-{value}-{seed}")
            one = replace(options, leave_out=f"{args.column}={value}")
            try:
                row = apart(fold, recipe, one, args.runs / stem)
            except HfElaError as error:
                failed[value] = str(error)
                print(f"{value}: {error}", file=sys.stderr)
                continue
            rows.append(row)
            print(f"seed {seed}: {line([row])}", flush=True)
    rows = [row for row in rows if row["value"] not in failed]
    if not rows:
        sys.exit("No fold could be trained.")
    total = summed(rows)
    print(f"\n| left out | unseen | fake | real | {' | '.join(TITLES)} |")
    print("| --- " * (4 + len(METRICS)) + "|")
    for value in dict.fromkeys(row["value"] for row in rows):
        print(line([row for row in rows if row["value"] == value]))
    for kind in ("mean", "minimum"):
        cells = " | ".join(over_seeds(total[metric][kind]) for metric in METRICS)
        print(f"| **{kind}** | | | | {cells} |")
    settings = {"recipe": args.recipe, "overrides": args.overrides, "column": args.column}
    save(args.out, settings | {"rows": rows, "summary": total, "failed": failed})
    if failed:
        sys.exit(f"Mean and minimum are without {', '.join(failed)}: see above.")


def line(rows: list[dict[str, Any]]) -> str:
    """Return the row of a value in the table: over seeds, or of one seed with its intervals."""
    counts = [str(rows[0][key]) for key in ("value", "unseen", "fake", "real")]
    if len(rows) > 1:
        cells = [over_seeds([row[metric]["value"] for row in rows]) for metric in METRICS]
    else:
        found = [rows[0][metric] for metric in METRICS]
        cells = [f"{one['value']:.3f} ({one['low']:.3f}-{one['high']:.3f})" for one in found]
    return f"| {' | '.join(counts + cells)} |"


if __name__ == "__main__":
    main()
