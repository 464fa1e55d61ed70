"""Releasing: a run, or a saved model alone, to the Hub, and Spaces that show it."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hf_ela.errors import ReleaseError
from hf_ela.hub.card import written_text
from hf_ela.hub.client import Repository, client
from hf_ela.hub.plan import MARKS, Head, MakeFiles, Plan, PushOptions, are_held_by, make_plan
from hf_ela.hub.publish import publish
from hf_ela.hub.release_files import CARD, RECORD, Files, contents, model_files, release_files
from hf_ela.hub.spaces import space_files, widget_files
from hf_ela.models.settings import ONNX_FILE, WEIGHTS_FILE
from hf_ela.run_record import read_run

__all__ = ["push_model", "release"]

logger = logging.getLogger(__name__)

PageFiles = Callable[[str, str, bytes | None], Files]
"""Gives the files of a Space, from the model's id, its commit, and the Space's card."""


def release(
    run_folder: Path,
    repo_id: str,
    options: PushOptions,
    *,
    space: str | None = None,
    widget: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> str | None:
    """Release a run, and perhaps Spaces that show it.

    Args:
        run_folder: A complete run folder.
        repo_id: ``user/name`` of the model; made if there is none.
        options: How it is sent.
        space: ``user/name`` of a Gradio Space that is to show this release.
        widget: ``user/name`` of a static Space that is to run this release in browsers.
        token: Access token; the one of ``hf auth login`` or HF_TOKEN by default.
        dry_run: Say the plan and send nothing.
        say: Receives a line, or a few, about each step.

    Returns:
        The release's commit; None for a dry run.

    Raises:
        RunError: The run has not ended, or is damaged.
        ReleaseError: It must not or cannot be sent; see its subclasses.
        HubUnreachableError: The Hub did not answer.
    """
    run = read_run(run_folder)
    demo = partial(space_files, onnx=(run_folder / "weights" / ONNX_FILE).is_file())
    pages: list[tuple[Repository, PageFiles]] = [
        (Repository(name, "space", writing=True), make)
        for name, make in ((space, demo), (widget, widget_files))
        if name
    ]
    if pages and options.create_pr:
        raise ReleaseError(
            "A Space shows what is released. Received: --space or --widget with a pull request. "
            "Merge it first, then repeat the command without --create-pr."
        )
    if space and space == widget:
        raise ReleaseError(
            f"A Space is run by Gradio or by the browser. Received: {space} for --space and for "
            "--widget. Give them different names."
        )

    def files(head: Head) -> Files:
        make = partial(
            release_files,
            run_folder,
            repo_id,
            card_before=head.card,
            replace_card=options.replace_card,
        )
        if options.tag is None:  # what was released with a tag, and did not change, keeps its name
            for tag in (tag for tag, commit in head.tags.items() if commit == head.commit):
                if are_held_by(head.files, released := make(revision=tag)):
                    return released
        branch = None if options.branch == "main" else options.branch
        return make(revision=options.tag or branch)

    api = client(token)
    plans = [make_plan(api, Repository(repo_id, "model", writing=True), files, options)]
    if widget:
        _check_for_widget(plans[0])
    alone = PushOptions(private=options.private, message=options.message)
    # What would be refused is refused before anything is sent; a new commit has no name yet.
    shown = "0" * 40 if plans[0].needs_commit else str(plans[0].head.commit)
    plans += [make_plan(api, page, _pin(make, repo_id, shown), alone) for page, make in pages]
    if dry_run:
        for plan in plans:
            say(str(plan))
    if notice := _unsent_text(run_folder, plans[0]):
        say(notice)
    if dry_run:
        say("Dry run: nothing was sent.")
        return None
    commit = publish(api, plans[0], files, run=run, say=say)
    for page, make in pages:
        pinned = _pin(make, repo_id, commit)
        publish(api, make_plan(api, page, pinned, alone), pinned, say=say)
    return commit


def push_model(
    folder: Path, repo_id: str, options: PushOptions, *, token: str | None = None
) -> str:
    """Send a saved model without a card; see `ElaClassifier.push_to_hub`."""
    files = model_files(folder)
    api = client(token)
    plan = make_plan(api, Repository(repo_id, "model", writing=True), lambda _: files, options)
    if RECORD in plan.head.files and plan.changes[WEIGHTS_FILE] == "changed":
        raise ReleaseError(
            f"A card tells of the model beside it. Received: {repo_id}, whose card and {RECORD} "
            "tell of other weights. Release the run with push_to_hub.py, or take another "
            "repository or branch."
        )
    return publish(api, plan, lambda _: files, say=logger.info)


def _unsent_text(run_folder: Path, plan: Plan) -> str | None:
    """Say so where a person wrote into the card of the run, and the Hub's card is kept."""
    path = run_folder / CARD
    if not path.is_file() or written_text(path.read_bytes().decode(errors="replace")) == (
        written_text(contents(plan.files[CARD]).decode())
    ):
        return None
    return (
        f"Beware: the text of {path} outside of the generated part is not that of the card on the "
        "Hub, which is kept. Edit it there, or send yours with --replace-card."
    )


def _check_for_widget(plan: Plan) -> None:
    """Refuse to show what a browser that nobody has logged in could not load."""
    if ONNX_FILE not in plan.files:
        raise ReleaseError(
            f"A widget runs {ONNX_FILE} of the release. Received: a run without it. "
            "Save its model with it, or train again with this version."
        )
    if plan.head.private if plan.head.commit else plan.options.private:
        raise ReleaseError(
            "A widget loads its model without a token. Received: --widget with "
            f"{plan.repository.url}, which is private. Make it public, or leave --widget out."
        )


def _pin(make: PageFiles, repo_id: str, commit: str) -> MakeFiles:
    """Return what makes the files of a Space that shows a commit."""

    def files(head: Head) -> Files:
        ours = any(mark in head.files for mark in MARKS)  # else it is what the Hub writes
        return make(repo_id, commit, head.card if ours else None)

    return files
