"""What is a recipe worth on sources left out, and what are more images and more sources worth?

    python benchmarks/left_out.py --data FOLDER --groups CSV
    python benchmarks/left_out.py --data FOLDER --groups CSV --recipe ela --column family_part
    python benchmarks/left_out.py --data FOLDER --groups CSV --shares .125 .25 .5 --seeds 3

A column of the groups file divides the sources into parts: one network is trained without each part
and scores the images of that part. --shares draws fewer training images, then fewer sources of each
class, anew for each seed; the images that are scored stay the same. Features of the frozen backbone
are computed once, and a training that is finished in --runs is kept.
"""

from pathlib import Path
from typing import Any

import numpy as np
from common import apart, over_seeds, save, seeded, training_parser

from hf_ela.cli.options import data_options
from hf_ela.data.loading import DataOptions
from hf_ela.recipes.schema import Recipe

TITLES = ("part", "fake", "real", "AUC, as-is", "aligned", "recall at 5 %, as-is", "aligned")


def measured(
    recipes: list[Recipe], options: DataOptions, shares: list[float], runs: Path
) -> list[dict[str, Any]]:
    """Return a row for each seed and each share of images and of sources; call it `apart`."""
    from hf_ela.data.preparation import prepare
    from hf_ela.models.calibrated import sigmoid
    from hf_ela.training.fit import initial_model
    from hf_ela.training.left_out import by_part, score_left_out

    data = prepare(options, recipes[0])
    names = data.train.file_names
    columns = "source", str(recipes[0].calibration.left_out)
    sources, parts = (np.array([*map(str, data.groups.column(names, c))]) for c in columns)
    drawings = [("all", 1.0), *((of, share) for share in shares for of in ("images", "sources"))]
    rows = []
    for recipe in recipes:
        seed, network = recipe.training.seed, initial_model(recipe)
        for of, share in drawings:
            among = drawn(data.train.labels, sources, parts, of, share, seed)
            folder = runs / f"{recipe.name}-{of}-{share:g}-{seed}"
            found = score_left_out(recipe, data, network, folder, among)
            scores = {protocol: sigmoid(logits, 1) for protocol, logits in found.logits.items()}
            counts = {"images": int(among.sum()), "sources": len(set(sources[among]))}
            rows.append(
                {"of": of, "share": share, "seed": seed, **counts, **by_part(found, scores)}
            )
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


def main() -> None:
    """Train, print tables, write JSON."""
    parser = training_parser(__doc__, "left-out", seeds=1)
    parser.add_argument("--recipe", default="transfer", metavar="NAME|FILE")
    parser.add_argument("--column", default="part", help="of the groups file (part)")
    parser.add_argument("--shares", nargs="+", type=float, default=[], metavar="SHARE")
    args = parser.parse_args()
    overrides = [f"calibration.left_out={args.column}", *args.overrides]
    recipes = [seeded(args.recipe, overrides, seed) for seed in range(args.seeds)]
    options = data_options(args.data, args)
    rows = apart(measured, recipes, options, args.shares, args.runs)
    print(f"\n| {' | '.join(TITLES)} |\n{'| --- ' * len(TITLES)}|")
    for number, part in enumerate(rows[0]["aligned"]):
        cells = [str(part[key]) for key in TITLES[:3]]
        for key in ("roc_auc", "recall_at_false_alarms"):
            for protocol in ("as_is", "aligned"):
                values = [row[protocol][number][key] for row in rows if row["of"] == "all"]
                cells.append(over_seeds([v["0.05"] if isinstance(v, dict) else v for v in values]))
        print(f"| {' | '.join(cells)} |")
    print(
        "\n| share of | | images | sources | mean AUC, as-is | aligned | minimum, as-is | aligned |"
    )
    print("| --- " * 8 + "|")
    for of, share in dict.fromkeys((row["of"], row["share"]) for row in rows):
        print(line([row for row in rows if (row["of"], row["share"]) == (of, share)]))
    save(args.out, {"recipe": args.recipe, "overrides": overrides, "rows": rows})


def line(rows: list[dict[str, Any]]) -> str:
    """Return a share's row of the table, over seeds."""
    cells = [f"{np.mean([row[key] for row in rows]):,.0f}" for key in ("images", "sources")]
    for function in (np.mean, min):
        for protocol in ("as_is", "aligned"):
            areas = [[part["roc_auc"] for part in row[protocol]] for row in rows]
            cells.append(over_seeds([float(function(of_one)) for of_one in areas]))
    return f"| {rows[0]['of']} | {rows[0]['share']:g} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
