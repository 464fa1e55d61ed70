"""What all plots share: figures without pyplot, colours, headings; and sheets of images.

Without pyplot no global state and no display is touched. A colour means a class, the same as in
`hf_ela.models.explain`; protocols, models and splits have a line style or a shade of grey. No plot
depends on colour alone.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from hf_ela._files import whole_file
from hf_ela._text import shortened
from hf_ela.models.explain import BLUE, RED

FAKE, REAL = ("#{:02x}{:02x}{:02x}".format(*colour) for colour in (RED, BLUE))
INK, GREY, PALE = "#222222", "#8A8A8A", "#E0E0E0"
DPI = 150
# Line and marker of the curves of a plot, in order; all are of one colour.
LINE_STYLES = (("-", "o"), ("--", "s"), ("-.", "^"))

Pixels = NDArray[np.uint8]

CELL = (3.5, 1.95)  # inches: an image and its ELA, side by side, with a name above


def new_figure(width: float, height: float, title: str) -> Figure:
    """Return an empty figure of a size in inches; its title names what is measured, and on what."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    style = {"size": 12, "weight": "bold", "color": INK, "parse_math": False}
    figure.suptitle(title, x=0.1 / width, ha="left", **style)
    return figure


def heading(axes: Axes, text: str) -> None:
    """Set the title of a panel."""
    axes.set_title(text, loc="left", size=11, color=INK, parse_math=False)


def tidy(axes: Axes) -> None:
    """Remove two spines and add a pale grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)


def in_percent(*each: Axis) -> None:
    """Write the shares of each axis as percentages."""
    for axis in each:
        axis.set_major_formatter(PercentFormatter(1))


def write_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, warnings.catch_warnings():
        # File names may hold letters that the font lacks: a box in their place is fine.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png")


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
    title = title or "Images and their error levels"
    figure.text(
        0.1 / width, 1 - 0.3 / height, title, size=12, weight="bold", color=INK, parse_math=False
    )
    if not pairs:
        figure.text(0.5, 0.4, "none", ha="center", size=14, color=GREY)
    write_figure(figure, path)
