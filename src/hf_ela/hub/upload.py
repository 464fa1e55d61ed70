"""Carry out a plan: one atomic commit on a known parent, verification, then a tag.

The Hub holds either the old release or the whole new one. The same call finishes whatever was
interrupted: files that arrived are not sent twice, an earlier commit is found, verified and tagged.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, SpaceCard
from huggingface_hub.errors import HfHubHTTPError

from hf_ela._terminal import native_messages_held_back
from hf_ela.errors import HeadMovedError, ModelError, ReleaseError, VerificationError
from hf_ela.hub.client import Repository, hub_errors
from hf_ela.hub.plan import MakeFiles, Plan, are_held_by, make_plan, read_tree
from hf_ela.hub.private import content_of
from hf_ela.hub.release_files import CARD
from hf_ela.models.detector import Detector
from hf_ela.models.folder import read_model

SCORE_TOLERANCE = 1e-4
"""Largest difference from the recorded score of a sample: backends differ by less."""

_MOVED = (409, 412)


def upload(
    api: HfApi,
    plan: Plan,
    make_files: MakeFiles,
    *,
    run: Mapping[str, Any] | None = None,
    say: Callable[[str], None],
) -> str:
    """Commit, verify and tag.

    Args:
        api: The client of the Hub.
        plan: What to do, against the head that was read.
        make_files: Makes the files again if that head has moved.
        run: The run whose recorded scores the downloaded model must reproduce.
        say: Receives a line about each step.

    Returns:
        The commit that holds the files.

    Raises:
        HeadMovedError: Others committed in between, twice.
        VerificationError: The download differs from what was sent; no tag was made.
        ReleaseError: The Hub refused to write.
        HubUnreachableError: The Hub did not answer.
    """
    repository, options = plan.repository, plan.options
    if options.tag in plan.head.tags:  # with other files it was refused
        say(f"{options.tag} is already up to date: {repository.url}")
        return str(plan.head.commit)
    if plan.head.commit is None:
        _create(api, plan)
        plan = make_plan(api, repository, make_files, options)
    commit = _commit(api, plan, say)
    if commit is None:
        say(f"Others committed after {str(plan.head.commit)[:7]}: planning again.")
        plan = make_plan(api, repository, make_files, options)
        commit = _commit(api, plan, say)
    if commit is None:
        raise HeadMovedError(
            f"Others committed to {repository.url} twice during the push. Repeat the command, or "
            "open a pull request with `create_pr`."
        )
    say("Downloading and verifying the commit ...")
    _verify(api, plan, commit, run)
    scores = f" and {len(run['samples'])} scores" if run else ""
    say(f"Verified: {len(plan.files)} checksums{scores} match.")
    if options.tag:
        _tag(api, repository, options.tag, commit)
        say(f"Tagged {options.tag}.")
    return commit


def _create(api: HfApi, plan: Plan) -> None:
    # A token without write access is refused here.
    sdk = None
    if plan.repository.kind == "space":
        sdk = str(SpaceCard(content_of(plan.files[CARD]).decode()).data["sdk"])
    with hub_errors(plan.repository):
        api.create_repo(
            plan.repository.id,
            repo_type=plan.repository.kind,
            private=plan.options.private,
            space_sdk=sdk,
            exist_ok=True,
        )


def _commit(api: HfApi, plan: Plan, say: Callable[[str], None]) -> str | None:
    """Return the commit with the files; None when the head has moved."""
    repository, options, head = plan.repository, plan.options, plan.head
    if not plan.needs_commit:
        say(f"Nothing to commit: {repository.url} already holds these files.")
        return head.commit
    if options.create_pr and (proposed := _proposed(api, plan)):
        say(f"An open pull request already holds it: {repository.url}/discussions/{proposed[0]}")
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
        else CommitOperationAdd(path, plan.files[path])
        for path, change in plan.changes.items()
        if change != "same"
    ]
    with hub_errors(repository, RuntimeError):  # the client raises it for a failed upload
        try:
            made = api.create_commit(
                repository.id,
                operations,
                commit_message=options.message or f"Release {options.tag or 'a training run'}",
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
    """Return number and commit of an open pull request that holds the planned files."""
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
    with hub_errors(replace(repository, planning=True)):
        refs = api.list_repo_refs(repository.id, repo_type=repository.kind)
    found = {ref.name: ref.target_commit for ref in refs.tags}.get(tag)
    if found is None:  # something else, such as a proxy, has answered
        raise ReleaseError(
            f"{tag} is not among the tags of {repository.url}, although the request to make it was "
            "answered as done. Repeat the command."
        )
    if found != commit:
        raise ReleaseError(
            f"Tags are immutable: somebody else has just given {tag} to another commit. Use the "
            f"next version for {commit}."
        )


def _verify(api: HfApi, plan: Plan, commit: str, run: Mapping[str, Any] | None) -> None:
    """Download the commit into an empty cache and compare it with what was sent.

    Raises:
        VerificationError: Something differs.
    """
    with TemporaryDirectory() as cache:
        repository = replace(plan.repository, planning=True, cache=cache)
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
            if not (folder / name).is_file() or (folder / name).read_bytes() != content_of(content)
        ]
        if not differing and run is not None:
            try:
                with native_messages_held_back():
                    detector = Detector.from_settings(*read_model(folder))
                pictures = [folder / "samples" / sample["file"] for sample in run["samples"]]
                scores = list(detector.scores(pictures))
            except ModelError as error:
                differing = [str(error)]
            else:
                differing = [
                    f"{sample['file']} scores {score} instead of the recorded {sample['score']}"
                    for sample, score in zip(run["samples"], scores, strict=True)
                    if not isinstance(score, float)
                    or abs(score - sample["score"]) > SCORE_TOLERANCE
                ]
    if differing:
        raise VerificationError(
            f"The download of {repository.url} at {commit} differs from the release: "
            f"{', '.join(differing)}. No tag was made. Repeat the command; if this persists, train "
            "again."
        )
