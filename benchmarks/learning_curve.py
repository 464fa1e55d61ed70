"""What more images are worth, and what more sources: answers about sources left out, from fewer.

    python benchmarks/learning_curve.py --data FOLDER --groups CSV

The groups file needs the columns `source` and `part`. Each share of the training images, and of the
sources of each class, is drawn anew for each seed. On what was drawn, one network is trained
without each part of the sources, and scores the images of that part, which are always the same.
Features of the frozen backbone are computed once; a training that is finished in --runs is kept.
"""

from pathlib import Path
from typing import Any

import numpy as np
from common import apart, save, seeded, training_parser

from hf_ela._text import over_seeds
from hf_ela.cli.options import data_options
from hf_ela.data.loading import DataOptions
from hf_ela.recipes.schema import Recipe

OF = ("images", "sources")
COLUMNS = ("source", "part")


def curve(
    recipes: list[Recipe], options: DataOptions, shares: list[float], runs: Path
) -> list[dict[str, Any]]:
    """Return a row for each share of images and of sources, and each seed; call it `apart`."""
    from hf_ela.data.preparation import prepare
    from hf_ela.training.fit import initial_model

    data = prepare(options, recipes[0])
    names = data.train.file_names
    sources, parts = (np.array(data.groups.column(names, column)) for column in COLUMNS)
    rows = []
    for recipe in recipes:
        seed, network = recipe.training.seed, initial_model(recipe)
        for share, of in [(share, of) for share in shares for of in OF if share < 1] + [(1, "all")]:
            among = drawn(data.train.labels, sources, parts, of, share, seed)
            found = areas(recipe, data, network, runs / f"{of}-{share:g}-{seed}", among)
            counts = {"images": int(among.sum()), "sources": len(set(sources[among]))}
            rows.append({"of": of, "share": share, "seed": seed, **counts, **found})
            print(line(rows[-1:]), flush=True)
    return rows


def drawn(
    labels: np.ndarray, sources: np.ndarray, parts: np.ndarray, of: str, share: float, seed: int
) -> np.ndarray:
    """Return which training images are drawn: bool, with both classes outside of each part."""
    rng = np.random.default_rng(seed)
    if of != "sources":
        return rng.random(len(labels)) < share
    while True:
        chosen = np.zeros(len(labels), bool)
        for label in (0, 1):
            names = rng.permutation(np.unique(sources[labels == label]))
            kept = names[: max(2, round(share * len(names)))]
            chosen |= (labels == label) & np.isin(sources, kept)
        if all(len(set(labels[chosen & (parts != part)])) == 2 for part in set(parts)):
            return chosen


def areas(
    recipe: Recipe, data: Any, network: Any, folder: Path, among: np.ndarray
) -> dict[str, list[float]]:
    """Return the AUC on each part left out, by protocol."""
    from hf_ela.evaluation.metrics import compute_metrics
    from hf_ela.models.detector import sigmoid
    from hf_ela.training.left_out import score_left_out

    found = score_left_out(recipe, data, network, folder, among)
    names, labels = np.array(found.parts), found.split.labels
    return {
        protocol: [
            compute_metrics(labels[names == part], sigmoid(logits[names == part], 1), 0.5)[
                "roc_auc"
            ]
            for part in sorted(set(names))
        ]
        for protocol, logits in found.logits.items()
    }


def main() -> None:
    """Train, print a table, write JSON."""
    parser = training_parser(__doc__, "learning-curve", seeds=1)
    parser.add_argument("--recipe", default="transfer", metavar="NAME|FILE")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.125, 0.25, 0.5])
    args = parser.parse_args()
    overrides = ["calibration.left_out=part", *args.overrides]
    recipes = [seeded(args.recipe, overrides, seed) for seed in range(args.seeds)]
    options = data_options(args.data, args)
    rows = apart(curve, recipes, options, args.shares, args.runs)
    print("\n| share of | | images | sources | AUC aligned: mean | minimum |")
    print("| --- " * 6 + "|")
    for of, share in dict.fromkeys((row["of"], row["share"]) for row in rows):
        print(line([row for row in rows if (row["of"], row["share"]) == (of, share)]))
    save(args.out, {"recipe": args.recipe, "overrides": overrides, "rows": rows})


def line(rows: list[dict[str, Any]]) -> str:
    """Return a share's row of the table, over seeds."""
    counts = [f"{np.mean([row[key] for row in rows]):,.0f}" for key in ("images", "sources")]
    areas = [over_seeds([float(f(row["aligned"])) for row in rows]) for f in (np.mean, min)]
    return f"| {rows[0]['of']} | {rows[0]['share']:g} | {' | '.join(counts + areas)} |"


if __name__ == "__main__":
    main()
