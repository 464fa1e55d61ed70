"""What the choices behind `default` are worth, on images that are no test split.

    python benchmarks/ablation.py --data FOLDER --groups CSV --unseen NAME [NAME ...]
    python benchmarks/ablation.py ... --changes default ela pixels --set training.epochs=10

`default` is ELA and pixels beside each other; `pixels` and `ela` are either alone. Of each of the
three, one choice is changed at a time. Of `default` it is also how it is trained: `mixup`,
`balanced-sources` and `averaged` (`ideas.py`); `focal`, by the loss that counts hard examples more
(Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017); and `pairs`, where real images
remade by autoencoders (`autoencoder.py`) join the fakes.

No training sees the sources in --unseen (of --column). Reported are the aligned AUC on its
validation split, and on each of those sources as far as train has them, with validation images of
the other class beside a source of one class: their mean and minimum. So a gain by knowing the
sources is told from one by knowing the traces. Multiply-adds are of the convolutions on all crops
of an image. Finished trainings, in --runs, are kept, and interrupted ones go on. A change of your
own: --set, with `--changes default`.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from common import apart, data_options, save, seeded
from unseen import HEADINGS, cells, check_settings, options_of, parted, settings_of, unseen_parser

from hf_ela.backend_choice import choose_backend
from hf_ela.data import prepare
from hf_ela.errors import HfElaError
from hf_ela.files import write_json
from hf_ela.recipe import Recipe
from hf_ela.source import DataOptions

KEPT_MEANS = "network.block_means=kept"
ELA = "ela.with_pixels=false"  # alone
CHANGES: dict[str, list[str]] = {
    "default": [],
    "block-means": [KEPT_MEANS],
    "pixels": ["ela=none"],
    "pixels-block-means": ["ela=none", KEPT_MEANS],
    "ela": [ELA],
    "ela-usual-qualities": [ELA, "ela.qualities=[75,85,95]", KEPT_MEANS],
    "ela-two-qualities": [ELA, "ela.qualities=[5,90]"],
    "ela-block-means": [ELA, KEPT_MEANS],
    "ela-crops-of-128": [ELA, "input.size=128", "input.grid=3"],
    "ela-no-history": [
        ELA,
        *(f"augmentation.{name}=0" for name in ("blur", "noise", "jpeg", "webp")),
    ],
    "ela-one-block": [ELA, "network.blocks=1"],
    "ela-four-stages": [ELA, "network.widths=[32,64,128,256]"],
    # By the recipe of `default`, but trained otherwise: see `trial`.
    "mixup": [],
    "balanced-sources": [],
    "focal": [],
    "averaged": [],
    "pairs": [],
}
STEPS = 300
"""Of an autoencoder, for each epoch of the training that its fakes are for."""


def trial(
    change: str,
    recipe: Recipe,
    options: DataOptions,
    column: str,
    unseen: list[str],
    folder: Path,
) -> dict[str, Any]:
    """Train without the unseen, test on them; return what was found, which is kept in the folder.

    To be called `apart`.
    """
    choose_backend()
    data = prepare(options, recipe)
    of_data = settings_of(data, column, unseen)
    check_settings(folder, of_data | {"recipe": recipe.model_dump(mode="json")})
    if (folder / "found.json").exists():
        return dict(json.loads((folder / "found.json").read_text("utf-8")))
    parts = parted(data, column, unseen)

    import autoencoder
    import ideas

    from hf_ela import fit
    from hf_ela.logits import image_logits, keras_probabilities
    from hf_ela.model import describe

    match change:
        case "mixup":
            fit.Batches = ideas.Mixup
        case "balanced-sources":
            source = partial(data.groups.get, column=column)
            fit.Batches = partial(ideas.BalancedSources, source=source)
        case "focal":
            losses = fit.keras.losses
            losses.CategoricalCrossentropy = partial(losses.CategoricalFocalCrossentropy, alpha=1)
        case "averaged":
            fit.Checkpoint = ideas.Averaged
            plain = fit._optimizer
            fit._optimizer = lambda *given: ideas.averaging(plain(*given))
        case "pairs":
            made = folder.parent / "fakes"
            steps = STEPS * recipe.training.epochs
            how = {"preprocessing": recipe.preprocessing.model_dump(mode="json"), "steps": steps}
            check_settings(made, of_data | how)
            real = [row["file_name"] for row in parts.train.facts if row["label"] == 0]
            originals = [Path(options.source) / name for name in real]
            fakes = autoencoder.views_of_fakes(originals, recipe, steps, made)
            fit.Batches = partial(ideas.WithFakes, fakes=fakes)
    model, checkpoint = fit.fit(recipe, parts.train, parts.validation, folder / "checkpoint")
    judge, views = keras_probabilities(model), recipe.input.training
    found = {
        "images": parts.images,
        **parts.areas(*parts.logits(lambda split: image_logits(judge, split.views(views)))),
        "model": describe(model, recipe),
        "epochs": checkpoint.epochs,
        "training_seconds": checkpoint.seconds,
    }
    write_json(folder / "found.json", found)
    return found


def multiply_adds(model: dict[str, Any], recipe: Recipe) -> int:
    """Return those of the convolutions, none of which has a bias, on the crops of an image."""
    convolutions = (layer for layer in model["layers"] if layer["kind"] == "Conv2D")
    of_crop = sum(
        layer["output"][0] * layer["output"][1] * layer["parameters"] for layer in convolutions
    )
    return int(of_crop * recipe.evaluation_views)


def row(change: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train with one change, for each seed; return a row of the report."""
    found = []
    for seed in range(args.seeds):
        recipe = seeded("default", [*args.overrides, *CHANGES[change]], seed)
        folder = args.runs / f"{change}-{seed}"
        rest = (data_options(args), args.column, args.unseen, folder)
        found.append(apart(trial, change, recipe, *rest))
    return {
        "change": change,
        "overrides": CHANGES[change],
        "images": found[0]["images"],
        "validation_auc": [one["validation_auc"] for one in found],
        "unseen_auc": {value: [one["unseen_auc"][value] for one in found] for value in args.unseen},
        "parameters": found[0]["model"]["parameters"],
        "multiply_adds": multiply_adds(found[0]["model"], recipe),
        "seconds_per_epoch": [one["training_seconds"] / one["epochs"] for one in found],
    }


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    last = (
        f"{row['parameters']:,}",
        f"{row['multiply_adds'] / 1e6:.0f} M",
        f"{min(row['seconds_per_epoch']):.0f}",
    )
    return f"| `{row['change']}` | {' | '.join((*cells(row), *last))} |"


def main() -> None:
    """Train, print a table, write JSON."""
    p = unseen_parser(__doc__, "ablation")
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
        for change in args.changes:
            rows.append(row(change, args))
            print(line(rows[-1]), flush=True)
    except HfElaError as error:
        sys.exit(str(error))
    headings = ("change", *HEADINGS, "parameters", "multiply-adds", "s an epoch")
    print(f"\n| {' | '.join(headings)} |")
    print("| --- " * len(headings) + "|")
    print("\n".join(map(line, rows)))
    save(args.out, options_of(args) | {"rows": rows})


if __name__ == "__main__":
    main()
