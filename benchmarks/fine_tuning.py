"""What fine-tuning is worth on sources that the model has not seen, against training anew.

    python benchmarks/fine_tuning.py --data FOLDER --groups CSV --part 5

The groups file needs the columns `group`, `source` and `part`. A model is trained without a part of
the sources. Of that part, --each images of a class are drawn by whole groups into a user's folder,
and at most --test of the others. These test the model as it is, fine-tuned on the folder, and a
network of the same recipe trained anew on the folder. Finished trainings in --runs are kept.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import apart, save, seeded, trained, training_parser, tuned

from hf_ela.cli.options import data_options
from hf_ela.data.groups import GroupTable
from hf_ela.data.loading import DataOptions
from hf_ela.recipes.schema import Recipe

COLUMNS = {"roc_auc": "AUC", "accuracy": "accuracy", "ece": "ECE"}


def write_folder(
    data: Path, groups: GroupTable, part: str, sizes: dict[str, int], folder: Path
) -> None:
    """Link images of each class of a part as train and as test, none of one group on both sides."""
    rng = np.random.default_rng(0)
    for label in ("fake", "real"):
        inside = [n for n in groups.rows if f"/{label}/" in n and groups.get(n, "part") == part]
        left = rng.permutation(sorted(inside)).tolist()
        for split, size in sizes.items():
            chosen = left[:size]
            taken = {groups.get(name, "group") for name in chosen}
            left = [name for name in left[size:] if groups.get(name, "group") not in taken]
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            for name in chosen:
                link = folder / split / label / Path(name).name
                link.unlink(missing_ok=True)
                link.symlink_to((data / name).resolve())


def tested(run: Path, options: DataOptions) -> dict[str, Any]:
    """Return the metrics of a run on the test split, by protocol."""
    from hf_ela.classifier import ElaClassifier
    from hf_ela.evaluation import evaluate

    found = evaluate(ElaClassifier.from_pretrained(run), options, perturbations=(), progress=True)
    return {
        protocol: {name: cells[name]["value"] for name in COLUMNS}
        for protocol, cells in found.sections["evaluation"]["test"].items()
    }


def main() -> None:
    """Train, test, print a table, write JSON."""
    parser = training_parser(__doc__, "fine-tuning", seeds=1)
    parser.add_argument("--part", required=True)
    parser.add_argument("--recipe", default="transfer", metavar="NAME|FILE")
    parser.add_argument("--each", type=int, default=50, metavar="N", help="images of a class (50)")
    parser.add_argument("--test", type=int, default=150, metavar="N", help="at most, a class (150)")
    args = parser.parse_args()
    recipe: Recipe = seeded(args.recipe, args.overrides, 0)
    options = data_options(args.data, args)
    without = replace(options, leave_out=f"part={args.part}")
    folder, runs = args.runs / "folder", args.runs
    sizes = {"train": args.each, "test": args.test}
    write_folder(Path(args.data), GroupTable.read(options.groups), args.part, sizes, folder)
    mine = replace(options, source=str(folder), groups=None)
    records = {
        "as it is": apart(partial(trained, whole=False), recipe, without, runs / "as it is"),
        "fine-tuned": apart(
            partial(tuned, whole=False), runs / "as it is", mine, runs / "fine-tuned"
        ),
        "trained anew": apart(partial(trained, whole=False), recipe, mine, runs / "trained anew"),
    }
    rows = [
        {"model": name, "seconds": record["timing"], "test": apart(tested, runs / name, mine)}
        for name, record in records.items()
    ]
    titles = [f"{title}, {protocol}" for protocol in rows[0]["test"] for title in COLUMNS.values()]
    print(f"\n| model | {' | '.join(titles)} |")
    print("| --- " * (1 + len(titles)) + "|")
    for row in rows:
        cells = [f"{value:.3f}" for found in row["test"].values() for value in found.values()]
        print(f"| {row['model']} | {' | '.join(cells)} |")
    save(args.out, {"recipe": args.recipe, "part": args.part, **sizes, "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
