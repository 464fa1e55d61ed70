"""The generated part of a model card: a run in, Markdown out, by ``model_card/template.md``."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from jinja2 import ChainableUndefined, Environment
from markupsafe import Markup

from hf_ela._terminal import printable
from hf_ela._text import (
    LABEL_WORDS,
    SYNTHETIC_NOTICE,
    in_words,
    more_right,
    no_width,
    over_seeds,
    perturbation_label,
)
from hf_ela._version import __version__
from hf_ela.errors import install_command
from hf_ela.hub.card_metadata import METRIC_NAMES, sample_answers
from hf_ela.hub.datasets import DEFAULT_DATASET
from hf_ela.hub.samples import MODEL_CARD

__all__ = ["CAPTIONS", "REPOSITORY", "generated_text"]

REPOSITORY = r"[\w.-]+/[\w.-]+"
"""Pattern of the id of a repository."""
CAPTIONS = {
    "roc.png": "ROC curves",
    "confusion.png": "Confusion matrices",
    "reliability.png": "Reliability of the scores",
    "coverage.png": "Accuracy of the images that are decided",
    "sources_as_is.png": "Right answers by source, as-is",
    "sources_aligned.png": "Right answers by source, aligned",
    "robustness.png": "Balanced accuracy after changes to the image",
    "training.png": "Loss and accuracy over the epochs",
}
"""Plot -> its caption; other plots may show images of the dataset."""
REJECTS_SHOWN = 20
REASONS_SHOWN = 10


def generated_text(run: Mapping[str, Any], repo_id: str | None, revision: str | None) -> str:
    """Return the part of a card that is made from a run; arguments as for `make_card`."""
    environment = Environment(  # noqa: S701  (Markdown is escaped by `finalize`)
        undefined=ChainableUndefined,
        finalize=lambda value: escape(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": code,
        "interval": _interval,
        "setting": _setting,
        "shape": lambda sizes: " × ".join(map(str, sizes)),
        "figure": lambda value: f"{value:.3f}" if isinstance(value, float | int) else "–",
        "caption": CAPTIONS.__getitem__,
        "duration": _duration,
        "metric": lambda name: METRIC_NAMES.get(name, name),
        "protocol": lambda name: name.replace("_", "-"),
        "change": perturbation_label,
        "words": LABEL_WORDS.__getitem__,
        "number": lambda value: f"{value:,}",
        "seeds": lambda values: over_seeds(values, "–"),
        "mcnemar": lambda tests: more_right(tests) if tests else "–",
    }
    data = run["data"]
    rejected = data.get("rejected") or []
    template = environment.from_string((MODEL_CARD / "template.md").read_text("utf-8"))
    text = template.render(
        run=run,
        data=data,
        test=run["evaluation"]["test"],
        repo_id=repo_id,
        pinned=f"{repo_id}@{revision}" if revision else repo_id,
        tag=revision,
        linked=_is_pinned(data),
        install=partial(_install, repo_id, revision or "main"),
        synthetic_notice=SYNTHETIC_NOTICE,
        default_dataset=DEFAULT_DATASET,
        original=data["id"] == DEFAULT_DATASET,
        rejected=rejected[:REJECTS_SHOWN],
        unlisted=len(rejected) - REJECTS_SHOWN,
        reasons=Counter(bad["reason"] for bad in rejected).most_common(REASONS_SHOWN),
        grouped=_grouped(run),
        sources=_by_source(run, "sources"),
        generators=_by_source(run, "generators"),
        plots=_plots(run),
        samples=sample_answers(run),
        no_width=no_width(run["evaluation"]["test"].values()),
    )
    text = re.sub(r" +\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _install(repo_id: str | None, revision: str, extras: str) -> Markup:
    """Return the command that installs this package: from the release, or for a run folder."""
    if repo_id is None:
        return Markup(install_command(extras))  # noqa: S704  (names of our own extras)
    wheel = f"hf_ela-{__version__}-py3-none-any.whl"
    address = f"https://huggingface.co/{repo_id}/resolve/{revision}/{wheel}"
    name = f"hf-ela[{extras}]" if extras else "hf-ela"
    return Markup(f'pip install "{name} @ {address}"')  # noqa: S704  (checked by `make_card`)


def _by_source(run: Mapping[str, Any], section: str) -> dict[str, dict[str, Any]]:
    """Return source or generator -> protocol -> its row."""
    found: dict[str, dict[str, Any]] = {}
    for protocol, rows in (run.get(section) or {}).items():
        for row in rows:
            found.setdefault(row["source"], {})[protocol] = row
    return found


def _grouped(run: Mapping[str, Any]) -> int | None:
    """Return how many groups the intervals of the test metrics resample; None for images alone."""
    cells: Mapping[str, Any] = next(iter(run["evaluation"]["test"].values()))
    groups: int | None = cells.get("accuracy", {}).get("groups")
    return groups


def _plots(run: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return section -> the plots that it shows."""
    there = run.get("plots") or ()
    sections: dict[str, list[str]] = {}
    for name in CAPTIONS:
        if name in there:
            word = name.partition("_")[0].partition(".")[0]
            section = word if word in ("sources", "robustness", "training") else "results"
            sections.setdefault(section, []).append(name)
    return sections


def _is_pinned(data: Mapping[str, Any]) -> bool:
    """Return whether the data can be linked: a repository of the Hub at a commit."""
    names = (REPOSITORY, data["id"]), (r"[0-9a-f]{40}", data.get("revision") or "")
    return all(re.fullmatch(rule, name, re.ASCII) for rule, name in names)


_ENTITIES = {character: f"&#{ord(character)};" for character in "&<>|\\`"}
_ESCAPES = str.maketrans(_ENTITIES | {character: f"\\{character}" for character in "*_[]~$"})
_CODE_ESCAPES = str.maketrans(_ENTITIES | {c: f"&#{ord(c)};" for c in "*_[]~$:@"})


def escape(text: str) -> Markup:
    """Return text as Markdown that shows it literally, on one line, also in a table."""
    if isinstance(text, Markup):
        return text
    return Markup(printable(text).translate(_ESCAPES))  # noqa: S704  (escaped here)


def code(value: object) -> Markup:
    """Return a value as code, in which no name becomes a link."""
    text = printable(str(value))
    if text.strip() == text != "" and not set(text) & set(_ENTITIES):
        return Markup(f"`{text}`")  # noqa: S704  (nothing in it ends the code)
    return Markup(f"<code>{text.translate(_CODE_ESCAPES)}</code>")  # noqa: S704  (escaped here)


def _interval(cell: Mapping[str, Any] | None) -> str:
    return in_words(cell, "–") if cell else "undefined"


def _setting(values: Mapping[str, Any]) -> Markup:
    """Return the settings of a section of a recipe that are not null."""
    listed = []
    for key, value in values.items():
        if isinstance(value, dict):
            listed += [f"{key}.{name}: {json.dumps(item)}" for name, item in value.items()]
        elif value is not None:
            listed.append(f"{key}: {json.dumps(value)}")
    return Markup(" · ").join(code(text) for text in listed)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
