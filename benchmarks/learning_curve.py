"""What more images would be worth: `default`, trained on ever fewer of them, tested on the same.

    python benchmarks/learning_curve.py --data FOLDER --groups CSV --sizes 320 640 1280 2560

A size is of the train split, half of each class, of which a fifth validates; neither class of the
test split may have more images than half of the smallest, or it would be cut as well. Epochs are
the recipe's at every size, so that fewer images also mean fewer steps. Finished trainings, in
--runs, are kept.
"""

import argparse
import sys
from dataclasses import replace
from typing import Any

from common import apart, data_options, save, seeded, trained, training_parser

from hf_ela.errors import HfElaError
from hf_ela.groups import GroupTable
from hf_ela.intervals import over_seeds
from hf_ela.source import open_to_train

METRICS = {"accuracy": "accuracy", "roc_auc": "AUC"}


def point(run: dict[str, Any]) -> dict[str, Any]:
    """Return what a run was trained on and is worth, aligned."""
    splits, test = run["data"]["splits"], run["evaluation"]["test"]["aligned"]
    return {
        "images": splits["train"]["n"] + splits["validation"]["n"],
        "test": splits["test"]["n"],
        **{metric: test[metric]["value"] for metric in METRICS},
    }


def check_sizes(args: argparse.Namespace) -> None:
    """Refuse a size that would cut the test split too."""
    options, groups = data_options(args), GroupTable.read(args.groups)
    whole, cut = (
        len(open_to_train(replace(options, limit=limit), groups).splits["test"])
        for limit in (None, min(args.sizes))
    )
    if cut < whole:
        sys.exit(
            "--sizes must leave the test split whole, which is cut to them as well. Received: "
            f"{min(args.sizes)}, which leaves {cut} of {whole} test images. Take a larger one."
        )


def main() -> None:
    """Train, print a table, write JSON."""
    p = training_parser(__doc__, "learning-curve", seeds=1)
    p.add_argument("--sizes", type=int, nargs="+", required=True, metavar="N", help="train images")
    p.add_argument("--recipe", default="default", metavar="NAME|FILE")
    args = p.parse_args()
    rows: list[dict[str, Any]] = []
    try:
        check_sizes(args)
        print(f"| images | {' | '.join(METRICS.values())} |")
        print("| --- " * (1 + len(METRICS)) + "|")
        for size in sorted(set(args.sizes)):
            options = replace(data_options(args), limit=size)
            points = [
                point(apart(trained, recipe, options, args.runs / f"{recipe.name}-{size}-{seed}"))
                for seed in range(args.seeds)
                for recipe in [seeded(args.recipe, args.overrides, seed)]
            ]
            rows.append({key: [one[key] for one in points] for key in points[0]})
            cells = " | ".join(over_seeds(rows[-1][metric]) for metric in METRICS)
            print(f"| {points[0]['images']:,} | {cells} |", flush=True)
    except HfElaError as error:
        sys.exit(str(error))
    settings = {"recipe": args.recipe, "overrides": args.overrides}
    save(args.out, settings | {"rows": rows})


if __name__ == "__main__":
    main()
