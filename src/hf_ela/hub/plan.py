"""What a push would do: compares the head of a repository with the files of a release."""

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from huggingface_hub import HfApi, constants, get_session
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from hf_ela._files import named_if_full
from hf_ela._terminal import printable
from hf_ela.errors import CardError, ReleaseError
from hf_ela.hub.card import CAPTIONS
from hf_ela.hub.client import (
    CLIENT_ERRORS,
    OTHER_ANSWERS,
    Repository,
    check_tag,
    hub_errors,
    is_of,
    malformed,
)
from hf_ela.hub.package import ANY_WHEEL
from hf_ela.hub.private import Files, content_of
from hf_ela.hub.release_files import CARD, EVENT_FILE, RECORD
from hf_ela.models.settings import SETTINGS_FILE
from hf_ela.run_record import GROUPS_TABLE

MARKS = (SETTINGS_FILE, "model.json", "widget.json")
"""The files that identify a repository of this package: a model, a Gradio Space, a widget."""
HOUSEKEEPING = {".gitattributes", "README.md"}
"""The files that the Hub puts into a new repository."""

# Files that an earlier release may have left behind, beside those that its record names.
_STALE = {*(f"plots/{name}" for name in CAPTIONS), EVENT_FILE}
_RECORDS = (RECORD, *MARKS[1:])
"""What a model, a Gradio Space and a widget record."""


@dataclass(frozen=True)
class PushOptions:
    """How to send a release.

    Attributes:
        branch: Branch to commit to; created from main if new.
        tag: ``vX.Y.Z``, made once the commit is verified.
        private: Create a private repository; an existing public one is refused.
        create_pr: Open a pull request instead of committing to the branch.
        message: Commit message.
        replace_card: Replace the card on the Hub, hand-written text included, by that of the run.
    """

    branch: str = "main"
    tag: str | None = None
    private: bool = False
    create_pr: bool = False
    message: str | None = None
    replace_card: bool = False

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        if self.tag:
            check_tag(self.tag)
        if self.tag and self.create_pr:
            raise ReleaseError(
                "`tag` and `create_pr` exclude each other: a tag names a commit on a branch. Merge "
                "the pull request first, then tag."
            )


@dataclass(frozen=True)
class Head:
    """What a branch holds before the push.

    Attributes:
        commit: Its newest commit, or the commit with the tag of the release if that exists; None
            for a new repository.
        private: Whether the repository is private.
        has_branch: Whether the branch exists; otherwise `commit` is that of main.
        files: Path -> git blob id, or SHA-256 of a large file.
        card: Its README.md.
        recorded: The samples and the table of groups that its own record names.
        tags: Name -> commit.
    """

    commit: str | None
    private: bool
    has_branch: bool
    files: Mapping[str, str]
    card: bytes | None
    recorded: frozenset[str]
    tags: Mapping[str, str]


MakeFiles = Callable[[Head], Files]
"""Makes the files of a repository, from what it holds now."""


@dataclass(frozen=True)
class Plan:
    """What a push would do.

    Attributes:
        repository: The destination.
        options: As given.
        head: What it holds now.
        files: What it will hold.
        changes: Path -> what happens to it.
    """

    repository: Repository
    options: PushOptions
    head: Head
    files: Files
    changes: Mapping[str, Literal["new", "changed", "same", "removed"]]

    @property
    def needs_commit(self) -> bool:
        """Whether anything differs from the head."""
        return set(self.changes.values()) != {"same"}

    def __str__(self) -> str:
        """Return the plan in words: repository, each file with size and change, card diff, tag."""
        head, options = self.head, self.options
        seen = "private" if (options.private if head.commit is None else head.private) else "public"
        new = "a new repository (or one that you cannot see)"
        state = new if head.commit is None else f"at {head.commit[:7]}"
        where = "as a pull request" if options.create_pr else f"to the branch {options.branch}"
        lines = []
        if self.changes.get(CARD) in ("new", "changed"):
            before, after = head.card or b"", content_of(self.files[CARD])
            old_lines, new_lines = (
                text.decode(errors="replace").splitlines() for text in (before, after)
            )
            diff = difflib.unified_diff(old_lines, new_lines, "on the Hub", "new", lineterm="")
            lines += ["Changes of the card:", *(f"  {printable(line)}" for line in diff)]
        lines.append(f"{self.repository.url}: {state}, {seen}, {where}")
        for path, change in self.changes.items():
            size = len(content_of(self.files[path])) if path in self.files else 0
            lines.append(f"  {change:8}{size:>12,} bytes  {printable(path)}")
        if not self.needs_commit:
            lines.append("Nothing to commit: the repository already holds these files.")
        if options.tag:
            lines.append(f"Tag after verification: {options.tag}")
        return "\n".join(lines)


def make_plan(
    api: HfApi,
    repository: Repository,
    make_files: MakeFiles,
    options: PushOptions,
) -> Plan:
    """Read the head and compare it with the files.

    Args:
        api: The client of the Hub.
        repository: The destination.
        make_files: Makes the files.
        options: How to send them.

    Raises:
        ReleaseError: The name is not valid, the tag names something else, the repository is public
            and `private` was asked for, or files of another model or Space are in the way.
    """
    if repository.id.count("/") != 1:  # the client would pass it on to the Hub
        raise malformed(repository)
    with hub_errors(replace(repository, planning=True)):
        head = _read_head(api, repository, options)
    files = make_files(head)
    changes: dict[str, Any] = {}
    for path, file in sorted(files.items()):
        there = head.files.get(path)
        kept = "same" if is_of(content_of(file), there) else "changed"
        changes[path] = "new" if there is None else kept
    stale = {*head.recorded} if files.keys() & {*_RECORDS} else set()
    if RECORD in files:
        stale |= _STALE
    for path in sorted(head.files.keys() - files.keys()):
        if path in stale or ANY_WHEEL.fullmatch(path):
            changes[path] = "removed"
    plan = Plan(repository, options, head, files, changes)
    if options.private and head.commit and not head.private:
        raise ReleaseError(
            f"`private` needs a new or private repository, but {repository.url} is public. Change "
            "that in its settings first, or omit `private`."
        )
    if options.tag in head.tags and plan.needs_commit:
        raise ReleaseError(
            f"Tags are immutable: {options.tag} of {repository.id} already exists at "
            f"{str(head.commit)[:7]}, with other files. Use the next version."
        )
    foreign = files.keys() & head.files.keys() - HOUSEKEEPING
    mark = next(mark for mark in MARKS if mark in files)
    if foreign and mark not in head.files:
        raise ReleaseError(
            f"{repository.url} is not a {repository.kind} of this package: it has no {mark}, and "
            f"the push would overwrite {', '.join(sorted(foreign))}. Choose another name."
        )
    return plan


def check_metadata(plan: Plan) -> str:
    """Have the Hub check the metadata of the card, as it will at the commit.

    Returns:
        A line that says what it found, or that it could not be reached.

    Raises:
        CardError: The Hub would refuse the card.
    """
    # `RepoCard.validate` of huggingface_hub 1 knows no HF_ENDPOINT.
    body = {"repoType": plan.repository.kind, "content": content_of(plan.files[CARD]).decode()}
    try:
        response = get_session().post(f"{constants.ENDPOINT}/api/validate-yaml", json=body)
        if response.status_code != 400:
            response.raise_for_status()
            return "The Hub accepts the card's metadata."
        errors = "; ".join(str(error["message"]) for error in response.json()["errors"])
    except (*CLIENT_ERRORS, *OTHER_ANSWERS) as error:
        return (
            "The Hub could not be reached to check the card's metadata. Received: "
            f"{type(error).__name__}."
        )
    raise CardError(
        f"The Hub would refuse the card of {plan.repository.url}. Received: "
        f"{printable(errors)[:2000]}. Fix the metadata of the card."
    )


def read_tree(api: HfApi, repository: Repository, revision: str) -> dict[str, str]:
    """Return path -> git blob id, or SHA-256 of a large file."""
    entries = api.list_repo_tree(
        repository.id, recursive=True, revision=revision, repo_type=repository.kind
    )
    return {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
        for entry in entries
        if isinstance(entry, RepoFile)
    }


def _read_head(api: HfApi, repository: Repository, options: PushOptions) -> Head:
    id_, kind = repository.id, repository.kind
    try:
        info = api.repo_info(id_, repo_type=kind, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        refs = api.list_repo_refs(id_, repo_type=kind)
    except RepositoryNotFoundError:
        return Head(None, False, options.branch == "main", {}, None, frozenset(), {})
    branches = {ref.name: ref.target_commit for ref in refs.branches}
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    # An existing tag is compared with its own commit: the branch may have moved on.
    tagged = tags.get(options.tag) if options.tag else None
    commit = tagged or branches.get(options.branch) or branches["main"]
    files = read_tree(api, repository, commit)

    def content(name: str) -> bytes:
        with TemporaryDirectory() as folder, named_if_full(Path(folder)):
            path = api.hf_hub_download(id_, name, revision=commit, repo_type=kind, cache_dir=folder)
            return Path(path).read_bytes()

    card = content(CARD) if CARD in files else None
    record = next((content(name) for name in _RECORDS if name in files), b"{}")
    has_branch = options.branch in branches
    return Head(commit, bool(info.private), has_branch, files, card, _named_by(record), tags)


def _named_by(record: bytes) -> frozenset[str]:
    """Return the samples and the table of groups that an earlier push says to have sent."""
    try:
        found = json.loads(record)
        samples = [f"samples/{sample['file']}" for sample in found.get("samples") or ()]
        groups = (found.get("data") or {}).get("groups") or {}
        return frozenset([*samples, GROUPS_TABLE] if groups.get("table") else samples)
    # Some other file of that name.
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return frozenset()


def are_held_by(tree: Mapping[str, str], files: Files) -> bool:
    """Return whether a tree, as `read_tree` returns it, has all these files unchanged."""
    return all(is_of(content_of(file), tree.get(path)) for path, file in files.items())
