"""What a training ends with: the calibrated model, its evaluation, plots and predictions."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hf_ela._files import whole_file
from hf_ela._terminal import progress_bar
from hf_ela.backend import keras
from hf_ela.classifier import ElaClassifier
from hf_ela.data.groups import split_table
from hf_ela.data.preparation import Prepared, Split
from hf_ela.errors import ExportError
from hf_ela.evaluation.calibration import (
    FALSE_ALARMS,
    fit_calibration,
    fit_false_alarms,
    fit_frequencies,
    fit_threshold,
    fit_uncertain,
)
from hf_ela.evaluation.robustness import BalancedSample, load_as_is
from hf_ela.evaluation.summary import PROTOCOLS, Scores, evaluation_sections, metrics_by_protocol
from hf_ela.hub.package import SAMPLES, sample_files, sample_label, sample_pictures
from hf_ela.models.calibrated import SourcesKnown
from hf_ela.models.detector import image_logits, keras_probabilities
from hf_ela.models.export import OPSET
from hf_ela.models.networks import add_bias
from hf_ela.models.settings import ONNX_FILE
from hf_ela.recipes.schema import Protocol, Recipe
from hf_ela.run_record import GROUPS_TABLE
from hf_ela.training.fit import Checkpoint
from hf_ela.training.initial import Initial
from hf_ela.training.left_out import left_out_tables, score_known, score_left_out
from hf_ela.training.provenance import environment

ENOUGH = 50
"""Validation images of each class from which on a fine-tuned model is calibrated anew."""
WITH_IMAGES = {"ela.png", "mistakes.png"}
"""Plots that show images of the dataset: its licence may forbid publishing them."""


def write_results(
    model: keras.Model,
    recipe: Recipe,
    data: Prepared,
    checkpoint: Checkpoint,
    out: Path,
    initial: Initial | None,
    *,
    plots: bool,
    export: bool,
    resamples: int,
    perturbations: Sequence[str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Calibrate on validation, measure on test under both protocols, write all but ``run.json``.

    The bias of the calibration becomes part of the network, and `data.summary` gets the checksum of
    the table of groups. For the arguments see
    `hf_ela.training.trainer.train`.

    Returns:
        The sections `calibration`, `evaluation`, `sources`, `generators`, `spread`, `robustness`,
        `left_out` where the recipe asks for it, `samples`, `onnx`, `plots` and `environment` of
        ``run.json``.
    """
    if data.summary["groups"]:
        data.summary["groups"]["table"] = _write_groups(out / GROUPS_TABLE, data)
    classifier = ElaClassifier(model, recipe, data=data.summary)
    if recipe.calibration.left_out:
        left_out = score_left_out(recipe, data, model, out / "checkpoint")
        held, logits = left_out.split, left_out.logits
        by_sources: dict[SourcesKnown, tuple[np.ndarray, np.ndarray]] = {
            "known": _stacked(data.validation, score_known(data, model)),
            "unseen": _stacked(held, logits),
        }
    else:
        left_out, held, protocol = None, data.validation, recipe.input.training
        logits = {protocol: image_logits(keras_probabilities(model), held.views(protocol))}
        by_sources = {"known": _stacked(held, logits)}
    calibration = _calibrate(classifier, by_sources, len(logits), initial, say)
    add_bias(model, calibration["bias"])
    held_scores = {
        name: classifier.calibrated(x + calibration["bias"]) for name, x in logits.items()
    }
    held_columns = data.groups.columns(held.file_names)

    onnx = _save(classifier, out / "weights", export, say)
    # What is released is what is measured; on a CPU it also takes less than half of Keras's time.
    saved = ElaClassifier.from_pretrained(out / "weights", runtime="onnx") if onnx else classifier
    scores = {
        name: saved.image_scores(progress_bar(data.test.views(name), "Scoring", len(data.test)))
        for name in PROTOCOLS
    }
    columns = data.groups.columns(data.test.file_names)
    _write_predictions(out / "predictions.parquet", data.test, scores, columns)
    if left_out:
        _write_predictions(out / "predictions_left_out.parquet", held, held_scores, held_columns)

    sample = _sample(data.test)
    say("Measuring robustness to JPEG, resizing and other changes ...")
    sections = evaluation_sections(
        saved,
        data.test.labels,
        scores,
        columns,
        sample,
        load=load_as_is,  # the store keeps aligned pixels
        resamples=resamples,
        perturbations=perturbations,
        progress=True,
    )
    held_metrics = metrics_by_protocol(
        held.labels,
        held_scores,
        classifier.threshold,
        held_columns["group"],
        resamples=resamples,
    )
    if left_out:
        sections["left_out"] = {
            "column": recipe.calibration.left_out,
            "metrics": held_metrics,
            **left_out_tables(left_out, held_scores, classifier, held_columns),
        }
    else:
        sections["evaluation"]["validation"] = held_metrics
    (out / "samples").mkdir(exist_ok=True)
    for name, path in sample_files().items():
        shutil.copyfile(path, out / "samples" / name)
    (out / "plots").mkdir(exist_ok=True)
    if plots:
        from hf_ela.training.run_plots import draw_run, training_curves  # half a second of imports

        draw_run(sections, classifier, data.test, scores, out / "plots")
        monitor = checkpoint.stopping.monitor if checkpoint.stopping else "val_loss"
        training_curves(checkpoint.history, out / "plots" / "training.png", monitor=monitor)
    drawn = {path.name for path in (out / "plots").iterdir()}
    return {
        "calibration": calibration,
        **sections,
        "samples": _sample_scores(classifier),
        "onnx": onnx,
        "plots": sorted(drawn - WITH_IMAGES),
        "environment": environment(),
    }


def _stacked(split: Split, logits: Mapping[Protocol, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and logits of images under each protocol, one after the other."""
    return np.tile(split.labels, len(logits)), np.concatenate([*logits.values()])


def _calibrate(
    classifier: ElaClassifier,
    by_sources: Mapping[SourcesKnown, tuple[np.ndarray, np.ndarray]],
    protocols: int,
    initial: Initial | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Fit what a classifier answers by, as its recipe says, or keep that of the initial model.

    Args:
        classifier: Gets what `Calibrated` has.
        by_sources: Labels and logits of held-out images. Those of sources that were not trained on
            decide, where there are any.
        protocols: How often each image is among them.
        initial: The model that the training started from.
        say: Receives a line if it is kept.

    Returns:
        The section `calibration` of ``run.json``; its bias is not yet part of the network.
    """
    how, (labels, x) = classifier.recipe.calibration, [*by_sources.values()][-1]
    section: dict[str, Any] = {"bias": 0.0}
    if initial and np.bincount(labels, minlength=2).min() < ENOUGH * protocols:
        say(f"Calibration is that of {initial.name}: validation has too few images to fit it.")
        before = initial.settings
        classifier.temperature, classifier.threshold = before.temperature, before.threshold
        classifier.uncertain, classifier.false_alarms = before.uncertain, before.false_alarms
        classifier.frequencies = before.frequencies
        section["kept"] = True
    else:
        if how.temperature:
            classifier.temperature, section["bias"] = fit_calibration(labels, x)
        scores = classifier.calibrated(x + section["bias"])
        classifier.threshold = (
            fit_threshold(labels, scores) if how.threshold == "fit" else how.threshold
        )
        if how.certain:
            classifier.uncertain = fit_uncertain(labels, scores, classifier.threshold, how.certain)
        section["false_alarms"] = classifier.false_alarms = {
            f"{share:g}": fit_false_alarms(labels, scores, share) for share in FALSE_ALARMS
        }
        section["frequencies"] = classifier.frequencies = {
            sources: fit_frequencies(y, classifier.calibrated(logits + section["bias"]))
            for sources, (y, logits) in by_sources.items()
        }
    return {
        "temperature": classifier.temperature,
        "threshold": classifier.threshold,
        "uncertain": classifier.uncertain,
        **section,
    }


def _save(
    classifier: ElaClassifier, folder: Path, export: bool, say: Callable[[str], None]
) -> dict[str, int] | None:
    """Save the model; return opset and size of its ONNX file, None where it has none."""
    try:
        classifier.save_pretrained(folder, onnx=export)
    except ExportError as error:  # what was trained is not lost for that
        say(f"The model is saved for Keras only. {error}")
        classifier.save_pretrained(folder, onnx=False)
        return None
    return {"opset": OPSET, "bytes": (folder / ONNX_FILE).stat().st_size} if export else None


def _sample_scores(classifier: ElaClassifier) -> list[dict[str, Any]]:
    """Score the package's own pictures: every copy of the model must give the same scores."""
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


def _sample(test: Split) -> BalancedSample:
    """Draw test images for the robustness table, as the store keeps them: aligned."""
    sample = BalancedSample()
    for row, facts in zip(test.rows, test.facts, strict=True):
        sample.add(test.store.aligned_png(int(row)), facts["label"], facts["key"])
    return sample


def _write_groups(path: Path, data: Prepared) -> str:
    """Write `split_table` and return its SHA-256."""
    splits = {name: getattr(data, name).facts for name in ("train", "validation", "test")}
    content = split_table(data.groups, splits).encode()
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
    return sha256(content).hexdigest()


def _write_predictions(
    path: Path, split: Split, scores: Scores, columns: dict[str, list[str | None]]
) -> None:
    """Write a row per image: file, label, scores, group and source if known, file facts."""
    facts = split.facts
    kept = ("format", "mode", "width", "height", "bytes", "jpeg_quality", "subsampling")
    table = pd.DataFrame(
        {
            "file": split.file_names,
            "label": ["fake" if row["label"] else "real" for row in facts],
            "score": scores["as_is"],
            "score_aligned": scores["aligned"],
            **columns,
            **{fact: [row[fact] for row in facts] for fact in kept},
        }
    )
    with whole_file(path) as temporary:
        table.to_parquet(temporary, index=False)
