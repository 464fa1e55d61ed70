"""Which pictures make certain answers wrong, and so are a reason to doubt them?

    python benchmarks/doubts.py --data joined --run runs/pretrained
    python benchmarks/doubts.py --data joined --changes none grey --images 400

The first table is of sources that the model has not seen. It takes the predictions of a run with
`calibration.left_out`, and says by what pixels and file tell how many answers are certain by
their score alone, and how many of these are right. Its last lines are all images, without and with
the reasons to doubt. The second is of changes to test images, as many of both classes: certain with
the reasons to doubt, and how many of these are right; then how many human pictures are called AI.
The reasons were chosen on the first alone. Without --run, the second is of the packaged model.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import HERE, save
from PIL import Image

from hf_ela import ElaClassifier
from hf_ela._terminal import progress_bar
from hf_ela._text import in_words
from hf_ela.evaluation.intervals import wilson
from hf_ela.images.jpeg import reencode
from hf_ela.images.loading import load_image
from hf_ela.images.operations import blur, few_colors, in_grey, rescale
from hf_ela.models.score import Score

FACTS = ("monochrome", "two_tones", "noise", "scaled_up", "earlier_quality", "alpha")
"""Of an image, beside its JPEG quality and its doubt."""
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "grey": partial(in_grey, tint=np.ones(3)),
    "sepia": partial(in_grey, tint=np.array([1, 0.84, 0.66])),
    **{f"JPEG {quality}": partial(reencode, quality=quality) for quality in (50, 30, 20, 10)},
    "16 colours": partial(few_colors, colors=16),
    "blur 1": partial(blur, sigma=1),
    "blur 2": partial(blur, sigma=2),
    **{
        f"scaled by {factor:g}": partial(rescale, factor=factor, kernel=Image.Resampling.BICUBIC)
        for factor in (0.5, 1.5, 2, 3)
    },
    "160 pixels": lambda image: rescale(image, 160 / max(image.size)),
}


def by_fact(classifier: ElaClassifier, data: Path, run: Path) -> list[dict[str, Any]]:
    """Return a row for each fact of the images of left-out sources."""
    table = pd.read_parquet(run / "predictions_left_out.parquet")
    examined = [
        classifier.examined(load_image(data / name))
        for name in progress_bar(table["file"], "Examining", len(table))
    ]
    facts = {name: np.array([bool(getattr(info, name)) for _, info in examined]) for name in FACTS}
    quality = np.array([info.jpeg_quality or 101 for _, info in examined])
    facts |= {f"JPEG quality below {most}": quality < most for most in (50, 80, 90)}
    doubted = np.array([bool(doubt) for doubt, _ in examined])
    facts |= {"a reason to doubt": doubted, "none": ~doubted, "all": np.ones_like(doubted)}
    fake = (table["label"] == "fake").to_numpy()
    rows = []
    for name, among in facts.items():
        row: dict[str, Any] = {"fact": name, "n": int(among.sum())}
        for protocol, column in (("as-is", "score"), ("aligned", "score_aligned")):
            scores = table[column].to_numpy()
            certain = among & ~np.array([classifier.is_uncertain(score) for score in scores])
            right = (scores >= classifier.threshold) == fake
            row |= {f"certain, {protocol}": wilson(certain[among])}
            row |= {f"right, {protocol}": wilson(right[certain])}
        rows.append(row)
        print(_line(row), flush=True)
    return rows


def by_change(
    classifier: ElaClassifier, data: Path, changes: list[str], most: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each change to test images."""
    rng = np.random.default_rng(0)
    files = [sorted((data / "test" / label).iterdir()) for label in ("fake", "real")]
    drawn = [of_class[at] for of_class in files for at in rng.permutation(len(of_class))[:most]]
    fake = np.array([path.parent.name == "fake" for path in drawn])
    for name in changes:
        changed = (np.asarray(CHANGES[name](load_image(path).pixels)) for path in drawn)
        scores = [score for score in classifier.scores(changed) if isinstance(score, Score)]
        right = np.array([score >= classifier.threshold for score in scores]) == fake
        certain = ~np.array([classifier.is_uncertain(score) for score in scores])
        yield {
            "change": name,
            "certain": wilson(certain),
            "right": wilson(right[certain]),
            "human called AI": wilson(~right[~fake]),
        }


def _line(row: dict[str, Any]) -> str:
    name, *cells = row.values()
    return " | ".join([name, *(in_words(x) if isinstance(x, dict) else str(x) for x in cells)])


def main() -> None:
    """Measure, print both tables, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--run", type=Path, metavar="RUN", help="that left out sources")
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--images", type=int, default=200, metavar="N", help="of each class (200)")
    parser.add_argument("--out", type=Path, default=HERE / "doubts.json")
    args = parser.parse_args()
    classifier = ElaClassifier.from_pretrained(args.run or "pretrained")
    report: dict[str, Any] = {"facts": [], "changes": []}
    if args.run:
        report["facts"] = by_fact(classifier, args.data, args.run)
    for row in by_change(classifier, args.data, args.changes, args.images):
        report["changes"].append(row)
        print(_line(row), flush=True)
    save(args.out, report)


if __name__ == "__main__":
    main()
