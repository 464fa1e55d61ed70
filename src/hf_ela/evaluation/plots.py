"""The plots of an evaluation: arrays in, one PNG out, written whole or not at all.

Labels, scores and thresholds are those of `hf_ela.evaluation.metrics`.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import auc, roc_curve

from hf_ela._text import folded, perturbation_label, protocol_label, shortened
from hf_ela.evaluation.figures import (
    FAKE,
    GREY,
    INK,
    LINE_STYLES,
    REAL,
    heading,
    in_percent,
    new_figure,
    tidy,
    write_figure,
)
from hf_ela.evaluation.metrics import check, confusion
from hf_ela.evaluation.robustness import JPEG_QUALITIES, SUITE
from hf_ela.evaluation.score_plots import Curves, reliability, score_histogram
from hf_ela.evaluation.summary import Scores
from hf_ela.run_record import Interval, Robustness, SourceRow, Uncertain

SHADES = ("#505050", "#9A9A9A", "#C8C8C8")
"""Of up to three models."""
MARK: dict[str, Any] = {"markersize": 9, "markeredgecolor": "white", "zorder": 3}
"""Where a model stands on its curve."""


def draw_evaluation(
    sections: Mapping[str, Any],
    labels: np.ndarray,
    scores: Scores,
    folder: Path,
    *,
    split: str,
    threshold: float,
    uncertain: Uncertain | None,
    tables: Sequence[str] = ("sources",),
) -> None:
    """Draw the results of a model on one split, all but its robustness.

    Args:
        sections: From `hf_ela.evaluation.summary.evaluation_sections`.
        labels: 1 for fake, 0 for real, shape (N,).
        scores: By protocol, float64, shape (N,).
        folder: Where ``scores.png``, ``confusion.png``, ``roc.png``, ``reliability.png``,
            ``coverage.png`` go, and for each table and protocol ``sources_as_is.png``; an earlier
            one of these is removed.
        split: Name of the split.
        threshold: The model's threshold.
        uncertain: Its uncertain scores.
        tables: Sections with a row per source.
    """
    found = sections["evaluation"]
    matrices = {name: metrics["confusion"] for name, metrics in found[split].items()}
    curves = {str(protocol): (labels, values) for protocol, values in scores.items()}
    fake = int(labels.sum())
    images = (
        f"{len(labels):,} images of the {split} split: {fake:,} fake, {len(labels) - fake:,} real"
    )
    score_histogram(
        curves, folder / "scores.png", images=images, threshold=threshold, uncertain=uncertain
    )
    confusion_matrix(matrices, folder / "confusion.png", images=images)
    roc(curves, folder / "roc.png", images=images, threshold=threshold)
    reliability(curves, folder / "reliability.png", images=images)
    coverage(found["coverage"], folder / "coverage.png", images=images)
    for table in tables:
        for protocol, rows in sections[table].items():
            path = folder / f"{table}_{protocol}.png"
            path.unlink(missing_ok=True)  # left by an earlier evaluation, perhaps of other images
            if rows:
                subject = f"Right answers by {table.removesuffix('s')}, {protocol_label(protocol)}"
                per_source(rows, path, title=f"{subject}\n{images}", noun=table)


def confusion_matrix(
    confusion_by_protocol: Mapping[str, Mapping[str, int]], path: Path, *, images: str
) -> None:
    """Draw a matrix per protocol: counts, and shares of the true class."""
    columns = max(len(confusion_by_protocol), 1)
    figure = new_figure(3.6 * columns + 0.6, 4.4, f"Answers for each class\n{images}")
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axes, (protocol, c) in zip(panels, confusion_by_protocol.items(), strict=False):
        counts = np.array([[c["tp"], c["fn"]], [c["fp"], c["tn"]]])
        shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
        axes.imshow(shares, cmap="Greys", vmin=0, vmax=1.5)
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            colour = "white" if share > 0.65 else INK
            how = {"ha": "center", "va": "center", "color": colour}
            axes.text(column, row - 0.06, count, size=20, **how)
            axes.text(column, row + 0.24, f"{share:.0%}", size=11, **how)
        axes.set_xticks([0, 1], ["fake", "real"])
        axes.set_yticks([0, 1], ["fake", "real"])
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            for label, colour in zip(labels, (FAKE, REAL), strict=True):
                label.set_color(colour)
        axes.tick_params(length=0)
        axes.set_xlabel("called")
        axes.set_ylabel("true class")
        correct = int(np.trace(counts))
        heading(axes, f"{protocol_label(protocol)}: {correct} of {counts.sum()} right")
    write_figure(figure, path)


def roc(curves: Curves, path: Path, *, images: str, threshold: float = 0.5) -> None:
    """Draw the ROC curves of all protocols, with AUC, and mark the threshold on each."""
    figure = new_figure(5.6, 5.7, f"Fakes found against false alarms (ROC)\n{images}")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance")
    for (protocol, (labels, scores)), (line, marker) in zip(
        curves.items(), cycle(LINE_STYLES), strict=False
    ):
        y, s = check(labels, scores)
        name = protocol_label(protocol)
        if not 0 < y.sum() < y.size:
            axes.plot([], [], color=INK, label=f"{name}: one class only")
            continue
        false_positive, true_positive, _ = roc_curve(y, s)
        name += f": AUC {auc(false_positive, true_positive):.3f}"
        axes.plot(false_positive, true_positive, color=INK, linestyle=line, label=name)
        c = confusion(y, s, threshold)
        at_threshold = c["fp"] / (c["fp"] + c["tn"]), c["tp"] / (c["tp"] + c["fn"])
        name = f"{protocol_label(protocol)}, at the threshold {threshold:.3g}"
        axes.plot(*at_threshold, marker, color=INK, label=name, **MARK)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    in_percent(axes.xaxis, axes.yaxis)
    axes.set_xlabel("real images called fake (false alarms)")
    axes.set_ylabel("fake images called fake (recall)")
    axes.legend(loc="lower right", frameon=False)
    tidy(axes)
    write_figure(figure, path)


def coverage(
    coverage_by_protocol: Mapping[str, Mapping[str, Any]], path: Path, *, images: str
) -> None:
    """Draw accuracy against coverage under each protocol, and mark the model as released.

    ``curve`` is that of `calibration.coverage_curve`, ``shipped`` that of `measure_coverage`.
    """
    figure = new_figure(6.2, 5.2, f"How right the certain answers are\n{images}")
    axes = figure.subplots()
    for (protocol, found), (line, marker) in zip(
        coverage_by_protocol.items(), cycle(LINE_STYLES), strict=False
    ):
        share, correct = found["shipped"]["coverage"], found["shipped"]["accuracy"]
        steps = [(row["coverage"], row["accuracy"]) for row in found["curve"]]
        name = protocol_label(protocol)
        axes.plot(*np.reshape(steps, (-1, 2)).T, color=INK, linestyle=line, label=name)
        if correct["n"]:
            ends = correct["low"], correct["high"]
            axes.plot([share["value"]] * 2, ends, color=INK, linestyle=line, alpha=0.5)
            name = f"{name}, as released"
            axes.plot(share["value"], correct["value"], marker, color=INK, label=name, **MARK)
    axes.set(xlim=(-0.02, 1.02))
    in_percent(axes.xaxis, axes.yaxis)
    axes.set_xlabel("images with a certain answer: from only the surest to all (coverage)")
    axes.set_ylabel("right among them (accuracy), with 95 % interval")
    if coverage_by_protocol:
        figure.legend(loc="outside lower center", frameon=False, ncols=2)
    tidy(axes)
    write_figure(figure, path)


def per_source(
    table: Sequence[SourceRow], path: Path, *, title: str, noun: str = "sources"
) -> None:
    """Draw the accuracy of each source with its interval; those with few images as one.

    Args:
        table: One row per source (`hf_ela.evaluation.summary.by_source`); the best ends up on top.
        path: The PNG to write.
        title: Heading; name protocol and n.
        noun: What the rows are.
    """
    rows = sorted(
        folded(table, noun), key=lambda row: ("folded" not in row, row["accuracy"]["value"] or 0.0)
    )
    figure = new_figure(7.6, 0.42 * max(len(rows), 1) + 1.6, title)
    axes = figure.subplots()
    names = []
    for position, row in enumerate(rows):
        value, low, high = (row["accuracy"][key] or 0.0 for key in ("value", "low", "high"))
        has = " and ".join(label for label in ("fake", "real") if row[label])
        name = row["source"] if "folded" in row else shortened(row["source"], 28)
        names.append(f"{name} ({has}, n={row['n']})")
        colour = {"fake": FAKE, "real": REAL}.get(has, GREY)
        axes.barh(position, value, color=colour, height=0.62)
        axes.plot([low, high], [position, position], "|-", color=INK, linewidth=1.3, markersize=7)
        axes.text(1.03, position, f"{value:.0%}", va="center", size=9, color=INK)
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set(xlim=(0, 1.1), xticks=np.linspace(0, 1, 6), ylim=(-0.6, max(len(rows), 1) - 0.4))
    in_percent(axes.xaxis)
    axes.set_xlabel("right answers, with 95 % interval")
    tidy(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    write_figure(figure, path)


def robustness_table(tables: Mapping[str, Robustness], path: Path) -> None:
    """Draw the robustness of a model, or of up to three side by side, with 95 % intervals.

    Args:
        tables: Model name to its table.
        path: The PNG to write.
    """
    kinds = {f"{one['n']} {protocol_label(one['base'])} images" for one in tables.values()}
    images = f"{' and '.join(sorted(kinds))}, half of each class, then changed"
    figure = new_figure(10.4, 5.4, f"Balanced accuracy after changes to the image\n{images}")
    left, right = figure.subplots(1, 2)
    drawn = {row["perturbation"] for table in tables.values() for row in table["rows"]}
    qualities = [quality for quality in JPEG_QUALITIES if f"jpeg_{quality}" in drawn]
    others = [name for name in ("none", *SUITE) if name in drawn and not name.startswith("jpeg_")]
    height = 0.8 / max(len(tables), 1)
    for number, ((model, table), (line, marker), colour) in enumerate(
        zip(tables.items(), LINE_STYLES, SHADES, strict=False)
    ):
        cells = {row["perturbation"]: row["balanced_accuracy"] for row in table["rows"]}
        values, errors = _with_errors([cells.get(f"jpeg_{quality}") for quality in qualities])
        left.errorbar(
            qualities,
            values,
            errors,
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=5,
            elinewidth=0.8,
            capsize=2,
            label=shortened(model, 28),
        )
        values, errors = _with_errors([cells.get(name) for name in others])
        places = np.arange(len(others)) + (number - (len(tables) - 1) / 2) * height
        right.barh(
            places, values, height * 0.9, xerr=errors, color=colour, alpha=0.8,
            error_kw={"elinewidth": 0.8, "capsize": 2},
        )  # fmt: skip
    left.axhline(0.5, color=GREY, linewidth=1, linestyle=":", label="chance")
    right.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
    left.set(xlim=(103, 27), ylim=(0, 1.02))
    left.set_xlabel("quality of another JPEG save")
    left.set_ylabel("balanced accuracy, with 95 % interval")
    left.legend(loc="lower left", frameon=False)
    heading(left, "Saved as JPEG again")
    right.set_yticks(range(len(others)), [perturbation_label(name) for name in others])
    right.set(xlim=(0, 1.02), ylim=(len(others) - 0.5, -0.5))
    right.set_xlabel("balanced accuracy, with 95 % interval")
    heading(right, "Other changes")
    for axes in (left, right):
        tidy(axes)
    write_figure(figure, path)


def _with_errors(cells: Sequence[Interval | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return values, and how far the intervals reach below and above, 2 x N; NaN for None."""
    ends = [(cell["value"], cell["low"], cell["high"]) if cell else (None,) * 3 for cell in cells]
    value, low, high = np.array(ends, float).reshape(-1, 3).T
    return value, np.stack([value - low, high - value])
