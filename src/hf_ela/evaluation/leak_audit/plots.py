"""The plots of a leak audit: its dict in, PNGs out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hf_ela._text import shortened
from hf_ela.evaluation.figures import FAKE, INK, REAL, heading, new_figure, write_figure

VALUES = 8
"""Number of bars of a panel: the commonest values."""


def draw_audit(found: Mapping[str, Any], folder: Path) -> None:
    """Write ``facts.png`` and, if there is a matrix, ``matrix.png``; remove an earlier one."""
    facts_by_class(found["tables"], folder / "facts.png")
    (folder / "matrix.png").unlink(missing_ok=True)
    if found.get("matrix"):
        condition_matrix(found["matrix"], folder / "matrix.png")


def condition_matrix(matrix: Mapping[str, Any], path: Path) -> None:
    """Draw AUC and balanced accuracy: a row per training condition, a column per test condition."""
    cells = matrix["cells"]
    names = [name.replace("_", "-") for name in cells]
    n = sum(matrix["images"].values())
    title = "What statistics of error levels tell of the class, held out\n"
    figure = new_figure(9.6, 5.1, f"{title}{n} images")
    for axes, (metric, name) in zip(
        figure.subplots(1, 2),
        (("roc_auc", "ROC AUC"), ("balanced_accuracy", "Balanced accuracy")),
        strict=True,
    ):
        values = np.array(
            [[cell[metric]["value"] for cell in row.values()] for row in cells.values()]
        )
        axes.imshow(values, cmap="Greys", vmin=0.5, vmax=1)
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value > 0.8 else INK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", size=13, color=colour)
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        axes.set_xlabel("tested")
        axes.set_ylabel("trained")
        heading(axes, name)
    write_figure(figure, path)


def facts_by_class(tables: Mapping[str, Any], path: Path) -> None:
    """Draw, for each fact, the share of each class that has its commonest values."""
    figure = new_figure(13.5, 6.8, "Facts of the files, by class")
    for axes, fact in zip(figure.subplots(2, 4).flat, tables["fake"]["values"], strict=True):
        counts = {kind: table["values"][fact] for kind, table in tables.items()}
        both = {v: sum(c.get(v, 0) for c in counts.values()) for c in counts.values() for v in c}
        shown = sorted(both, key=lambda value: -both[value])[:VALUES]
        for offset, (kind, colour, hatch) in zip(
            (-0.2, 0.2), (("fake", FAKE, ""), ("real", REAL, "//")), strict=True
        ):
            shares = [counts[kind].get(value, 0) / tables[kind]["n"] for value in shown]
            axes.barh(
                np.arange(len(shown)) + offset,
                shares,
                0.38,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                label=f"{kind} (n={tables[kind]['n']})",
            )
        axes.set_yticks(range(len(shown)), [shortened(v, 20) for v in shown], parse_math=False)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("share of the class")
        heading(axes, fact.replace("_", " "))
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper right", ncols=2, frameon=False)
    write_figure(figure, path)
