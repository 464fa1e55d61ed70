"""The plots of scores: how many images of each class have which, and what a score means."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from hf_ela._text import protocol_label, wilson_bounds
from hf_ela.evaluation.figures import (
    FAKE,
    GREY,
    INK,
    PALE,
    REAL,
    heading,
    new_figure,
    tidy,
    write_figure,
)
from hf_ela.evaluation.intervals import chance_calibration_error
from hf_ela.evaluation.metrics import calibration_bins, check, expected_calibration_error
from hf_ela.run_record import Uncertain

Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]
"""Labels and scores by protocol."""
BARS = 20


def score_histogram(
    curves: Curves,
    path: Path,
    *,
    images: str,
    threshold: float = 0.5,
    uncertain: Uncertain | None = None,
) -> None:
    """Draw how many images of each class have which score, the threshold and uncertain scores.

    Args:
        curves: A column for each protocol.
        path: The PNG to write.
        images: What the images are, for the title.
        threshold: Lowest score that is called fake.
        uncertain: Lowest and highest score for which the model abstains, if it does.
    """
    columns = max(len(curves), 1)
    title = f"Scores of fake and of real images\n{images}"
    figure = new_figure(4.4 * columns + 0.6, 5.6, title)
    panels = figure.subplots(2, columns, squeeze=False, sharex=True, sharey=True)
    for pair, (protocol, (labels, scores)) in zip(panels.T, curves.items(), strict=False):
        y, s = check(labels, scores)
        heading(pair[0], protocol_label(protocol))
        for axes, name, own, colour in zip(
            pair, ("fake", "real"), (s[y == 1], s[y == 0]), (FAKE, REAL), strict=True
        ):
            axes.hist(own, np.linspace(0, 1, BARS + 1).tolist(), color=colour, edgecolor="white")
            called = int((own >= threshold).sum())
            for place, side, text in (
                (0.02, "left", f"{own.size - called} called real"),
                (0.98, "right", f"{called} called fake"),
            ):
                axes.text(place, 0.95, text, ha=side, va="top", transform=axes.transAxes, size=9)
            axes.set_ylabel(f"{name} images, n={own.size}", color=colour)
            axes.set(xlim=(-0.02, 1.02))
            axes.margins(y=0.25)
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            tidy(axes)
        pair[1].set_xlabel("score (probability of fake)")
    for axes in panels.flat:
        axes.axvline(threshold, color=INK, linestyle="--", label=f"threshold {threshold:.3g}")
        if uncertain:
            low, high = uncertain
            name = f"uncertain from {low:.3g} to {high:.3g}"
            axes.axvspan(low, high, color=PALE, zorder=0, label=name)
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", frameon=False, ncols=2)
    write_figure(figure, path)


def reliability(curves: Curves, path: Path, *, images: str) -> None:
    """Draw, per protocol, the share of fakes at each score with its interval, and the images."""
    columns = max(len(curves), 1)
    title = f"What a score means: the share of fakes at each score\n{images}"
    figure = new_figure(4.9 * columns + 0.4, 6.2, title)
    panels = figure.subplots(2, columns, squeeze=False, sharex=True, height_ratios=[3, 1.1])
    for (upper, lower), (protocol, (labels, scores)) in zip(panels.T, curves.items(), strict=False):
        y, s = check(labels, scores)
        counts, mean_score, share = calibration_bins(y, s)
        error, chance = expected_calibration_error(y, s), chance_calibration_error(s)
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="calibrated")
        for n, x, value in zip(counts, mean_score, share, strict=True):
            if n:
                ends = wilson_bounds(round(value * n), int(n))
                upper.plot([x, x], ends, "_-", color=GREY, linewidth=1.2, markersize=5)
        name = "share of fakes, with 95 % interval"
        upper.plot(mean_score, share, "o", color=INK, markersize=5, label=name)
        upper.set(xlim=(-0.03, 1.03), ylim=(-0.05, 1.3), yticks=np.linspace(0, 1, 6))
        upper.set_ylabel("share of fakes")
        upper.legend(loc="upper left", frameon=False)
        found = "no data" if error is None else f"calibration error {error:.3f}"
        by_chance = f", by chance {chance['low']:.3f}-{chance['high']:.3f}" if counts.any() else ""
        heading(upper, f"{protocol_label(protocol)}: {found}{by_chance}")
        centres = (np.arange(counts.size) + 0.5) / counts.size
        bars = lower.bar(centres, counts, 0.9 / counts.size, color=GREY)
        lower.bar_label(bars, [f"{n:.0f}" if n else "" for n in counts], size=7, padding=1)
        lower.set_xlabel("score (probability of fake)")
        lower.set_ylabel("images")
        lower.margins(y=0.25)
        lower.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        tidy(upper)
        tidy(lower)
    write_figure(figure, path)
