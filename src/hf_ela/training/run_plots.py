"""The plots of a run: those of its evaluation, its training curves, and sheets of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from hf_ela.data.preparation import Split
from hf_ela.evaluation import plots
from hf_ela.evaluation.figures import (
    GREY,
    INK,
    LINE_STYLES,
    ela_sheet,
    new_figure,
    tidy,
    write_figure,
)
from hf_ela.evaluation.summary import Scores
from hf_ela.models.detector import Detector

LABELS = {"loss": "loss (cross-entropy)", "accuracy": "right answers (accuracy)"}


def draw_run(
    sections: Mapping[str, Any],
    detector: Detector,
    test: Split,
    scores: Scores,
    folder: Path,
) -> None:
    """Draw what a run says of its test split; `training_curves` draws the rest.

    Args:
        sections: From `hf_ela.evaluation.summary.evaluation_sections`.
        detector: Has the threshold and the uncertain scores.
        test: The images.
        scores: By protocol, the probability of fake of each.
        folder: Where the PNGs go.
    """
    threshold, uncertain = detector.threshold, detector.uncertain
    plots.draw_evaluation(
        sections,
        test.labels,
        scores,
        folder,
        split="test",
        threshold=threshold,
        uncertain=uncertain,
    )
    plots.robustness_table({"this model": sections["robustness"]}, folder / "robustness.png")
    _draw_sheets(test, scores["as_is"], threshold, folder)


def _draw_sheets(test: Split, scores: np.ndarray, threshold: float, folder: Path) -> None:
    def pictures(position: int, prefix: str) -> tuple[str, np.ndarray, np.ndarray]:
        name = Path(test.facts[position]["file_name"]).name
        return f"{prefix} · {name}", *test.store.pictures(int(test.rows[position]))

    labels = test.labels
    shown = []
    for label, kind in ((1, "fake"), (0, "real")):
        here = np.flatnonzero(labels == label)
        chosen = here[np.linspace(0, len(here) - 1, min(6, len(here))).astype(int)]
        shown += [pictures(position, kind) for position in chosen]
    title = "Test images and their ELA at quality 90, brightened for viewing"
    ela_sheet(shown, folder / "ela.png", title=title)
    wrong = worst_mistakes(labels, scores, threshold)
    worst = [
        pictures(i, f"{'fake' if labels[i] else 'real'}, score {scores[i]:.2f}") for i in wrong[:12]
    ]
    title = (
        f"Worst mistakes as-is: {len(wrong)} of {len(test)} wrong at the threshold {threshold:.2f}"
    )
    ela_sheet(worst, folder / "mistakes.png", title=title)


def worst_mistakes(labels: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the positions of misclassified images, the least probable true class first."""
    wrong = np.flatnonzero((scores >= threshold) != (labels == 1))
    return wrong[np.argsort(-np.abs(scores[wrong] - labels[wrong]))]


def training_curves(
    history: Mapping[str, Sequence[float]], path: Path, *, monitor: str = "val_loss"
) -> None:
    """Draw loss and accuracy of every epoch, and mark the best epoch by ``monitor``.

    Args:
        history: Keras's: ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``.
        path: The PNG to write.
        monitor: The quantity that early stopping watches: the first lowest value of a loss, or the
            first highest of anything else, is best. Nothing is marked where it is missing.
    """
    best = _best_epoch(history.get(monitor, ()), lowest=monitor.endswith("loss"))
    epochs = len(history.get("loss", ()))
    title = f"Training: loss and accuracy over {epochs} {'epoch' if epochs == 1 else 'epochs'}"
    figure = new_figure(9.2, 4.5, title)
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, name, (line, marker) in zip(
            (quantity, f"val_{quantity}"), ("training", "validation"), LINE_STYLES, strict=False
        ):
            values = history.get(key, ())
            axes.plot(
                np.arange(1, len(values) + 1),
                values,
                color=INK,
                linestyle=line,
                marker=marker if epochs <= 40 else None,
                markersize=4,
                label=name,
            )
        if best:
            name = f"best on validation: epoch {best}"
            axes.axvline(best, color=GREY, linewidth=1, linestyle=":", label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(LABELS[quantity])
        axes.set_xlim(0.5, max(epochs, 1) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        tidy(axes)
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", frameon=False, ncols=3)
    write_figure(figure, path)


def _best_epoch(values: Sequence[float], *, lowest: bool) -> int | None:
    """Return the best epoch, counted from 1; None when no value is finite."""
    worst = np.inf if lowest else -np.inf
    finite = np.where(np.isfinite(values), values, worst)
    if not np.isfinite(finite).any():
        return None
    return int(finite.argmin() if lowest else finite.argmax()) + 1
