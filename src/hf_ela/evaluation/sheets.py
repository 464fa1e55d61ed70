"""Sheets of images with their ELA beside them: arrays in, one PNG out.

Labels, scores and thresholds are those of `hf_ela.evaluation.metrics`.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hf_ela.evaluation.figures import DPI, GREY, INK, PALE, shortened, write_figure

Pixels = NDArray[np.uint8]

CELL = (3.5, 1.95)  # inches: an image and its ELA, side by side, with a name above


def ela_sheet(items: Iterable[tuple[str, Pixels, Pixels]], path: Path, *, title: str = "") -> None:
    """Draw images with their ELA beside them, three pairs per row.

    Args:
        items: Title, RGB image (H, W, 3) and ELA (H', W', 3) or (H', W'), uint8. A few dozen.
        path: The PNG to write.
        title: Heading; name protocol and n.
    """
    pairs = list(items)
    columns = min(max(len(pairs), 2), 3)
    rows = max(-(-len(pairs) // columns), 1)
    # Placed by hand: a name is wider than the image that it stands above.
    width, height = CELL[0] * columns, CELL[1] * rows + 0.4
    figure = Figure(figsize=(width, height), dpi=DPI)
    for index, (name, image, ela) in enumerate(pairs):
        row, column = divmod(index, columns)
        left, bottom = CELL[0] * column + 0.1, CELL[1] * (rows - 1 - row) + 0.06
        wide, tall = CELL[0] / 2 - 0.1, CELL[1] - 0.32
        for x, pixels in ((left, image), (left + wide + 0.04, ela)):
            axes = figure.add_axes((x / width, bottom / height, wide / width, tall / height))
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[], anchor="NW")
            axes.spines[:].set_color(PALE)
        above = (bottom + tall + 0.05) / height
        figure.text(left / width, above, shortened(name), size=9, color=INK, parse_math=False)
    heading = title or "Images and their error levels"
    figure.text(
        0.1 / width, 1 - 0.3 / height, heading, size=12, weight="bold", color=INK, parse_math=False
    )
    if not pairs:
        figure.text(0.5, 0.4, "none", ha="center", size=14, color=GREY)
    write_figure(figure, path)


def mistakes(
    items: Iterable[tuple[str, Pixels, Pixels, float]],
    path: Path,
    *,
    threshold: float = 0.5,
    title: str = "",
    limit: int = 12,
) -> None:
    """Draw the misclassified images with the lowest probability of their true class.

    Args:
        items: Title, image and ELA as for `ela_sheet`, and score, of misclassified images only.
        path: The PNG to write; without items it says "none".
        threshold: Lowest score that is called fake; it implies the true class of each image.
        title: Heading; name protocol and n.
        limit: Number of images to draw, the worst first.
    """
    worst = sorted(items, key=lambda item: _true_probability(item[3], threshold))[:limit]
    sheet = [
        (f"{'real' if score >= threshold else 'fake'}, score {score:.2f} · {name}", image, ela)
        for name, image, ela, score in worst
    ]
    ela_sheet(sheet, path, title=title or "Worst mistakes")


def _true_probability(score: float, threshold: float) -> float:
    """Return the probability of the true class of a misclassified image."""
    return 1 - score if score >= threshold else score
