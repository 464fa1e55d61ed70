"""The picture of the robustness table: balanced accuracy over JPEG quality, bars for the rest."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hf_ela.evaluation import Interval
from hf_ela.perturbations import JPEG_QUALITIES, SUITE, perturbation_label
from hf_ela.plots import GREY, STYLES, heading, new_figure, shortened, tidy, write_figure
from hf_ela.robustness import Robustness

__all__ = ["robustness_table"]

OTHERS = ("none", *(name for name in SUITE if not name.startswith("jpeg_")))


def robustness_table(tables: Mapping[str, Robustness], path: Path) -> None:
    """Draw the table of a model, or of up to three beside each other, with 95 % intervals.

    Args:
        tables: A model's name to its table.
        path: The PNG to write.
    """
    figure = new_figure(10.4, 4.8)
    left, right = figure.subplots(1, 2)
    height = 0.8 / max(len(tables), 1)
    for number, ((model, table), (colour, line, marker)) in enumerate(
        zip(tables.items(), STYLES, strict=False)
    ):
        cells = {row["perturbation"]: row["balanced_accuracy"] for row in table["rows"]}
        values, errors = _with_errors([cells[f"jpeg_{quality}"] for quality in JPEG_QUALITIES])
        left.errorbar(
            JPEG_QUALITIES,
            values,
            errors,
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=5,
            elinewidth=0.8,
            capsize=2,
            label=f"{shortened(model, 28)}, n={table['n']}",
        )
        values, errors = _with_errors([cells[name] for name in OTHERS])
        places = np.arange(len(OTHERS)) + (number - (len(tables) - 1) / 2) * height
        right.barh(
            places, values, height * 0.9, xerr=errors, color=colour, alpha=0.8,
            error_kw={"elinewidth": 0.8, "capsize": 2},
        )  # fmt: skip
    left.axhline(0.5, color=GREY, linewidth=1, linestyle=":", label="chance")
    right.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
    left.set(xlim=(103, 27), ylim=(0, 1.02))
    left.set_xlabel("JPEG quality of another save")
    left.set_ylabel("balanced accuracy, with 95 % interval")
    left.legend(loc="lower left", frameon=False)
    heading(left, "Saved again as JPEG")
    right.set_yticks(range(len(OTHERS)), [perturbation_label(name) for name in OTHERS])
    right.set(xlim=(0, 1.02), ylim=(len(OTHERS) - 0.5, -0.5))
    right.set_xlabel("balanced accuracy, with 95 % interval")
    heading(right, "Other changes")
    for axes in (left, right):
        tidy(axes)
    write_figure(figure, path)


def _with_errors(cells: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Return values, and how far the intervals reach below and above, 2 x N."""
    value, low, high = (
        np.array([cell[end] for cell in cells], float) for end in ("value", "low", "high")
    )
    return value, np.stack([value - low, high - value])
