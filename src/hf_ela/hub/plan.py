"""What a push would do: the head of a repository compared with the files that shall be there."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from hf_ela._text import printable
from hf_ela.errors import ReleaseError
from hf_ela.hub.card import CAPTIONS
from hf_ela.hub.client import Repository, hub_errors, malformed
from hf_ela.hub.release_files import CARD, RECORD, Files, contents
from hf_ela.models.settings import SETTINGS_FILE

__all__ = ["Head", "MakeFiles", "Plan", "PushOptions", "are_held_by", "make_plan", "read_tree"]

MARKS = (SETTINGS_FILE, "model.json", "widget.json")
"""The files that tell repositories of this package from others, and from each other: a model, a
Gradio Space, a widget."""
HOUSEKEEPING = {".gitattributes", "README.md"}
"""What the Hub puts into a new repository."""

_TAG = re.compile(r"v\d+\.\d+\.\d+")
# What an earlier release may have left behind.
_WHEEL = re.compile(r"hf_ela-[^/]+\.whl")
_PLOTS = {f"plots/{name}" for name in CAPTIONS}


@dataclass(frozen=True)
class PushOptions:
    """How a release is sent.

    Attributes:
        branch: Where the commit goes; made from main if there is none.
        tag: ``vX.Y.Z``, made when the commit is verified.
        private: Make a new repository private; an existing public one is refused.
        create_pr: Open a pull request instead of committing to the branch.
        message: Of the commit.
        replace_card: Send the card of the run folder, whatever a person wrote on the Hub.
    """

    branch: str = "main"
    tag: str | None = None
    private: bool = False
    create_pr: bool = False
    message: str | None = None
    replace_card: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.tag and not _TAG.fullmatch(self.tag):
            raise ReleaseError(f"A tag is written vX.Y.Z, as in v1.0.0. Received: {self.tag!r}.")
        if self.tag and self.create_pr:
            raise ReleaseError(
                "A tag names what is on a branch. Received: a tag for a pull request. "
                "Merge it first, then repeat the command with the tag."
            )


@dataclass(frozen=True)
class Head:
    """What a branch holds before the push.

    Attributes:
        commit: Its newest commit, or the one with the tag of the release where there is one; None
            while there is no such repository.
        private: Whether others can see the repository.
        has_branch: Whether the branch exists; else `commit` is that of main.
        files: Path -> git's name of the contents, or the SHA-256 of a large file.
        card: Its README.md.
        tags: Name -> commit.
    """

    commit: str | None
    private: bool
    has_branch: bool
    files: Mapping[str, str]
    card: bytes | None
    tags: Mapping[str, str]


MakeFiles = Callable[[Head], Files]
"""Gives the files of a repository, from what it holds now."""


@dataclass(frozen=True)
class Plan:
    """What a push would do.

    Attributes:
        repository: Where it goes.
        options: As given.
        head: What is there now.
        files: What shall be there.
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
        """The plan in words: repository, every file with size and change, card's diff, tag."""
        head, options = self.head, self.options
        seen = "private" if (options.private if head.commit is None else head.private) else "public"
        new = "a new repository (or one that you may not see)"
        state = new if head.commit is None else f"at {head.commit[:7]}"
        where = "as a pull request" if options.create_pr else f"to the branch {options.branch}"
        lines = []
        if self.changes.get(CARD) in ("new", "changed"):
            before, after = head.card or b"", contents(self.files[CARD])
            old_lines, new_lines = (
                text.decode(errors="replace").splitlines() for text in (before, after)
            )
            diff = difflib.unified_diff(old_lines, new_lines, "on the Hub", "new", lineterm="")
            lines += ["The card's changes:", *(f"  {printable(line)}" for line in diff)]
        lines.append(f"{self.repository.url}: {state}, {seen}, {where}")
        for path, change in self.changes.items():
            size = len(contents(self.files[path])) if path in self.files else 0
            lines.append(f"  {change:8}{size:>12,} bytes  {printable(path)}")
        if not self.needs_commit:
            lines.append("Nothing to commit: the repository holds these files.")
        if options.tag:
            lines.append(f"Tag after verification: {options.tag}")
        return "\n".join(lines)


def make_plan(
    api: HfApi,
    repository: Repository,
    make_files: MakeFiles,
    options: PushOptions,
) -> Plan:
    """Read the head and compare.

    Args:
        api: The Hub's client.
        repository: Where to.
        make_files: Gives the files.
        options: How they are to be sent.

    Raises:
        ReleaseError: The name is none of the Hub, the tag names something else, the repository
            is public and shall be private, or files of another model or Space are in the way.
    """
    if repository.id.count("/") != 1:  # the client would leave it to the Hub
        raise malformed(repository)
    with hub_errors(repository):
        head = _read_head(api, repository, options)
    files = make_files(head)
    changes: dict[str, Any] = {}
    for path, file in sorted(files.items()):
        there = head.files.get(path)
        kept = "same" if _is(file, there) else "changed"
        changes[path] = "new" if there is None else kept
    stale = _PLOTS if RECORD in files else set()
    for path in sorted(head.files.keys() - files.keys()):
        if path in stale or _WHEEL.fullmatch(path):
            changes[path] = "removed"
    plan = Plan(repository, options, head, files, changes)
    if options.private and head.commit and not head.private:
        raise ReleaseError(
            f"--private needs a new or private repository. Received: {repository.url}, which is "
            "public. Change it in its settings first, or leave the option out."
        )
    if options.tag in head.tags and plan.needs_commit:
        raise ReleaseError(
            f"A tag names one release for ever. Received: {options.tag}, which {repository.id} "
            f"has at {str(head.commit)[:7]} with other files. Take the next version."
        )
    foreign = files.keys() & head.files.keys() - HOUSEKEEPING
    mark = next(mark for mark in MARKS if mark in files)
    if foreign and mark not in head.files:
        raise ReleaseError(
            f"A push goes to a {repository.kind} of this package, known by its {mark}, or to one "
            f"whose files it leaves alone. Received: {repository.url}, without it and with "
            f"{', '.join(sorted(foreign))}. Take another name."
        )
    return plan


def read_tree(api: HfApi, repository: Repository, revision: str) -> dict[str, str]:
    """Return path -> git's name of the contents, or the SHA-256 of a large file."""
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
        return Head(None, False, options.branch == "main", {}, None, {})
    branches = {ref.name: ref.target_commit for ref in refs.branches}
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    # What has the tag already is compared with that: the branch may have gone on.
    tagged = tags.get(options.tag) if options.tag else None
    commit = tagged or branches.get(options.branch) or branches["main"]
    files = read_tree(api, repository, commit)
    card = None
    if CARD in files:
        with TemporaryDirectory() as folder:
            path = api.hf_hub_download(id_, CARD, revision=commit, repo_type=kind, cache_dir=folder)
            card = Path(path).read_bytes()
    return Head(commit, bool(info.private), options.branch in branches, files, card, tags)


def are_held_by(tree: Mapping[str, str], files: Files) -> bool:
    """Whether a tree, as `read_tree` gives it, has all these files as they are."""
    return all(_is(file, tree.get(path)) for path, file in files.items())


def _is(file: bytes | Path, checksum: str | None) -> bool:
    data = contents(file)
    return checksum in (git_hash(data), sha256(data).hexdigest())
