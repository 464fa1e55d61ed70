"""What a trained network is worth: calibration, metrics, plots and predictions of a run."""

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hf_ela._files import whole_file
from hf_ela.backend import keras
from hf_ela.classifier import ElaClassifier
from hf_ela.data.preparation import Prepared, Split
from hf_ela.errors import ExportError
from hf_ela.evaluation import plots, sheets
from hf_ela.evaluation.calibration import fit_calibration, fit_threshold, fit_uncertain
from hf_ela.evaluation.robustness import Sample, robustness
from hf_ela.evaluation.summary import COLUMNS, PROTOCOLS, chance_ece, covered, measured, tables
from hf_ela.hub.samples import SAMPLES, sample_files, sample_label, sample_pictures
from hf_ela.models.detector import image_logits, keras_probabilities, sigmoid
from hf_ela.models.export import OPSET
from hf_ela.models.networks import add_bias
from hf_ela.models.settings import ONNX_FILE
from hf_ela.recipes.schema import Recipe
from hf_ela.training.fit import Checkpoint
from hf_ela.training.provenance import environment

Scores = dict[str, np.ndarray]
WITH_IMAGES = {"ela.png", "mistakes.png"}
"""Plots that show images of the dataset, whose licence nobody may know: not for publication."""


def evaluate_run(
    model: keras.Model,
    recipe: Recipe,
    data: Prepared,
    checkpoint: Checkpoint,
    out: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Calibrate on validation, measure on test under both protocols, write all but ``run.json``.

    The bias of the calibration becomes part of the network.

    Returns:
        The sections `calibration`, `evaluation`, `sources`, `generators`, `spread`, `robustness`,
        `samples`, `onnx`, `plots` and `environment` of ``run.json``.
    """
    held, protocol = data.validation, recipe.input.training
    judge = keras_probabilities(model)
    held_logits = image_logits(judge, held.views(protocol))
    temperature, bias = 1.0, 0.0
    if recipe.calibration.temperature:
        temperature, bias = fit_calibration(held.labels, held_logits)
        add_bias(model, bias)
    held_scores = sigmoid(held_logits + bias, temperature)
    chosen = recipe.calibration.threshold
    threshold = fit_threshold(held.labels, held_scores) if chosen == "fit" else chosen
    certain = recipe.calibration.certain
    band = fit_uncertain(held.labels, held_scores, threshold, certain) if certain else None
    scores: Scores = {
        name: sigmoid(image_logits(judge, data.test.views(name)), temperature) for name in PROTOCOLS
    }

    classifier = ElaClassifier(model, recipe, temperature, threshold, band, data.summary)
    onnx = _save(classifier, out / "weights", say)
    table = _predictions(data, scores)
    with whole_file(out / "predictions.parquet") as temporary:
        table.to_parquet(temporary, index=False)

    labels, groups = data.test.labels, _groups(data, data.test)
    run = {
        "calibration": {
            "temperature": temperature,
            "bias": bias,
            "threshold": threshold,
            "uncertain": band,
        },
        "evaluation": {
            "validation": measured(
                held.labels, {protocol: held_scores}, threshold, _groups(data, held)
            ),
            "test": measured(labels, scores, threshold, groups),
            "chance_ece": chance_ece(scores),
            "coverage": covered(labels, scores, threshold, band),
        },
        **tables(
            {name: table[column] for name, column in COLUMNS.items()},
            labels,
            scores,
            threshold,
            groups,
        ),
        "robustness": _robustness(classifier, data.test, say),
        "samples": _samples(classifier),
        "onnx": onnx,
        "environment": environment(),
    }
    _draw(run, checkpoint, data.test, scores, out / "plots")
    (out / "samples").mkdir(exist_ok=True)
    for name, path in sample_files().items():
        shutil.copyfile(path, out / "samples" / name)
    drawn = {path.name for path in (out / "plots").iterdir()}
    return {**run, "plots": sorted(drawn - WITH_IMAGES)}


def _save(
    classifier: ElaClassifier, folder: Path, say: Callable[[str], None]
) -> dict[str, int] | None:
    """Save the model; return opset and size of its ONNX file, None where there is no exporter."""
    try:
        classifier.save_pretrained(folder)
    except ExportError as error:  # what was trained is not lost for that
        say(f"The model is saved for Keras only. {error}")
        classifier.save_pretrained(folder, onnx=False)
        return None
    return {"opset": OPSET, "bytes": (folder / ONNX_FILE).stat().st_size}


def _samples(classifier: ElaClassifier) -> list[dict[str, Any]]:
    """Score the package's own pictures: what every copy of the model must give again."""
    pictures = sample_pictures()
    return [
        {
            "file": name,
            "title": SAMPLES[name],
            "label": sample_label(name),
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "score": score,
        }
        for (name, path), score in zip(
            pictures.items(), classifier.scores(pictures.values()), strict=True
        )
    ]


def _robustness(
    classifier: ElaClassifier, test: Split, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure on aligned images, of which the store has kept the pixels."""
    drawn = Sample()
    for row, facts in zip(test.rows, test.facts, strict=True):
        drawn.add(test.store.aligned_png(int(row)), facts["label"], facts["key"])
    images, image_labels = drawn.balanced()
    say(f"Changing {len(images)} of them by JPEG, resizing and more ...")
    return {"base": "aligned", **robustness(classifier, images, image_labels)}


def _groups(data: Prepared, split: Split) -> list[str | None]:
    return [data.groups.get(facts["file_name"], "group") for facts in split.facts]


def _predictions(data: Prepared, scores: Scores) -> pd.DataFrame:
    """One row per test image: file, label, scores, group and source where known, file facts."""
    facts = data.test.facts
    names = [row["file_name"] for row in facts]
    columns: dict[str, Any] = {
        "file": names,
        "label": ["fake" if row["label"] else "real" for row in facts],
        "score": scores["as_is"],
        "score_aligned": scores["aligned"],
        "group": _groups(data, data.test),
        **{
            column: [data.groups.get(name, column) for name in names] for column in COLUMNS.values()
        },
    }
    kept = ("format", "mode", "width", "height", "bytes", "jpeg_quality", "subsampling")
    return pd.DataFrame(columns | {fact: [row[fact] for row in facts] for fact in kept})


def _draw(
    run: dict[str, Any],
    checkpoint: Checkpoint,
    test: Split,
    scores: Scores,
    folder: Path,
) -> None:
    folder.mkdir(exist_ok=True)
    threshold, found = run["calibration"]["threshold"], run["evaluation"]
    curves = {str(name): (test.labels, scores[name]) for name in PROTOCOLS}
    plots.performance(found["test"], found["coverage"], curves, folder, threshold=threshold)
    monitor = checkpoint.stopping.monitor if checkpoint.stopping else "val_loss"
    plots.training_curves(checkpoint.history, folder / "training.png", monitor=monitor)
    for name in PROTOCOLS:
        if run["sources"][name]:
            title = f"{name.replace('_', '-')}, n = {len(test)}"
            plots.per_source(run["sources"][name], folder / f"sources_{name}.png", title=title)
    plots.robustness_table({"aligned": run["robustness"]}, folder / "robustness.png")
    _draw_sheets(test, scores["as_is"], threshold, folder)


def _draw_sheets(test: Split, scores: np.ndarray, threshold: float, folder: Path) -> None:
    labels = test.labels

    def item(position: int) -> tuple[str, np.ndarray, np.ndarray]:
        name = Path(test.facts[position]["file_name"]).name
        return name, *test.store.pictures(int(test.rows[position]))

    shown = []
    for label, kind in ((1, "fake"), (0, "real")):
        here = np.flatnonzero(labels == label)
        for position in here[np.linspace(0, len(here) - 1, min(6, len(here))).astype(int)]:
            name, image, ela = item(position)
            shown.append((f"{kind} · {name}", image, ela))
    title = "Test images and their ELA, for the eye: quality 90, brightened"
    sheets.ela_sheet(shown, folder / "ela.png", title=title)
    wrong = np.flatnonzero((scores >= threshold) != (labels == 1))
    worst = wrong[np.argsort(-np.abs(scores[wrong] - labels[wrong]))][:12]
    title = (
        f"Worst mistakes as-is: {len(wrong)} of {len(test)} wrong at the threshold {threshold:.2f}"
    )
    sheets.mistakes(
        [(*item(i), scores[i]) for i in worst],
        folder / "mistakes.png",
        threshold=threshold,
        title=title,
    )
