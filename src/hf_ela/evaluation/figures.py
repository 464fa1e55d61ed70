"""What all plots share: figures without pyplot, colours, headings, files written whole.

Without pyplot no global state and no display is touched. Colours are Okabe and Ito's palette, which
colour-blind people can tell apart ("Color Universal Design", 2008), and no plot depends on colour
alone.
"""

import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hf_ela._files import whole_file

BLUE, GREEN, VERMILLION = "#0072B2", "#009E73", "#D55E00"
INK, GREY, PALE = "#222222", "#8A8A8A", "#E0E0E0"
FAKE, REAL = VERMILLION, BLUE
DPI = 150
# Colour, line and marker of the curves of a plot, in order.
LINE_STYLES = ((BLUE, "-", "o"), (VERMILLION, "--", "s"), (GREEN, "-.", "^"))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def heading(axes: Axes, text: str) -> None:
    """Set the title of a panel."""
    axes.set_title(text, loc="left", size=11, weight="bold", color=INK, parse_math=False)


def tidy(axes: Axes) -> None:
    """Remove two spines and add a pale grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)


def shortened(text: str, length: int = 42) -> str:
    """Cut the middle out of a long name: its end distinguishes files."""
    half = length // 2
    return text if len(text) <= length else f"{text[: half - 1]}…{text[-half:]}"


def write_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, warnings.catch_warnings():
        # File names may hold letters that the font lacks: a box in their place is fine.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png")
