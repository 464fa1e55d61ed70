"""Make the model card of a run from its ``run.json``.

`make_card` is pure: the record of a run in, Markdown out, without a network or a clock, so a card
can be made again at any time. A new card starts from the text in ``model_card/prose.md``, which a
person may edit; the part between its two marker lines is made anew each time.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from jinja2 import ChainableUndefined, Environment, Template, TemplateError
from markupsafe import Markup

from hf_ela._files import whole_file
from hf_ela._terminal import printable
from hf_ela._text import (
    LABEL_WORDS,
    SYNTHETIC_NOTICE,
    folded,
    in_words,
    no_width,
    of_hundred,
    perturbation_label,
    protocol_label,
)
from hf_ela.errors import CardError, install_command
from hf_ela.hub.card_metadata import (
    BEGIN,
    END,
    METRIC_NAMES,
    decode_card,
    metadata_of,
    parse_card,
    sample_answers,
    with_block,
    with_metadata,
)
from hf_ela.hub.client import check_tag
from hf_ela.hub.datasets import DEFAULT_DATASET
from hf_ela.hub.locate import PACKAGED
from hf_ela.hub.package import (
    MODEL_CARD,
    REPOSITORY,
    check_names,
    install_release,
    release_requirement,
)
from hf_ela.run_record import read_run

"""Pattern of the id of a repository."""
CAPTIONS = {
    "scores.png": "Scores of fake and of real images",
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


def make_card(
    run: Mapping[str, Any],
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    previous: str | None = None,
) -> str:
    """Return the model card of a run.

    Args:
        run: What ``run.json`` holds; what is missing has no section.
        repo_id: ``user/name`` of the release; None for the card of a run folder.
        revision: Tag of the release, as in ``v1.0.0``, or its branch; it requires `repo_id`.
        previous: The earlier card. Its text outside the markers stays, and so do metadata that a
            person wrote. None writes the card anew.

    Raises:
        CardError: The previous card cannot be merged, `run` is corrupt, or a name is not valid.
    """
    check_names(repo_id, revision)
    if revision is not None and repo_id is None:
        raise CardError(
            f"`revision` requires `repo_id`. Received: {revision!r} alone. Give both, or neither."
        )
    default = parse_card((MODEL_CARD / "prose.md").read_text("utf-8"), ModelCard)
    before = (previous or "").strip("\ufeff\r\n ")
    card = parse_card(previous or "", ModelCard) if before else default
    try:
        block = f"{BEGIN}\n\n{_generated_text(run, repo_id, revision)}\n\n{END}"
        if card is not default and card.text.strip():
            lines, of_windows = card.text.count("\n"), card.text.count("\r\n")
            eol = "\r\n" if 2 * of_windows > lines else "\n"  # as most of them
            gap = "" if card.text.startswith(("\n", "\r")) else eol
            card.text = gap + with_block(card.text, block.replace("\n", eol), eol)
        else:  # a repository made on the Hub's page has metadata, and no text
            card.text = default.text.replace("{{ generated }}", block)
        return with_metadata(card, run, repo_id, metadata_of(default))
    except (AttributeError, KeyError, TypeError, ValueError, TemplateError) as error:
        raise CardError(
            "A card needs a run.json that a training wrote. Received: one that is incomplete or "
            f"corrupt: {type(error).__name__}: {error}. Copy the run again."
        ) from error


def write_card(
    folder: Path,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    replace_card: bool = False,
) -> Path:
    """Write ``README.md`` of a run folder; hand-written text in an earlier one stays.

    Args:
        folder: A run folder with its ``run.json``.
        repo_id: As for `make_card`.
        revision: Tag of the release, ``vX.Y.Z``; it requires `repo_id`.
        replace_card: Write the card anew, whatever a person wrote.

    Returns:
        The path of the card.

    Raises:
        RunError: There is no ``run.json``.
        ModelError: It is not valid.
        ReleaseError: The tag is not valid.
        CardError: The card cannot be made; an earlier one stays as it was.
    """
    if revision is not None:
        check_tag(revision)
    path = folder / "README.md"
    run = read_run(folder).content()
    before = decode_card(path.read_bytes()) if path.exists() and not replace_card else None
    card = make_card(run, repo_id=repo_id, revision=revision, previous=before)
    with whole_file(path) as temporary:
        temporary.write_bytes(card.encode())
    return path


def _generated_text(run: Mapping[str, Any], repo_id: str | None, revision: str | None) -> str:
    """Return the part of a card that is made from a run; arguments as for `make_card`."""
    data, test = run["data"], run["evaluation"]["test"]
    rejected = data.get("rejected") or []
    template = _compiled((MODEL_CARD / "template.md").read_text("utf-8"))
    text = template.render(
        run=run,
        data=data,
        test=test,
        repo_id=repo_id,
        pinned=f"{repo_id}@{revision}" if revision else repo_id,
        tag=revision,
        linked=_is_pinned(data),
        install=partial(_install, repo_id, revision),
        wheel=partial(_wheel, str(repo_id), revision),
        synthetic_notice=SYNTHETIC_NOTICE,
        packaged=PACKAGED,
        original=data["id"] == DEFAULT_DATASET,
        rejected=rejected[:REJECTS_SHOWN],
        unlisted=len(rejected) - REJECTS_SHOWN,
        reasons=Counter(bad["reason"] for bad in rejected).most_common(REASONS_SHOWN),
        # How many groups the intervals resample; None for images alone.
        grouped=next(iter(test.values())).get("accuracy", {}).get("groups"),
        sources=_by_source(run.get("sources"), "sources"),
        generators=_by_source(run.get("generators"), "generators or kinds"),
        unseen_sources=_by_source((run.get("left_out") or {}).get("sources"), "sources"),
        plots=_plots(run),
        samples=sample_answers(run),
        no_width=no_width(test.values()),
    )
    text = re.sub(r" +\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


@lru_cache(maxsize=1)  # compiling takes most of the time of a card
def _compiled(template: str) -> Template:
    environment = Environment(  # noqa: S701  (Markdown is escaped by `finalize`)
        undefined=ChainableUndefined,
        finalize=lambda value: escape(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": code,
        "interval": lambda cell: in_words(cell, "–") if cell else "undefined",
        "setting": _setting,
        "shape": lambda sizes: " × ".join(map(str, sizes)),
        "figure": lambda value: f"{value:.3f}" if isinstance(value, float | int) else "–",
        "caption": CAPTIONS.__getitem__,
        "duration": _duration,
        "metric": lambda name: METRIC_NAMES.get(name, name),
        "protocol": protocol_label,
        "change": perturbation_label,
        "words": LABEL_WORDS.__getitem__,
        "number": lambda value: f"{value:,}",
        "of_hundred": of_hundred,
    }
    return environment.from_string(template)


def _wheel(repo_id: str, revision: str | None, extras: str) -> Markup:
    """Return the package of the release as a requirement."""
    found = release_requirement(repo_id, revision, extras)
    return Markup(found)  # noqa: S704  (checked by `make_card`)


def _install(repo_id: str | None, revision: str | None, extras: str) -> Markup:
    """Return the command that installs this package: from the release, or for a run folder."""
    if repo_id is None:
        return Markup(install_command(extras))  # noqa: S704  (names of our own extras)
    command = install_release(repo_id, revision, extras)
    return Markup(command)  # noqa: S704  (checked by `make_card`)


def _by_source(
    rows_by_protocol: Mapping[str, Any] | None, noun: str
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return source or generator -> protocol -> its row; those with few images are one."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for protocol, rows in (rows_by_protocol or {}).items():
        for row in folded(rows, noun):
            found.setdefault(row["source"], {})[protocol] = row
    return found


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
