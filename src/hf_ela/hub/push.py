"""Writing to the Hub: a plan, one atomic commit on a known parent, verification, then a tag.

The Hub is left with the old release or with the whole new one, and whatever was interrupted is
finished by the same call again: files that arrived are not sent twice, a commit that was made is
found, verified and tagged.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from hf_ela.errors import HeadMovedError, ModelError, VerificationError
from hf_ela.hub.client import Repository, client, hub_errors
from hf_ela.hub.plan import MakeFiles, Options, Plan, make_plan
from hf_ela.release import Files, contents, model_files, release_files
from hf_ela.run_file import read_run
from hf_ela.space import space_files

__all__ = ["Options", "push_model", "release"]

logger = logging.getLogger(__name__)

SCORE_TOLERANCE = 1e-4
"""By how much a sample's score may differ from the recorded one: backends differ by less."""

_MOVED = (409, 412)


def release(
    run_folder: Path,
    repo_id: str,
    options: Options,
    *,
    space: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> str | None:
    """Release a run, and perhaps a Space that shows it.

    Args:
        run_folder: A complete run folder.
        repo_id: ``user/name`` of the model; made if there is none.
        options: How it is sent.
        space: ``user/name`` of a Gradio Space that is to show this release.
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

    def files(card_before: bytes | None) -> Files:
        return release_files(
            run_folder,
            repo_id,
            revision=options.tag,
            card_before=card_before,
            replace_card=options.replace_card,
        )

    api = client(token)
    repository = Repository(repo_id, "model", writing=True)
    commit = None
    if dry_run:
        _show(api, repository, files, options, say)
    else:
        commit = _publish(api, repository, files, options, run=run, say=say)
    if space:
        shown = Repository(space, "space", writing=True)
        alone = Options(private=options.private, message=options.message)
        pinned = space_files(repo_id, commit or "0" * 40)  # a dry run knows no commit yet
        if dry_run:
            _show(api, shown, lambda _: pinned, alone, say)
        else:
            _publish(api, shown, lambda _: pinned, alone, say=say)
    if dry_run:
        say("Dry run: nothing was sent.")
    return commit


def push_model(folder: Path, repo_id: str, options: Options, *, token: str | None = None) -> str:
    """Send a saved model without a card; see `ElaClassifier.push_to_hub`."""
    files = model_files(folder)
    repository = Repository(repo_id, "model", writing=True)
    return _publish(client(token), repository, lambda _: files, options, say=logger.info)


def _show(
    api: HfApi,
    repository: Repository,
    make_files: MakeFiles,
    options: Options,
    say: Callable[[str], None],
) -> None:
    with hub_errors(repository):
        say(str(make_plan(api, repository, make_files, options)))


def _publish(
    api: HfApi,
    repository: Repository,
    make_files: MakeFiles,
    options: Options,
    *,
    run: Mapping[str, Any] | None = None,
    say: Callable[[str], None],
) -> str:
    """Plan, commit, verify, tag; return the commit that holds the files.

    `run` is the run whose recorded scores the downloaded model must give again.
    """
    with hub_errors(repository):
        plan = make_plan(api, repository, make_files, options)
        if options.tag in plan.head.tags:  # of another commit, or other files, it was refused
            say(f"{options.tag} is this very release already: {repository.url}")
            return str(plan.head.commit)
        if plan.head.commit is None:
            _create(api, plan)
            plan = make_plan(api, repository, make_files, options)
        commit = _commit(api, plan, say)
        if commit is None:
            say(f"The head moved since {(plan.head.commit or '')[:7]}: planning again.")
            plan = make_plan(api, repository, make_files, options)
            commit = _commit(api, plan, say)
        if commit is None:
            raise HeadMovedError(
                f"A release is one commit on a known parent. Received: {repository.url}, whose "
                "head moved twice meanwhile. Repeat the command, or propose it with --create-pr."
            )
        _verify(api, plan, commit, run)
        scores = f" and {len(run['samples'])} scores" if run else ""
        say(f"Verified: {len(plan.files)} checksums{scores} agree with the download.")
        if options.tag:
            api.create_tag(
                repository.id, tag=options.tag, revision=commit, repo_type=repository.kind
            )
            say(f"Tagged {options.tag}.")
    return commit


def _create(api: HfApi, plan: Plan) -> None:
    # A token of another, or one that may not write, is refused here.
    api.create_repo(
        plan.repository.id,
        repo_type=plan.repository.kind,
        private=plan.options.private,
        space_sdk="gradio" if plan.repository.kind == "space" else None,
        exist_ok=True,
    )


def _commit(api: HfApi, plan: Plan, say: Callable[[str], None]) -> str | None:
    """Return the commit with the files; None when the head has moved."""
    repository, options, head = plan.repository, plan.options, plan.head
    if not plan.needs_commit:
        say(f"Nothing to commit: {repository.url} holds these files.")
        return head.commit
    if not head.has_branch:
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
    where = f"as {made.pr_url}" if made.pr_url else f"to {repository.url}"
    say(f"Committed {len(operations)} files {where}: {made.oid}")
    return made.oid


def _verify(api: HfApi, plan: Plan, commit: str, run: Mapping[str, Any] | None) -> None:
    """Download the commit into an empty cache and compare it with what was sent.

    Raises:
        VerificationError: Something differs.
    """
    from hf_ela.classifier import ElaClassifier

    repository = plan.repository
    with TemporaryDirectory() as cache:
        folder = Path(
            api.snapshot_download(
                repository.id,
                repo_type=repository.kind,
                revision=commit,
                cache_dir=cache,
                allow_patterns=list(plan.files),
            )
        )
        differing = [
            name
            for name, content in plan.files.items()
            if not (folder / name).is_file() or (folder / name).read_bytes() != contents(content)
        ]
        if not differing and run is not None:
            try:
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
