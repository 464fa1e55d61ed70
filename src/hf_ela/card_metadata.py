"""The metadata of a model card: what a run says of itself, and what the Hub accepts."""

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from hf_ela.errors import CardError
from hf_ela.front_matter import GENERATED, read_metadata, split_card

__all__ = ["METRIC_NAMES", "check_card", "run_metadata"]

TASK = "image-classification"
METRIC_NAMES = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "specificity": "Specificity",
    "balanced_accuracy": "Balanced accuracy",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "brier": "Brier score",
    "ece": "Expected calibration error",
}
# Where the Hub's name of a metric (huggingface.co/metrics) is another than ours.
_HUB_METRICS = {"brier": "brier_score"}
_LISTED_METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc", "brier_score")

# huggingface.co/docs/hub/repositories-licenses, 2026.
_LICENSES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl
ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0
odc-by odbl openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib
pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1
llama3.2 llama3.3 llama4 grok2-community gemma unknown other
"""
LICENSES = frozenset(_LICENSES.split())


# ------------------------------------------------------------------------------- what a run says


def run_metadata(run: Mapping[str, Any], repo_id: str | None) -> dict[str, Any]:
    """Return the keys of `GENERATED` that a run has something to say about."""
    data = run["data"]
    on_hub = bool(data.get("revision"))
    results = [
        EvalResult(
            task_type=TASK,
            task_name="Image classification",
            # What a person calls it; a folder is loaded by the builder of that name.
            dataset_type=data["id"] if on_hub else "imagefolder",
            dataset_name=data["id"],
            dataset_config="default" if on_hub else None,
            dataset_split="test",
            dataset_revision=data.get("revision"),
            metric_type=_HUB_METRICS.get(metric, metric),
            metric_name=f"{METRIC_NAMES.get(metric, metric)} ({protocol.replace('_', '-')})",
            metric_value=round(cell["value"], 4),
        )
        for protocol, measured in run["evaluation"]["test"].items()
        for metric, cell in measured.items()
        if metric != "confusion" and cell["value"] is not None
    ]
    measured_types = {result.metric_type for result in results}
    card = ModelCardData(
        library_name="keras",
        pipeline_tag=TASK,
        datasets=[data["id"]] if on_hub else None,
        metrics=[metric for metric in _LISTED_METRICS if metric in measured_types] or None,
        widget=_widget(run) or None,
        co2_eq_emissions=run.get("co2_eq_emissions") or None,
        model_name=repo_id.partition("/")[2] if repo_id else f"hf-ela-{run['recipe']['name']}",
        eval_results=results or None,
    ).to_dict()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    return {key: card[key] for key in GENERATED if key in card}


def _widget(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The samples with their answers, the decision first, as `ElaClassifier.predict` gives them.

    A path within the repository is enough: huggingface.co/docs/hub/models-widgets.
    """
    examples = []
    for sample in run.get("samples") or ():
        fake = sample["score"]
        scores = {"fake": round(fake, 4), "real": round(1 - fake, 4)}
        is_fake = fake >= run["calibration"]["threshold"]
        examples.append(
            {
                "src": f"samples/{sample['file']}",
                "example_title": _title(sample["file"]),
                "output": [
                    {"label": label, "score": scores[label]}
                    for label in (("fake", "real") if is_fake else ("real", "fake"))
                ],
            }
        )
    return examples


def _title(file: str) -> str:
    """Return what a sample is: neither class of it is art, and a model of art need not know it."""
    style, _, label = PurePosixPath(file).stem.rpartition("-")
    return f"{style}, drawn by a program" + (" and decoded" if label == "fake" else "")


# --------------------------------------------------------------------------- what the Hub accepts


def check_card(text: str) -> None:
    """Check the metadata of a card by the Hub's rules, without the Hub.

    Raises:
        CardError: The Hub would refuse it, or show it wrongly.
    """
    metadata = read_metadata(split_card(text)[0])
    licenses = metadata.get("license")
    known = [licenses] if isinstance(licenses, str) else licenses
    if not isinstance(known, list) or not known or not set(map(str, known)) <= LICENSES:
        raise CardError(
            "`license` of a card must be one of the Hub's identifiers, as in apache-2.0; see "
            f"huggingface.co/docs/hub/repositories-licenses. Received: {licenses!r}. Mend it there."
        )
    if metadata.get("pipeline_tag") != TASK:
        raise CardError(
            f"`pipeline_tag` of a card must be {TASK}. Received: "
            f"{metadata.get('pipeline_tag')!r}. Make the card again: hf-ela card RUN."
        )
    for key in ("tags", "datasets", "metrics"):
        if not _are_words(metadata.get(key, [])):
            raise CardError(
                f"`{key}` of a card must be a list of words. Received: {metadata[key]!r}. "
                "Put quotes around what YAML takes for a number or a truth value."
            )
    if not _is_finite(metadata):
        raise CardError(
            "The front matter of a card must hold finite numbers. Received: NaN or infinity. "
            "Make the card again: hf-ela card RUN."
        )
    if "model-index" in metadata and not _survives(metadata["model-index"]):
        raise CardError(
            "`model-index` of a card must be read and written again without a loss. Received: one "
            "that is not. Make the card again: hf-ela card RUN."
        )


def _are_words(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) and value for value in values)


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _survives(model_index: Any) -> bool:
    try:
        name, results = model_index_to_eval_results(model_index)
        values = [result.metric_value for result in results]
        return (
            bool(results)
            and all(isinstance(value, int | float) for value in values)
            and eval_results_to_model_index(name, results) == model_index
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
