"""Leave one source out: train without it, then test on it.

    python benchmarks/leave_one_out.py --data FOLDER --groups CSV
    python benchmarks/leave_one_out.py --data FOLDER --groups CSV --recipe reference --seeds 3
    python benchmarks/leave_one_out.py ... --recipe transfer --column part --only 5 --blocks 5

For each value of a column of the groups file, train without its images, and test on them, aligned,
at the run's own threshold: on those of train and test, together with the test images of the other
class (a source of both classes is tested alone). Images are prepared once for all trainings; a fold
that is finished in --runs is kept. With --blocks, each training goes on with the last blocks of its
backbone, on the same images.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from common import apart, over_seeds, save, seeded, trained, training_parser, tuned

from hf_ela._files import write_json
from hf_ela._text import in_words
from hf_ela.cli.options import data_options
from hf_ela.data.groups import GroupTable
from hf_ela.data.loading import DataOptions
from hf_ela.errors import HfElaError
from hf_ela.recipes.schema import Recipe

METRICS = ("roc_auc", "balanced_accuracy")
TITLES = ("AUC", "balanced accuracy")


def fold(recipe: Recipe, options: DataOptions, folder: Path, blocks: int) -> dict[str, Any]:
    """Train without a value and test on it; return the row, which stays in the folder."""
    trained(recipe, options, folder, whole=False)
    if blocks:
        start, folder = folder, folder.with_name(f"{folder.name}-blocks-{blocks}")
        tuned(start, options, folder, [*whole_network(recipe, blocks)], whole=False)
    if (folder / "fold.json").exists():
        return dict(json.loads((folder / "fold.json").read_text("utf-8")))
    row = {"seed": recipe.training.seed, **tested(folder, options)}
    write_json(folder / "fold.json", row)
    return row


def whole_network(recipe: Recipe, blocks: int) -> Iterator[str]:
    """Yield what makes a fine-tuning train blocks of the backbone too, on the images of a recipe.

    Few epochs at a low rate: the weights have seen a million photographs.
    """
    yield f"network.trainable_blocks={blocks}"
    yield f"validation.fraction={recipe.validation.fraction}"
    yield from ("training.epochs=3", "training.learning_rate=1e-4", "training.batch_size=32")


def tested(run: Path, options: DataOptions) -> dict[str, Any]:
    """Score a run on what it left out, aligned.

    Where that has one class, the test images of the other class are added.
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
    asked = held | ~np.isin(labels, labels[held])  # with the class that the source lacks
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


def main() -> None:
    """Train, test, print a table, write JSON."""
    parser = training_parser(__doc__, "leave-one-out", seeds=1)
    parser.add_argument("--column", default="source", help="of the groups file (source)")
    parser.add_argument("--only", nargs="+", metavar="VALUE", help="leave out only these values")
    parser.add_argument("--recipe", default="scratch", metavar="NAME|FILE")
    parser.add_argument("--blocks", type=int, default=0, metavar="N", help="of the backbone (0)")
    args = parser.parse_args()
    if args.blocks and seeded(args.recipe, args.overrides, 0).network.kind != "transfer":
        parser.error("--blocks needs a recipe with a backbone: --recipe transfer")
    options = data_options(args.data, args)
    try:
        table = GroupTable.read(options.groups).rows.values()
    except HfElaError as error:
        sys.exit(str(error))
    values = args.only or sorted({row[args.column] for row in table if row.get(args.column)})
    if not values:
        sys.exit(f"--column must name a column of --groups. Received: {args.column}.")
    rows, failed = [], {}
    for seed in range(args.seeds):
        recipe = seeded(args.recipe, args.overrides, seed)
        for value in values:
            if value in failed:
                continue
            stem = re.sub(r"[^\w.-]", "_", f"{recipe.name}-{args.column}-{value}-{seed}")
            one = replace(options, leave_out=f"{args.column}={value}")
            try:
                row = apart(fold, recipe, one, args.runs / stem, args.blocks)
            except HfElaError as error:
                failed[value] = str(error)
                print(f"{value}: {error}", file=sys.stderr)
                continue
            rows.append(row)
            print(f"seed {seed}: {line([row])}", flush=True)
    rows = [row for row in rows if row["value"] not in failed]
    if not rows:
        sys.exit("No fold was trained: see the errors above.")
    total = summed(rows)
    print(f"\n| left out | unseen | fake | real | {' | '.join(TITLES)} |")
    print("| --- " * (4 + len(METRICS)) + "|")
    for value in dict.fromkeys(row["value"] for row in rows):
        print(line([row for row in rows if row["value"] == value]))
    for kind in ("mean", "minimum"):
        cells = " | ".join(over_seeds(total[metric][kind]) for metric in METRICS)
        print(f"| **{kind}** | | | | {cells} |")
    settings = {
        "recipe": args.recipe,
        "overrides": args.overrides,
        "column": args.column,
        "blocks": args.blocks,
    }
    save(args.out, settings | {"rows": rows, "summary": total, "failed": failed})
    if failed:
        sys.exit(f"Mean and minimum lack {', '.join(failed)}: see the errors above.")


def line(rows: list[dict[str, Any]]) -> str:
    """Return a value's row of the table: over seeds, or for one seed with its intervals."""
    counts = [str(rows[0][key]) for key in ("value", "unseen", "fake", "real")]
    if len(rows) > 1:
        cells = [over_seeds([row[metric]["value"] for row in rows]) for metric in METRICS]
    else:
        cells = [in_words(rows[0][metric]) for metric in METRICS]
    return f"| {' | '.join(counts + cells)} |"


if __name__ == "__main__":
    main()
