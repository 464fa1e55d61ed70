"""Make the model card of a run from its ``run.json``.

`make_card` is pure: the record of a run in, Markdown out, without a network or a clock, so a card
can be made again at any time. A new card starts from the text in ``model_card/prose.md``, which a
person may edit; the part between its two marker lines is made anew each time.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from jinja2 import TemplateError

from hf_ela._files import whole_file
from hf_ela.errors import CardError
from hf_ela.hub.card_metadata import body_of, metadata_of, parse_card, with_metadata
from hf_ela.hub.card_text import REPOSITORY, generated_text
from hf_ela.hub.client import check_tag
from hf_ela.hub.samples import MODEL_CARD
from hf_ela.run_record import read_run

__all__ = ["decode_card", "has_text", "make_card", "write_card", "written_text"]

BEGIN = "<!-- hf-ela: begin. Made from run.json by `hf-ela card`; text outside it stays. -->"
END = "<!-- hf-ela: end -->"

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
        revision: Tag of the release, as in ``v1.0.0``, or its branch; it requires `repo_id`.
        previous: The earlier card. Its text outside the markers stays, and so do metadata that a
            person wrote. None writes the card anew.

    Raises:
        CardError: The previous card cannot be merged, `run` is corrupt, or a name is not valid.
    """
    if repo_id is not None and not re.fullmatch(REPOSITORY, repo_id, re.ASCII):
        raise CardError(f"`repo_id` must be user/name. Received: {repo_id!r}.")
    if revision is not None and not re.fullmatch(r"[\w./-]+", revision, re.ASCII):
        raise CardError(f"`revision` must be a tag or a branch. Received: {revision!r}.")
    if revision is not None and repo_id is None:
        raise CardError(
            f"`revision` requires `repo_id`. Received: {revision!r} alone. Give both, or neither."
        )
    default = parse_card((MODEL_CARD / "prose.md").read_text("utf-8"), ModelCard)
    before = (previous or "").strip("\ufeff\r\n ")
    card = parse_card(previous or "", ModelCard) if before else default
    try:
        block = f"{BEGIN}\n\n{generated_text(run, repo_id, revision)}\n\n{END}"
        if card is not default and card.text.strip():
            eol = "\r\n" if "\r\n" in card.text else "\n"
            gap = "" if card.text.startswith(("\n", "\r")) else eol
            card.text = gap + _with_block(card.text, block.replace("\n", eol), eol)
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
