"""What each choice of `default` is worth: one changed at a time, on images that are no test split.

    python benchmarks/ablation.py --data FOLDER --groups CSV --unseen source=NAME
    python benchmarks/ablation.py ... --changes default one-block pixels --set training.epochs=10

Every training leaves the images of --unseen out. Reported are the AUC on its validation split, and
the aligned one on what was left out of train (with validation images of the other class beside it,
where it has one class alone), so that a gain by knowing the sources is told from one by knowing the
traces.
Multiply-adds are of the convolutions on all crops of an image. Finished trainings, in --runs, are
kept. A change of your own: --set, with `--changes default`.
"""

import argparse
import sys
from dataclasses import replace
from typing import Any

from common import apart, data_options, over_seeds, save, seeded, training_parser
from leave_one_out import fold

from hf_ela.errors import HfElaError
from hf_ela.run_file import read_run

CHANGES = {
    "default": [],
    "usual-qualities": ["ela.qualities=[75,85,95]", "network.block_means=kept"],
    "two-qualities": ["ela.qualities=[5,90]"],
    "block-means": ["network.block_means=kept"],
    "pixels": ["ela=none", "network.block_means=kept"],
    "crops-of-128": ["input.size=128", "input.grid=3"],
    "no-history": [f"augmentation.{name}=0" for name in ("blur", "noise", "jpeg", "webp")],
    "less-webp": ["augmentation.webp=0.1"],
    "one-block": ["network.blocks=1"],
    "four-stages": ["network.widths=[32,64,128,256]"],
}


def multiply_adds(run: dict[str, Any]) -> int:
    """Return those of the convolutions, none of which has a bias, on the crops of an image."""
    convolutions = (layer for layer in run["model"]["layers"] if layer["kind"] == "Conv2D")
    of_crop = sum(
        layer["output"][0] * layer["output"][1] * layer["parameters"] for layer in convolutions
    )
    return int(of_crop * run["recipe"]["input"]["grid"] ** 2)


def trial(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train with one change, for each seed; return a row of the report."""
    options = replace(data_options(args), leave_out=args.unseen)
    validation, unseen, seconds = [], [], []
    for seed in range(args.seeds):
        recipe = seeded("default", [*args.overrides, *CHANGES[name]], seed)
        folder = args.runs / f"{name}-{seed}"
        row = apart(fold, recipe, options, folder, "validation")
        unseen.append(row["roc_auc"]["value"])
        run = read_run(folder)
        (measured,) = run["evaluation"]["validation"].values()
        validation.append(measured["roc_auc"]["value"])
        seconds.append(run["timing"]["training_seconds"] / run["training"]["epochs"])
    return {
        "change": name,
        "overrides": CHANGES[name],
        "validation_auc": validation,
        "unseen_auc": unseen,
        "parameters": run["model"]["parameters"],
        "multiply_adds": multiply_adds(run),
        "seconds_per_epoch": seconds,
    }


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    cells = [
        f"`{row['change']}`",
        over_seeds(row["validation_auc"]),
        over_seeds(row["unseen_auc"]),
        f"{row['parameters']:,}",
        f"{row['multiply_adds'] / 1e6:.0f} M",
        f"{min(row['seconds_per_epoch']):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Train, print a table, write JSON."""
    p = training_parser(__doc__, "ablation", seeds=3)
    p.add_argument("--unseen", required=True, metavar="COLUMN=VALUE", help="left out of training")
    p.add_argument(
        "--changes",
        nargs="+",
        choices=list(CHANGES),
        default=list(CHANGES),
        metavar="NAME",
        help=f"of {', '.join(CHANGES)}",
    )
    args = p.parse_args()
    rows = []
    try:
        for name in args.changes:
            rows.append(trial(name, args))
            print(line(rows[-1]), flush=True)
    except HfElaError as error:
        sys.exit(str(error))
    print("\n| change | validation AUC | unseen AUC | parameters | multiply-adds | s an epoch |")
    print("| --- " * 6 + "|")
    print("\n".join(map(line, rows)))
    save(args.out, {"unseen": args.unseen, "overrides": args.overrides, "rows": rows})


if __name__ == "__main__":
    main()
