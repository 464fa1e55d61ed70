"""Which changes to a picture make certain answers wrong, and so are a reason to doubt them?

    python benchmarks/doubts.py --data joined --groups joined.csv

Each change is made to aligned validation images, as many of both classes, and the model scores
them. A row says how many answers are certain, and how many of these are right: first by the score
alone, then with the model's reasons to doubt. --split test measures what was chosen on validation.
"""

import argparse
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from common import HERE, save
from PIL import Image

from hf_ela import ElaClassifier
from hf_ela._text import in_words
from hf_ela.cli.options import add_data_options, data_options
from hf_ela.data.preparation import prepare
from hf_ela.evaluation.intervals import wilson
from hf_ela.images.jpeg import reencode
from hf_ela.images.operations import blur, few_colors, in_grey, rescale

CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "grey": partial(in_grey, tint=np.ones(3)),
    "sepia": partial(in_grey, tint=np.array([1, 0.84, 0.66])),
    **{f"JPEG {quality}": partial(reencode, quality=quality) for quality in (50, 30, 20, 10, 5)},
    "16 colours": partial(few_colors, colors=16),
    "blur 1": partial(blur, sigma=1),
    "blur 2": partial(blur, sigma=2),
    **{
        f"scaled by {factor:g}": partial(rescale, factor=factor, kernel=Image.Resampling.BICUBIC)
        for factor in (0.5, 1.5, 2, 3)
    },
    "thumbnail of 160 pixels": lambda image: rescale(image, 160 / max(image.size)),
    "thumbnail of 128 pixels": lambda image: rescale(image, 128 / max(image.size)),
}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="FOLDER")
    add_data_options(parser)
    parser.add_argument("--model", help="a run, a saved model, or user/repo (the packaged model)")
    parser.add_argument("--images", type=int, default=200, metavar="N", help="of each class (200)")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--out", type=Path, default=HERE / "doubts.json")
    args = parser.parse_args()
    classifier = ElaClassifier.from_pretrained(args.model)
    split = getattr(prepare(data_options(args.data, args), classifier.recipe), args.split)
    rng = np.random.default_rng(0)
    drawn = [
        image
        for label in (0, 1)
        for image in rng.permutation(np.flatnonzero(split.labels == label))[: args.images]
    ]
    fake = split.labels[drawn] == 1
    pngs = [split.store.aligned_png(int(split.rows[image])) for image in drawn]
    print("change | certain | right | certain with doubts | right", flush=True)
    rows = []
    for name, change in CHANGES.items():
        changed = (change(Image.open(BytesIO(png)).convert("RGB")) for png in pngs)
        scores = [*classifier.scores(changed)]
        right = np.array([score >= classifier.threshold for score in scores]) == fake
        by_score = np.array([not classifier.is_uncertain(float(score)) for score in scores])
        certain = np.array([not classifier.is_uncertain(score) for score in scores])
        row = {
            "change": name,
            **{
                f"{what} {how}": wilson(found)
                for how, among in (("by score", by_score), ("with doubts", certain))
                for what, found in (("certain", among), ("right", right[among]))
            },
        }
        rows.append(row)
        print(" | ".join([name, *map(in_words, list(row.values())[1:])]), flush=True)
    save(args.out, {"split": args.split, "model": repr(classifier), "rows": rows})


if __name__ == "__main__":
    main()
