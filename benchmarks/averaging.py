"""What averaging more answers is worth, on images that are no test split. Nothing is trained.

    python benchmarks/averaging.py --data FOLDER --groups CSV --unseen NAME [NAME ...]

The models are those that `ablation.py` has trained of `default`, by the same options. `shipped` is
the mean logit of the recipe's crops, 2 x 2; `flips` adds those of the mirrored image; `grid-phase`
adds the image without its first 1, 2 and 3 rows and columns, so that ELA's 8 x 8 blocks lie
elsewhere; `crops` takes 3 x 3. `seeds` is the mean of all models. Reported are the AUCs of
`ablation.py`, of aligned images, and how many crops are judged for one image.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import apart, data_options, save, seeded
from PIL import Image, ImageOps
from unseen import HEADINGS, cells, check_settings, options_of, parted, settings_of, unseen_parser

from hf_ela.backend_choice import choose_backend
from hf_ela.data import Split, prepare
from hf_ela.errors import HfElaError
from hf_ela.logits import image_logits, keras_probabilities
from hf_ela.robustness import aligned
from hf_ela.views import evaluation_views

Versions = Callable[[Image.Image], list[Image.Image]]
LOOKS: dict[str, tuple[list[str], Versions]] = {
    "shipped": ([], lambda image: [image]),
    "flips": ([], lambda image: [image, ImageOps.mirror(image)]),
    "grid-phase": ([], lambda image: [image.crop((n, n, *image.size)) for n in range(4)]),
    "crops": (["input.grid=3"], lambda image: [image]),
}
"""What is set, and what is judged in place of an aligned image."""


def judged(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Judge in every way by the models of all seeds; return the rows of the report.

    To be called `apart`.
    """
    choose_backend()
    recipes = [seeded("default", args.overrides, seed) for seed in range(args.seeds)]
    data = prepare(data_options(args), recipes[0])
    parts = parted(data, args.column, args.unseen)

    from hf_ela import fit  # Keras, after the forks of the data's workers

    judges = []
    for seed, recipe in enumerate(recipes):
        folder = args.runs / f"default-{seed}"
        if not (folder / "found.json").exists():
            sys.exit(
                "--runs must hold finished trainings of `default` by ablation.py. Received: no "
                f"{folder / 'found.json'}."
            )
        of_data = settings_of(data, args.column, args.unseen)
        check_settings(folder, of_data | {"recipe": recipe.model_dump(mode="json")})
        model, _ = fit.fit(recipe, parts.train, parts.validation, folder / "checkpoint")
        judges.append(keras_probabilities(model))

    def views(split: Split, look: str) -> Iterator[np.ndarray]:
        overrides, versions = LOOKS[look]
        recipe = seeded("default", [*args.overrides, *overrides], 0).preprocessing
        for facts in split.facts:
            image = aligned((Path(args.data) / facts["file_name"]).read_bytes())
            seen = [evaluation_views(v, recipe, "as_is", facts["key"]) for v in versions(image)]
            yield np.concatenate(seen)

    rows = []
    for look in LOOKS:

        def by_seed(split: Split, look: str = look) -> np.ndarray:
            made = list(views(split, look))
            return np.stack([image_logits(judge, made) for judge in judges])

        held, unseen = parts.logits(by_seed)
        crops = len(next(views(parts.validation, look)))
        rows.append(row(look, [*map(parts.areas, held, unseen)], crops))
        if look == "shipped":
            of_all = parts.areas(held.mean(axis=0), unseen.mean(axis=0))
            rows.append(row("seeds", [of_all], crops * args.seeds))
    return rows


def row(look: str, areas: list[dict[str, Any]], crops: int) -> dict[str, Any]:
    """Return a row of the report, in the form of `ablation.py`'s."""
    return {
        "look": look,
        "validation_auc": [found["validation_auc"] for found in areas],
        "unseen_auc": {
            source: [found["unseen_auc"][source] for found in areas]
            for source in areas[0]["unseen_auc"]
        },
        "crops": crops,
    }


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    return f"| `{row['look']}` | {' | '.join(cells(row))} | {row['crops']} |"


def main() -> None:
    """Judge, print a table, write JSON."""
    p = unseen_parser(__doc__, "averaging")
    p.set_defaults(runs=Path("runs") / "ablation")
    args = p.parse_args()
    try:
        rows = apart(judged, args)
    except HfElaError as error:
        sys.exit(str(error))
    print(f"\n| | {' | '.join(HEADINGS)} | crops |")
    print("| --- " * 5 + "|")
    print("\n".join(map(line, rows)))
    save(args.out, options_of(args) | {"rows": rows})


if __name__ == "__main__":
    main()
