"""From ``run.json`` to the model card of its release.

`make_card` is pure: the record of a run in, Markdown out, with no network and no clock, so that a
card can be made again at any time. The text a person may edit is ``model_card/prose.md``; the part
that every card gets anew is ``model_card/template.md``, between two marker lines.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from jinja2 import ChainableUndefined, Environment, TemplateError
from markupsafe import Markup

from hf_ela._files import whole_file
from hf_ela._text import (
    LABEL_WORDS,
    SYNTHETIC_NOTICE,
    in_words,
    more_right,
    no_width,
    over_seeds,
    perturbation_label,
    printable,
)
from hf_ela._version import __version__
from hf_ela.errors import CardError, install_command
from hf_ela.hub.card_metadata import (
    METRIC_NAMES,
    body_of,
    metadata_of,
    parse_card,
    sample_answers,
    with_metadata,
)
from hf_ela.hub.datasets import DEFAULT_DATASET
from hf_ela.hub.samples import MODEL_CARD
from hf_ela.run_record import read_run

__all__ = ["CAPTIONS", "decode_card", "has_text", "make_card", "write_card", "written_text"]

BEGIN = "<!-- hf-ela: begin. Made from run.json by `hf-ela card`; text outside it stays. -->"
END = "<!-- hf-ela: end -->"
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
REJECTS_SHOWN = 20
REASONS_SHOWN = 10

_REPOSITORY = r"[\w.-]+/[\w.-]+"
_ANY_MARKER = re.compile(r"<!--\s*hf-ela:")
_MARKER_LINE = re.compile(
    r"(?:\A|(?<=[\r\n]))[ \t]*<!--\s*hf-ela:\s*(begin|end)\b[^\r\n]*?-->[ \t]*(?=[\r\n]|\Z)"
)


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
        revision: Tag of the release, as in ``v1.0.0``.
        previous: The earlier card. Its text outside the markers stays, and so do metadata that a
            person wrote. None writes the card anew.

    Raises:
        CardError: The previous card cannot be merged, or `run` is damaged.
    """
    for name, value, rule in (
        ("repo_id", repo_id, _REPOSITORY),
        ("revision", revision, r"[\w./-]+"),
    ):
        if value is not None and not re.fullmatch(rule, value, re.ASCII):
            raise CardError(f"`{name}` must match {rule}. Received: {value!r}. Check the name.")
    default = parse_card((MODEL_CARD / "prose.md").read_text("utf-8"), ModelCard)
    before = (previous or "").strip("\ufeff\r\n ")
    card = parse_card(previous or "", ModelCard) if before else default
    try:
        block = _block(run, repo_id, revision)
        if card is not default and has_text(card.text):
            eol = "\r\n" if "\r\n" in card.text else "\n"
            gap = "" if card.text.startswith(("\n", "\r")) else eol
            card.text = gap + _with_block(card.text, block.replace("\n", eol), eol)
        else:  # a repository made on the Hub's page has metadata, and no text
            card.text = default.text.replace("{{ generated }}", block)
        return with_metadata(card, run, repo_id, metadata_of(default))
    except (AttributeError, KeyError, TypeError, ValueError, TemplateError) as error:
        raise CardError(
            "A card needs a run.json that a training wrote. Received: one that is incomplete or "
            f"damaged: {type(error).__name__}: {error}. Copy the run again."
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
        revision: As for `make_card`.
        replace_card: Write the card anew, whatever a person wrote.

    Returns:
        The path of the card.

    Raises:
        RunError: There is no ``run.json``, or it is damaged.
        CardError: The card cannot be made; an earlier one stays as it was.
    """
    path = folder / "README.md"
    run = read_run(folder)
    before = decode_card(path.read_bytes()) if path.exists() and not replace_card else None
    card = make_card(run, repo_id=repo_id, revision=revision, previous=before)
    with whole_file(path) as temporary:
        temporary.write_bytes(card.encode())
    return path


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


def _with_block(body: str, block: str, eol: str) -> str:
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


# ------------------------------------------------------------------------------ the generated part


def _block(run: Mapping[str, Any], repo_id: str | None, revision: str | None) -> str:
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
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return f"{BEGIN}\n\n{text}\n\n{END}"


def _install(repo_id: str | None, revision: str, extras: str) -> Markup:
    """Return the command that installs this package: from the release, or for a run folder."""
    if repo_id is None:
        return Markup(install_command(extras))  # noqa: S704  (names of our own extras)
    wheel = f"hf_ela-{__version__}-py3-none-any.whl"
    address = f"https://huggingface.co/{repo_id}/resolve/{revision}/{wheel}"
    name = f"hf-ela[{extras}]" if extras else "hf-ela"
    return Markup(f'pip install "{name} @ {address}"')  # noqa: S704  (checked by `make_card`)


def _by_source(run: Mapping[str, Any], section: str) -> dict[str, dict[str, Any]]:
    """Source, or generator, -> protocol -> its row."""
    found: dict[str, dict[str, Any]] = {}
    for protocol, rows in (run.get(section) or {}).items():
        for row in rows:
            found.setdefault(row["source"], {})[protocol] = row
    return found


def _grouped(run: Mapping[str, Any]) -> int | None:
    """Number of the groups that the intervals of the test metrics are of; None of images alone."""
    cells: Mapping[str, Any] = next(iter(run["evaluation"]["test"].values()))
    groups: int | None = cells.get("accuracy", {}).get("groups")
    return groups


def _plots(run: Mapping[str, Any]) -> dict[str, list[str]]:
    """Section -> the plots that it shows."""
    there = run.get("plots") or ()
    sections: dict[str, list[str]] = {}
    for name in CAPTIONS:
        if name in there:
            word = name.partition("_")[0].partition(".")[0]
            section = word if word in ("sources", "robustness", "training") else "results"
            sections.setdefault(section, []).append(name)
    return sections


def _is_pinned(data: Mapping[str, Any]) -> bool:
    """Whether the data can be linked: a repository of the Hub at a commit."""
    names = (_REPOSITORY, data["id"]), (r"[0-9a-f]{40}", data.get("revision") or "")
    return all(re.fullmatch(rule, name, re.ASCII) for rule, name in names)


_ENTITIES = {character: f"&#{ord(character)};" for character in "&<>|\\`"}
_ESCAPES = str.maketrans(_ENTITIES | {character: f"\\{character}" for character in "*_[]~$"})
_CODE_ESCAPES = str.maketrans(_ENTITIES | {c: f"&#{ord(c)};" for c in "*_[]~$:@"})


def escape(text: str) -> Markup:
    """Return text as Markdown that shows it, on one line, in a table too."""
    if isinstance(text, Markup):
        return text
    return Markup(printable(text).translate(_ESCAPES))  # noqa: S704  (escaped here)


def code(value: object) -> Markup:
    """Return a value in the face of code. No name becomes a link there."""
    text = printable(str(value))
    if text.strip() == text != "" and not set(text) & set(_ENTITIES):
        return Markup(f"`{text}`")  # noqa: S704  (nothing in it ends the code)
    return Markup(f"<code>{text.translate(_CODE_ESCAPES)}</code>")  # noqa: S704  (escaped here)


def _interval(cell: Mapping[str, Any] | None) -> str:
    return in_words(cell, "–") if cell else "undefined"


def _setting(values: Mapping[str, Any]) -> Markup:
    """Return the settings of a section of a recipe, those that are set."""
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
