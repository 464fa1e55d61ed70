"""The plots of an evaluation: arrays in, one PNG out, written whole or not at all.

Labels, scores and thresholds are those of `hf_ela.evaluation.metrics`.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import auc, roc_curve

from hf_ela._text import perturbation_label, shortened
from hf_ela.evaluation.figures import (
    BLUE,
    FAKE,
    GREEN,
    GREY,
    INK,
    LINE_STYLES,
    REAL,
    heading,
    new_figure,
    tidy,
    write_figure,
)
from hf_ela.evaluation.intervals import chance_calibration_error
from hf_ela.evaluation.metrics import calibration_bins, check, confusion, expected_calibration_error
from hf_ela.evaluation.robustness import JPEG_QUALITIES, SUITE
from hf_ela.evaluation.summary import Scores
from hf_ela.run_record import Interval, Robustness, SourceRow

Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]
"""Labels and scores by protocol."""
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
    tables: Sequence[str] = ("sources",),
) -> None:
    """Draw the results of a model on one split, all but its robustness.

    Args:
        sections: From `hf_ela.evaluation.summary.evaluation_sections`.
        labels: 1 for fake, 0 for real, shape (N,).
        scores: By protocol, float64, shape (N,).
        folder: Where ``confusion.png``, ``roc.png``, ``reliability.png``, ``coverage.png`` go, and
            for each table and protocol ``sources_as_is.png``; an earlier one of these is removed.
        split: Name of the split.
        threshold: The model's threshold.
        tables: Sections with a row per source.
    """
    found = sections["evaluation"]
    matrices = {name: metrics["confusion"] for name, metrics in found[split].items()}
    curves = {str(protocol): (labels, values) for protocol, values in scores.items()}
    confusion_matrix(matrices, folder / "confusion.png")
    roc(curves, folder / "roc.png", threshold=threshold)
    reliability(curves, folder / "reliability.png")
    coverage(found["coverage"], folder / "coverage.png")
    for table in tables:
        for protocol, rows in sections[table].items():
            path = folder / f"{table}_{protocol}.png"
            path.unlink(missing_ok=True)  # left by an earlier evaluation, perhaps of other images
            if rows:
                per_source(rows, path, title=f"{_name(protocol)}, n = {len(labels)}")


def confusion_matrix(confusion_by_protocol: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draw a matrix per protocol: counts, and shares of the true class."""
    columns = max(len(confusion_by_protocol), 1)
    figure = new_figure(3.6 * columns + 0.6, 3.9)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axes, (protocol, c) in zip(panels, confusion_by_protocol.items(), strict=False):
        counts = np.array([[c["tp"], c["fn"]], [c["fp"], c["tn"]]])
        shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            colour = "white" if share > 0.65 else INK
            how = {"ha": "center", "va": "center", "color": colour}
            axes.text(column, row - 0.06, count, size=20, **how)
            axes.text(column, row + 0.24, f"{share:.0%}", size=11, **how)
        axes.set_xticks([0, 1], ["fake", "real"])
        axes.set_yticks([0, 1], ["fake", "real"])
        axes.tick_params(length=0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        correct = int(np.trace(counts))
        heading(axes, f"{_name(protocol)}: {correct} of {counts.sum()} correct")
    write_figure(figure, path)


def roc(curves: Curves, path: Path, *, threshold: float = 0.5) -> None:
    """Draw the ROC curves of all protocols, with AUC, and mark the threshold on each."""
    figure = new_figure(5.6, 5.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance")
    for (protocol, (labels, scores)), (colour, line, marker) in zip(
        curves.items(), cycle(LINE_STYLES), strict=False
    ):
        y, s = check(labels, scores)
        if not 0 < y.sum() < y.size:
            axes.plot([], [], color=colour, label=f"{_name(protocol)}: one class only (n={y.size})")
            continue
        false_positive, true_positive, _ = roc_curve(y, s)
        name = f"{_name(protocol)}: AUC {auc(false_positive, true_positive):.3f} (n={y.size})"
        axes.plot(false_positive, true_positive, color=colour, linestyle=line, label=name)
        c = confusion(y, s, threshold)
        at_threshold = c["fp"] / (c["fp"] + c["tn"]), c["tp"] / (c["tp"] + c["fn"])
        axes.plot(*at_threshold, marker, color=colour, **MARK)
    axes.plot([], [], "o", color=GREY, label=f"at the threshold {threshold:.3g}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("real images called fake (false positive rate)")
    axes.set_ylabel("fakes found (recall)")
    axes.legend(loc="lower right", frameon=False)
    heading(axes, f"ROC: {' and '.join(map(_name, curves)) or 'no data'}")
    tidy(axes)
    write_figure(figure, path)


def reliability(curves: Curves, path: Path) -> None:
    """Draw, per protocol, the share of fakes against the score, and the scores of each class."""
    columns = max(len(curves), 1)
    figure = new_figure(4.3 * columns + 0.4, 5.8)
    panels = figure.subplots(2, columns, squeeze=False, sharex=True, height_ratios=[3, 1.2])
    for (upper, lower), (protocol, (labels, scores)) in zip(panels.T, curves.items(), strict=False):
        y, s = check(labels, scores)
        images, mean_score, share = calibration_bins(y, s)
        filled = images > 0
        error, chance = expected_calibration_error(y, s), chance_calibration_error(s)
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="calibrated")
        upper.plot(mean_score[filled], share[filled], color=BLUE, linewidth=1)
        upper.scatter(
            mean_score[filled],
            share[filled],
            s=20 + 230 * images[filled] / max(images.max(), 1),
            color=BLUE,
            edgecolor="white",
            zorder=3,
            label="no data"
            if error is None
            else f"ECE {error:.3f} (by chance {chance['low']:.3f}-{chance['high']:.3f})",
        )
        upper.set(xlim=(-0.03, 1.03), ylim=(-0.05, 1.32), yticks=np.linspace(0, 1, 6))
        upper.set_ylabel("share of fakes (area: images)")
        upper.legend(loc="upper left", frameon=False)
        heading(upper, f"{_name(protocol)}, n={y.size}")
        lower.hist(
            [s[y == 1], s[y == 0]],
            bins=np.linspace(0, 1, images.size + 1).tolist(),
            color=[FAKE, REAL],
            label=["fake", "real"],
        )
        lower.set_xlabel("score (probability of fake)")
        lower.set_ylabel("images")
        lower.legend(loc="upper center", frameon=False, ncols=2)
        lower.margins(y=0.35)
        tidy(upper)
        tidy(lower)
    write_figure(figure, path)


def coverage(coverage_by_protocol: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy against coverage under each protocol, and mark the model as released.

    ``curve`` is that of `calibration.coverage_curve`, ``shipped`` that of `measure_coverage`.
    """
    figure = new_figure(5.6, 4.4)
    axes = figure.subplots()
    for (protocol, found), (colour, line, marker) in zip(
        coverage_by_protocol.items(), cycle(LINE_STYLES), strict=False
    ):
        share, correct = found["shipped"]["coverage"], found["shipped"]["accuracy"]
        steps = [(row["coverage"], row["accuracy"]) for row in found["curve"]]
        axes.plot(
            *np.reshape(steps, (-1, 2)).T,
            color=colour,
            linestyle=line,
            label=f"{_name(protocol)} (n={share['n']})",
        )
        if correct["n"]:
            axes.plot(
                [share["value"]] * 2, [correct["low"], correct["high"]], color=colour, alpha=0.5
            )
            axes.plot(share["value"], correct["value"], marker, color=colour, **MARK)
    axes.plot([], [], "o", color=GREY, label="the model as released, with 95 % interval")
    axes.set(xlim=(1.02, -0.02))
    axes.set_xlabel("images with a certain answer (coverage)")
    axes.set_ylabel("correct among them (accuracy)")
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    names = " and ".join(map(_name, coverage_by_protocol))
    heading(axes, f"Coverage and accuracy: {names or 'no data'}")
    tidy(axes)
    write_figure(figure, path)


def per_source(table: Sequence[SourceRow], path: Path, *, title: str = "") -> None:
    """Draw the accuracy of each source with its interval.

    Args:
        table: One row per source (`hf_ela.evaluation.summary.by_source`); the best ends up on top.
        path: The PNG to write.
        title: Heading; name protocol and n.
    """
    rows = sorted(table, key=lambda row: row["accuracy"]["value"] or 0.0)
    figure = new_figure(7.6, 0.42 * max(len(rows), 1) + 1.1)
    axes = figure.subplots()
    names = []
    for position, row in enumerate(rows):
        value, low, high = (row["accuracy"][key] or 0.0 for key in ("value", "low", "high"))
        has = " and ".join(label for label in ("fake", "real") if row[label])
        names.append(f"{shortened(row['source'], 28)} ({has}, n={row['n']})")
        colour = {"fake": FAKE, "real": REAL}.get(has, GREEN)
        axes.barh(position, value, color=colour, height=0.62, alpha=0.8)
        axes.plot([low, high], [position, position], "|-", color=INK, linewidth=1.3, markersize=7)
        axes.text(1.03, position, f"{value:.2f}", va="center", size=9, color=INK)
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set(xlim=(0, 1.1), xticks=np.linspace(0, 1, 6))
    axes.set_xlabel("accuracy, with 95 % interval")
    heading(axes, title or f"Accuracy per source, n={sum(row['n'] for row in rows)}")
    tidy(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    write_figure(figure, path)


def _name(protocol: str) -> str:
    return protocol.replace("_", "-")


def robustness_table(tables: Mapping[str, Robustness], path: Path) -> None:
    """Draw the robustness of a model, or of up to three side by side, with 95 % intervals.

    Args:
        tables: Model name to its table.
        path: The PNG to write.
    """
    figure = new_figure(10.4, 4.8)
    left, right = figure.subplots(1, 2)
    drawn = {row["perturbation"] for table in tables.values() for row in table["rows"]}
    qualities = [quality for quality in JPEG_QUALITIES if f"jpeg_{quality}" in drawn]
    others = [name for name in ("none", *SUITE) if name in drawn and not name.startswith("jpeg_")]
    height = 0.8 / max(len(tables), 1)
    for number, ((model, table), (colour, line, marker)) in enumerate(
        zip(tables.items(), LINE_STYLES, strict=False)
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
            label=f"{shortened(model, 28)}, n={table['n']}",
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
