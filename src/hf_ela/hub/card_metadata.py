"""The metadata and the text of a card: what a run says of itself, beside what a person wrote.

`huggingface_hub` reads and writes them: keys, their order and line ends stay, comments do not.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import yaml
from huggingface_hub import EvalResult, ModelCard, RepoCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from hf_ela._terminal import printable
from hf_ela._text import LABEL_WORDS
from hf_ela.errors import CardError
from hf_ela.models.calibrated import about_half

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
# Where the Hub's name of a metric (huggingface.co/metrics) differs from ours.
_HUB_METRICS = {"brier": "brier_score"}
_LISTED_METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc", "brier_score")

MAX_METADATA = 2**17
"""Characters of a card's metadata that are read; a card of ours has some 5,000."""

BEGIN = "<!-- hf-ela: begin. Made from run.json by `hf-ela card`; text outside it stays. -->"
END = "<!-- hf-ela: end -->"

_ANY_MARKER = re.compile(r"<!--\s*hf-ela:")
_MARKER_LINE = re.compile(
    r"(?:\A|(?<=[\r\n]))[ \t]*<!--\s*hf-ela:\s*(begin|end)\b[^\r\n]*?-->[ \t]*(?=[\r\n]|\Z)"
)

Card = TypeVar("Card", bound=RepoCard)


def body_of(text: str) -> str:
    """Return a card without its metadata."""
    return str(REGEX_YAML_BLOCK.sub("", text.removeprefix("\ufeff"), count=1))


def parse_card(text: str, kind: type[Card]) -> Card:
    """Read a card that anybody may have written.

    Args:
        text: The whole card.
        kind: `ModelCard` or `SpaceCard`.

    Raises:
        CardError: Its metadata are not YAML lines of ``key: value``, are too large, or use aliases,
            of which a few lines can stand for more than memory holds.
    """
    text = text.removeprefix("\ufeff")
    block = REGEX_YAML_BLOCK.search(text)
    with _card_errors():
        if block and len(block[2]) > MAX_METADATA:
            raise ValueError(f"{len(block[2]):,} characters; at most {MAX_METADATA:,} are read")
        events = yaml.parse(block[2] if block else "", yaml.SafeLoader)
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise ValueError("an alias (*name)")
        # What is wrong with the results of an earlier card does not matter: they are made anew.
        return kind(text, ignore_metadata_errors=True)


def metadata_of(card: RepoCard) -> dict[str, Any]:
    """Return the metadata of a card as its YAML has them."""
    return dict(card.data.to_dict())  # type: ignore[no-untyped-call]  # the client leaves it untyped


def with_metadata(
    card: ModelCard, run: Mapping[str, Any], repo_id: str | None, defaults: Mapping[str, Any]
) -> str:
    """Return a card with the metadata of a run; a person's other keys stay.

    Args:
        card: The card, with its new text.
        run: What ``run.json`` holds.
        repo_id: ``user/name`` of the release, or None.
        defaults: Values for keys of a person that `card` does not have; tags are added.

    Raises:
        CardError: A key of a person has a value that the Hub would misread.
    """
    data = card.data
    for key, value in defaults.items():
        data[key] = value if data.get(key) is None else data[key]
    if isinstance(tags := data["tags"], list):
        data["tags"] = [*tags, *(tag for tag in defaults["tags"] if tag not in tags)]
    for key, value in _run_metadata(run, repo_id).items():
        data[key] = value
    for key in ("tags", "language"):
        values = [data[key]] if isinstance(data[key], str) else data[key]
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise CardError(
                f"`{key}` of a card must be a word or a list of words. Received: {data[key]!r}. "
                "Put quotes around what YAML reads as a number or a truth value."
            )
    with _card_errors():
        text = str(card)
        if metadata_of(parse_card(text, ModelCard)) != metadata_of(card):
            raise ValueError("values that change when they are written again")
        return text


def _run_metadata(run: Mapping[str, Any], repo_id: str | None) -> dict[str, Any]:
    """Return the metadata that every card gets anew; None for what the run does not tell."""
    data = run["data"]
    on_hub = bool(data.get("revision"))
    results = [
        EvalResult(
            task_type=TASK,
            task_name="Image classification",
            # What a person calls it; a folder is loaded by the builder of that name.
            dataset_type=data["id"] if on_hub else "imagefolder",
            dataset_name=printable(data["id"]),
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
    name = repo_id.partition("/")[2] if repo_id else f"hf-ela-{printable(run['recipe']['name'])}"
    measured_types = {result.metric_type for result in results}
    return {
        "library_name": "keras",
        "pipeline_tag": TASK,
        "datasets": [data["id"]] if on_hub else None,
        "metrics": [metric for metric in _LISTED_METRICS if metric in measured_types] or None,
        "widget": [
            _example(answer, run["calibration"]["threshold"]) for answer in sample_answers(run)
        ]
        or None,
        "co2_eq_emissions": run.get("co2_eq_emissions") or None,
        **_base_model(run.get("initial") or {}),
        # `model-index`, in the library's own form.
        "model_name": name if results else None,
        "eval_results": results or None,
    }


def _base_model(initial: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys that say from which model of the Hub this one was fine-tuned, if any."""
    if not initial.get("revision"):
        return {}
    return {"base_model": initial["id"], "base_model_relation": "finetune"}


def sample_answers(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the recorded sample pictures with the model's `answer`, also as the card `says` it."""
    threshold = run["calibration"]["threshold"]
    low, high = run["calibration"].get("uncertain") or (2, 2)
    answers = []
    for sample in run.get("samples") or ():
        answer = "fake" if sample["score"] >= threshold else "real"
        leaning = "uncertain, leaning to " if low <= sample["score"] <= high else ""
        answers.append({**sample, "answer": answer, "says": leaning + LABEL_WORDS[answer]})
    return answers


def _example(sample: Mapping[str, Any], threshold: float) -> dict[str, Any]:
    """Return a sample as an example of the Hub's widget, the decision first.

    A path within the repository is enough: huggingface.co/docs/hub/models-widgets.
    """
    fake = about_half(sample["score"], threshold)
    scores = sorted([(fake, "fake"), (1 - fake, "real")], reverse=True)
    truth = LABEL_WORDS[sample["label"]]
    return {
        "src": f"samples/{sample['file']}",
        "example_title": f"{sample['title']}: {truth}; answer: {sample['says']}",
        "output": [{"label": label, "score": round(score, 4)} for score, label in scores],
    }


@contextmanager
def _card_errors() -> Iterator[None]:
    """Turn what YAML and the Hub's client raise about metadata into a `CardError`."""
    try:
        yield
    # AttributeError: a date that does not exist; RecursionError: nested too deep; TypeError: a key
    # that is not text, or is the name of a method.
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CardError(
            "The metadata of a card must be YAML lines `key: value`, without aliases. Received: "
            f"{error}. Fix them, or write the card anew with `replace_card`."
        ) from error


def has_text(card: str | None) -> bool:
    """Return whether a card has more than metadata."""
    return card is not None and bool(body_of(card).strip())


def written_text(card: str) -> str:
    """Return what a person may have written in a card: all below the metadata but the block."""
    body = body_of(card)
    marks = list(_MARKER_LINE.finditer(body))
    return body[: marks[0].start()] + body[marks[-1].end() :] if marks else body


def decode_card(content: bytes) -> str:
    """Return the text of a card; its line ends stay.

    Raises:
        CardError: It is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CardError(
            f"The card, README.md, is not UTF-8 text ({error}). Save it as UTF-8, or write it anew "
            "with `replace_card`."
        ) from error


def with_block(body: str, block: str, eol: str) -> str:
    """Put the block between the markers of a text, or below a text without any."""
    if not _ANY_MARKER.search(body):
        gap = eol if body.endswith(("\n", "\r")) else eol + eol
        return body + gap + block + eol
    found = list(_MARKER_LINE.finditer(body))
    kinds = [match[1] for match in found]
    if kinds != ["begin", "end"] or len(_ANY_MARKER.findall(body)) != 2:
        received = ", ".join(kinds) or "none"
        raise CardError(
            "A card must have two marker lines, <!-- hf-ela: begin --> and below it "
            f"<!-- hf-ela: end -->, with nothing else on them. Received: {received}. Put them "
            "around the generated part, or write the card anew with `replace_card`."
        )
    return body[: found[0].start()] + block + body[found[1].end() :]
