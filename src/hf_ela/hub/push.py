"""Release a run, or push a saved model alone, to the Hub, with Spaces that show it."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hf_ela.errors import ReleaseError
from hf_ela.hub.card_metadata import written_text
from hf_ela.hub.client import Repository, client
from hf_ela.hub.collection import checked_collection, collect
from hf_ela.hub.plan import (
    MARKS,
    Head,
    MakeFiles,
    Plan,
    PushOptions,
    are_held_by,
    check_metadata,
    make_plan,
)
from hf_ela.hub.private import Files, content_of
from hf_ela.hub.release_files import (
    CARD,
    RECORD,
    model_files,
    release_files,
    space_files,
    widget_files,
)
from hf_ela.hub.samples import own_samples
from hf_ela.hub.upload import upload
from hf_ela.models.settings import ONNX_FILE, WEIGHTS_FILE
from hf_ela.run_record import read_run

logger = logging.getLogger(__name__)

PageFiles = Callable[[str, str, bytes | None], Files]
"""Makes the files of a Space, from the id of the model, its commit, and the card of the Space."""


def release(
    run_folder: Path,
    repo_id: str,
    options: PushOptions,
    *,
    space: str | None = None,
    widget: str | None = None,
    collection: str | None = None,
    samples: Path | None = None,
    token: str | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> str | None:
    """Release a run and, optionally, Spaces that show it.

    Args:
        run_folder: A finished run folder.
        repo_id: ``user/name`` of the model; created if new.
        options: How to send it.
        space: ``user/name`` of a Gradio Space to show this release.
        widget: ``user/name`` of a static Space to run this release in browsers.
        collection: Title, slug or address of a collection for the model and its Spaces.
        samples: Folder of pictures to show and to verify the release with, in place of those of the
            package; see `own_samples`.
        token: Access token; the one of ``hf auth login`` or HF_TOKEN by default.
        dry_run: Report the plan and send nothing.
        say: Receives one or more lines about each step.

    Returns:
        The commit of the release; None for a dry run.

    Raises:
        RunError: The run has not finished.
        ModelError: Its record is not valid.
        ReleaseError: It cannot or must not be sent; see its subclasses.
        HubUnreachableError: The Hub did not answer.
    """
    run = read_run(run_folder).content()
    weights = run_folder / "weights"
    own = own_samples(samples, weights) if samples else None
    if own:
        run["samples"] = own.records
    demo = partial(space_files, onnx=(weights / ONNX_FILE).is_file(), samples=own)
    browser = partial(widget_files, samples=own)
    pages: list[tuple[Repository, PageFiles]] = [
        (Repository(name, "space", writing=True), make)
        for name, make in ((space, demo), (widget, browser))
        if name
    ]
    if pages and options.create_pr:
        raise ReleaseError(
            "A Space cannot show a pull request (`create_pr`). Merge it first, then push the Space."
        )
    if space and space == widget:
        raise ReleaseError(
            f"`space` and `widget` must name different Spaces. Received: {space!r} for both."
        )

    def files(head: Head) -> Files:
        make = partial(
            release_files,
            run_folder,
            repo_id,
            card_before=head.card,
            replace_card=options.replace_card,
            samples=own,
        )
        if options.tag is None:  # an unchanged release keeps its tag in the card
            for tag in (tag for tag, commit in head.tags.items() if commit == head.commit):
                if are_held_by(head.files, released := make(revision=tag)):
                    return released
        branch = None if options.branch == "main" else options.branch
        return make(revision=options.tag or branch)

    api = client(token)
    model = Repository(repo_id, "model", writing=True)
    plans = [make_plan(api, model, files, options)]
    if widget:
        _check_for_widget(plans[0])
    alone = PushOptions(private=options.private, message=options.message)
    # Refuse everything before anything is sent; a new commit has no name yet.
    shown = "0" * 40 if plans[0].needs_commit else str(plans[0].head.commit)
    plans += [make_plan(api, page, _pin(make, repo_id, shown), alone) for page, make in pages]
    if collection:
        collection = checked_collection(api, collection, model)
    if dry_run:
        for plan in plans:
            say(str(plan))
            say(check_metadata(plan))
    if dry_run and collection:
        say(f"Collection: {collection}")
    if notice := _unsent_text(run_folder, plans[0]):
        say(notice)
    if dry_run:
        say("Dry run: nothing was sent.")
        return None
    commit = upload(api, plans[0], files, run=run, say=say)
    for page, make in pages:
        pinned = _pin(make, repo_id, commit)
        upload(api, make_plan(api, page, pinned, alone), pinned, say=say)
    if collection:
        released = [model, *(page for page, _ in pages)]
        url = collect(api, collection, released, private=options.private)
        say(f"In the collection {url}.")
    return commit


def push_model(
    folder: Path, repo_id: str, options: PushOptions, *, token: str | None = None
) -> str:
    """Send a saved model without a card, as `ElaClassifier.push_to_hub` describes."""
    files = model_files(folder)
    api = client(token)
    plan = make_plan(api, Repository(repo_id, "model", writing=True), lambda _: files, options)
    if RECORD in plan.head.files and plan.changes[WEIGHTS_FILE] == "changed":
        raise ReleaseError(
            f"The card and {RECORD} of {repo_id} describe other weights. Release the run with "
            "`hf-ela push`, or choose another repository or branch."
        )
    return upload(api, plan, lambda _: files, say=logger.info)


def _unsent_text(run_folder: Path, plan: Plan) -> str | None:
    """Return a warning if the card of the run has hand-written text that is not sent."""
    path = run_folder / CARD
    if not path.is_file() or written_text(path.read_bytes().decode(errors="replace")) == (
        written_text(content_of(plan.files[CARD]).decode())
    ):
        return None
    return (
        f"Warning: the hand-written text of {path} is not sent, because the card on the Hub has "
        "its own. Edit that card there, or send yours with `replace_card`."
    )


def _check_for_widget(plan: Plan) -> None:
    """Refuse a widget that a browser without a login could not load."""
    if ONNX_FILE not in plan.files:
        raise ReleaseError(
            f"A widget needs {ONNX_FILE}, which this run does not have. Train again with the "
            "packages of the `train` extra."
        )
    if plan.head.private if plan.head.commit else plan.options.private:
        raise ReleaseError(
            f"A widget loads its model without a token, but {plan.repository.url} is private. Make "
            "it public, or omit `widget`."
        )


def _pin(make: PageFiles, repo_id: str, commit: str) -> MakeFiles:
    """Return the function that makes the files of a Space that shows a commit."""

    def files(head: Head) -> Files:
        ours = any(mark in head.files for mark in MARKS)  # otherwise the Hub wrote the card
        return make(repo_id, commit, head.card if ours else None)

    return files
