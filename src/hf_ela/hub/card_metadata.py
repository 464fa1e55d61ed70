"""The metadata of a model card: what a run says of itself, and what the Hub accepts."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from hf_ela.errors import CardError

__all__ = [
    "GENERATED",
    "METRIC_NAMES",
    "check_card",
    "merge_metadata",
    "read_metadata",
    "run_metadata",
    "split_card",
]

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


GENERATED = (
    "library_name",
    "pipeline_tag",
    "datasets",
    "metrics",
    "widget",
    "co2_eq_emissions",
    "model-index",
)
_EMPTY_BLOCK = re.compile(r"\s*---(\r\n|\r|\n)---[ \t]*(\r\n|\r|\n|$)")
MOST_ALIASES = 16
"""In the front matter of a card; each may double what it stands for."""
_MEND = "Mend it, or have the card written anew (--replace, or --replace-card when pushing)."


def split_card(text: str) -> tuple[str, str]:
    """Return the YAML of a card, without its fences, and the text below; by the Hub's own rule."""
    text = text.removeprefix("\ufeff")
    if empty := _EMPTY_BLOCK.match(text):
        return "", text[empty.end() :]
    match = REGEX_YAML_BLOCK.search(text)
    return (match[2], text[match.end() :]) if match else ("", text)


def merge_metadata(
    previous: str, generated: Mapping[str, Any], defaults: Mapping[str, Any], eol: str
) -> str:
    """Return the YAML of a card with its generated keys renewed and the lines of others kept.

    Args:
        previous: The YAML before, without fences.
        generated: New values of the keys in `GENERATED`; those that are missing go.
        defaults: Values of a person's keys, used where `previous` has none; tags are added.
        eol: Line end of new lines.

    Raises:
        CardError: `previous` is no YAML that can be edited key by key.
    """
    # The last line's end belongs to the fence, but a text block of YAML ends with it.
    before, head, entries = _entries(_ended(previous, eol))
    wanted = {key: value for key, value in before.items() if key not in GENERATED}
    wanted |= {key: value for key, value in defaults.items() if key not in wanted}
    wanted["tags"] = _union(before.get("tags"), defaults.get("tags"))
    wanted |= generated
    lines = [head]
    for key, text in entries.items():
        if key in wanted and wanted[key] == before[key]:
            lines.append(text)
        else:
            new = _dump(key, wanted[key], eol) if key in wanted else ""
            lines.append(new + _comments_below(text))
    order = [*defaults, *GENERATED]
    missing = [key for key in order if key in wanted and key not in entries]
    lines += [_dump(key, wanted[key], eol) for key in missing]
    merged = "".join(_ended(line, eol) for line in lines)
    try:
        after = read_metadata(merged)
    except CardError:
        after = None
    if after != wanted:
        raise CardError(
            "The front matter of a card must allow single keys to be replaced. Received: one with "
            f"anchors, `...` or the like. {_MEND}"
        )
    return merged


def _ended(text: str, eol: str) -> str:
    return text if not text or text.endswith(("\n", "\r")) else text + eol


def _entries(text: str) -> tuple[dict[str, Any], str, dict[str, str]]:
    """Return the values, what stands before the first key, and each key's own lines."""
    values = read_metadata(text)
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return {}, text, {}
    pairs = node.value if isinstance(node, yaml.MappingNode) else []  # else it is a null
    keys = [key for key, _ in pairs]
    names = [key.value for key in keys]
    if (
        not pairs
        or node.flow_style
        or any(key.start_mark.column for key in keys)
        or set(names) != set(values)
    ):
        received = "keys of another kind"
    elif len(names) > len(set(names)):
        received = f"twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}"
    else:
        starts = [key.start_mark.index for key in keys]
        parts = zip(starts, [*starts[1:], len(text)], strict=True)
        lines = [text[start:end] for start, end in parts]
        return values, text[: starts[0]], dict(zip(names, lines, strict=True))
    raise CardError(
        "The front matter of a card must have lines `key: value`, each key once. Received: "
        f"{received}. {_MEND}"
    )


def read_metadata(text: str) -> dict[str, Any]:
    """Return the values of YAML without fences; none of them where there is no text."""
    try:
        events = yaml.parse(text, yaml.SafeLoader)
        if sum(isinstance(event, yaml.AliasEvent) for event in events) > MOST_ALIASES:
            raise ValueError(f"more than {MOST_ALIASES} aliases (*name)")
        values = yaml.safe_load(text)
        json.dumps(values, default=str, skipkeys=True)  # refuses what contains itself
    # ValueError, AttributeError: a date that does not exist; RecursionError: nested too deep.
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise CardError(
            f"The front matter of a card must be YAML. Received: {error}. {_MEND}"
        ) from error
    if not isinstance(values, dict | None):
        raise CardError(
            "The front matter of a card must have lines `key: value`. Received: "
            f"a {type(values).__name__}. {_MEND}"
        )
    return values or {}


def _union(before: Any, ours: Sequence[str] | None) -> Any:
    had = [before] if isinstance(before, str) else before or []
    if not isinstance(had, list):
        return before
    missing = [tag for tag in ours or () if tag not in had]
    return [*had, *missing] if missing else before


def _comments_below(text: str) -> str:
    """Comments and empty lines at the end of a key's lines: they belong to what follows."""
    lines = text.splitlines(keepends=True)
    number = len(lines)
    while number > 1 and (not lines[number - 1].strip() or lines[number - 1].startswith("#")):
        number -= 1
    return "".join(lines[number:])


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Puts text on one line: where it is folded, some of Unicode's line ends would be lost."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def _dump(key: str, value: Any, eol: str) -> str:
    text: str = yaml.dump(
        {key: value},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=1000,
        line_break=eol,
    )
    return text
