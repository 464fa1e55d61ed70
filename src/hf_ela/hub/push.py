"""Writing to the Hub: a plan, one atomic commit on a known parent, verification, then a tag.

The Hub is left with the old release or with the whole new one, and whatever was interrupted is
finished by the same call again: files that arrived are not sent twice, a commit that was made is
found, verified and tagged.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, SpaceCard
from huggingface_hub.errors import HfHubHTTPError

from hf_ela.card import written_text
from hf_ela.errors import HeadMovedError, ModelError, ReleaseError, VerificationError
from hf_ela.hub.client import Repository, client, hub_errors
from hf_ela.hub.plan import (
    MARKS,
    Head,
    MakeFiles,
    Options,
    Plan,
    are_held_by,
    make_plan,
    read_tree,
)
from hf_ela.release import CARD, RECORD, Files, contents, model_files, release_files
from hf_ela.run_file import read_run
from hf_ela.saved import ONNX_FILE, WEIGHTS_FILE
from hf_ela.space import space_files
from hf_ela.terminal import native_messages_held_back
from hf_ela.widget import widget_files

__all__ = ["Options", "push_model", "release"]

logger = logging.getLogger(__name__)

SCORE_TOLERANCE = 1e-4
"""By how much a sample's score may differ from the recorded one: backends differ by less."""

_MOVED = (409, 412)

PageFiles = Callable[[str, str, bytes | None], Files]
"""Gives the files of a Space, from the model's id, its commit, and the Space's card."""


def release(
    run_folder: Path,
    repo_id: str,
    options: Options,
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
    alone = Options(private=options.private, message=options.message)
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
    commit = _publish(api, plans[0], files, run=run, say=say)
    for page, make in pages:
        pinned = _pin(make, repo_id, commit)
        _publish(api, make_plan(api, page, pinned, alone), pinned, say=say)
    return commit


def push_model(folder: Path, repo_id: str, options: Options, *, token: str | None = None) -> str:
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
    return _publish(api, plan, lambda _: files, say=logger.info)


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


def _publish(
    api: HfApi,
    plan: Plan,
    make_files: MakeFiles,
    *,
    run: Mapping[str, Any] | None = None,
    say: Callable[[str], None],
) -> str:
    """Commit, verify, tag; return the commit that holds the files.

    `run` is the run whose recorded scores the downloaded model must give again.
    """
    repository, options = plan.repository, plan.options
    if options.tag in plan.head.tags:  # with other files it was refused
        say(f"{options.tag} is this very release already: {repository.url}")
        return str(plan.head.commit)
    if plan.head.commit is None:
        _create(api, plan)
        plan = make_plan(api, repository, make_files, options)
    commit = _commit(api, plan, say)
    if commit is None:
        say(f"The head moved since {str(plan.head.commit)[:7]}: planning again.")
        plan = make_plan(api, repository, make_files, options)
        commit = _commit(api, plan, say)
    if commit is None:
        raise HeadMovedError(
            f"A release is one commit on a known parent. Received: {repository.url}, whose "
            "head moved twice meanwhile. Repeat the command, or propose it with --create-pr."
        )
    say("Downloading and checking it ...")
    _verify(api, plan, commit, run)
    scores = f" and {len(run['samples'])} scores" if run else ""
    say(f"Verified: {len(plan.files)} checksums{scores} agree with the download.")
    if options.tag:
        _tag(api, repository, options.tag, commit)
        say(f"Tagged {options.tag}.")
    return commit


def _create(api: HfApi, plan: Plan) -> None:
    # A token of another, or one that may not write, is refused here.
    with hub_errors(plan.repository):
        api.create_repo(
            plan.repository.id,
            repo_type=plan.repository.kind,
            private=plan.options.private,
            space_sdk=_sdk(plan) if plan.repository.kind == "space" else None,
            exist_ok=True,
        )


def _sdk(plan: Plan) -> str:
    return str(SpaceCard(contents(plan.files[CARD]).decode()).data["sdk"])


def _commit(api: HfApi, plan: Plan, say: Callable[[str], None]) -> str | None:
    """Return the commit with the files; None when the head has moved."""
    repository, options, head = plan.repository, plan.options, plan.head
    if not plan.needs_commit:
        say(f"Nothing to commit: {repository.url} holds these files.")
        return head.commit
    if options.create_pr and (proposed := _proposed(api, plan)):
        say(f"Proposed already, and still open: {repository.url}/discussions/{proposed[0]}")
        return proposed[1]
    if not head.has_branch:
        with hub_errors(repository):
            api.create_branch(
                repository.id,
                branch=options.branch,
                revision=head.commit,
                repo_type=repository.kind,
                exist_ok=True,
            )
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationDelete(path)
        if change == "removed"
        else CommitOperationAdd(path, _source(plan.files[path]))
        for path, change in plan.changes.items()
        if change != "same"
    ]
    with hub_errors(repository, RuntimeError):  # what the client makes of a failed upload
        try:
            made = api.create_commit(
                repository.id,
                operations,
                commit_message=options.message or f"Release {options.tag or 'of a training'}",
                repo_type=repository.kind,
                revision=options.branch,
                create_pr=options.create_pr,
                parent_commit=head.commit,
            )
        except HfHubHTTPError as error:
            if error.response.status_code in _MOVED:
                return None
            raise
    where = f"as {made.pr_url}" if made.pr_url else f"to {options.branch} of {repository.url}"
    files = "1 file" if len(operations) == 1 else f"{len(operations)} files"
    say(f"Committed {files} {where}: {made.oid}")
    return made.oid


def _proposed(api: HfApi, plan: Plan) -> tuple[int, str] | None:
    """Return number and commit of an open pull request that holds just the planned files."""
    id_, kind = plan.repository.id, plan.repository.kind
    with hub_errors(plan.repository):
        proposals = api.get_repo_discussions(
            id_, repo_type=kind, discussion_type="pull_request", discussion_status="open"
        )
        for proposal in proposals:
            ref = f"refs/pr/{proposal.num}"
            if are_held_by(read_tree(api, plan.repository, ref), plan.files):
                return proposal.num, str(api.repo_info(id_, repo_type=kind, revision=ref).sha)
    return None


def _tag(api: HfApi, repository: Repository, tag: str, commit: str) -> None:
    with hub_errors(repository):
        try:
            api.create_tag(repository.id, tag=tag, revision=commit, repo_type=repository.kind)
        except HfHubHTTPError as error:
            if error.response.status_code != 409:
                raise
            refs = api.list_repo_refs(repository.id, repo_type=repository.kind)
            if (tag, commit) not in [(ref.name, ref.target_commit) for ref in refs.tags]:
                raise ReleaseError(
                    f"A tag names one release for ever. Received: {tag}, which somebody else gave "
                    f"to another commit meanwhile. Take the next version: this is {commit}."
                ) from error


def _verify(api: HfApi, plan: Plan, commit: str, run: Mapping[str, Any] | None) -> None:
    """Download the commit into an empty cache and compare it with what was sent.

    Raises:
        VerificationError: Something differs.
    """
    from hf_ela.classifier import ElaClassifier

    repository = plan.repository
    with TemporaryDirectory() as cache:
        with hub_errors(repository):
            downloaded = api.snapshot_download(
                repository.id,
                repo_type=repository.kind,
                revision=commit,
                cache_dir=cache,
                allow_patterns=list(plan.files),
            )
        folder = Path(downloaded)
        differing = [
            name
            for name, content in plan.files.items()
            if not (folder / name).is_file() or (folder / name).read_bytes() != contents(content)
        ]
        if not differing and run is not None:
            try:
                with native_messages_held_back():
                    classifier = ElaClassifier.from_pretrained(folder)
                pictures = [folder / "samples" / sample["file"] for sample in run["samples"]]
                scores = list(classifier.scores(pictures))
            except ModelError as error:
                differing = [str(error)]
            else:
                differing = [
                    f"{sample['file']} scores {score}, recorded {sample['score']}"
                    for sample, score in zip(run["samples"], scores, strict=True)
                    if not isinstance(score, float)
                    or abs(score - sample["score"]) > SCORE_TOLERANCE
                ]
    if differing:
        raise VerificationError(
            f"The Hub must give back what was released. Received: {repository.url} at {commit}, "
            f"where these differ: {', '.join(differing)}. No tag was made. Repeat the command; if "
            "it stays so, train again or look at what changed since the training."
        )


def _source(content: bytes | Path) -> bytes | str:
    return str(content) if isinstance(content, Path) else content
