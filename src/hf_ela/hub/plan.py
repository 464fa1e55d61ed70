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

from hf_ela.errors import ReleaseError
from hf_ela.hub.client import Repository
from hf_ela.release import CARD, Files, contents

__all__ = ["MakeFiles", "Options", "Plan", "make_plan"]

MakeFiles = Callable[[bytes | None], Files]
"""Gives the files of a repository, from the card that it has now (None without one)."""

_TAG = re.compile(r"v\d+\.\d+\.\d+")
# What an earlier release may have left behind.
_WHEEL = re.compile(r"hf_ela-[^/]+\.whl")
_PLOT = re.compile(r"plots/[^/]+\.png")


@dataclass(frozen=True)
class Options:
    """How a release is sent.

    Attributes:
        branch: Where the commit goes; made from main if there is none.
        tag: ``vX.Y.Z``, made when the commit is verified.
        private: Make a new repository private; an existing public one is refused.
        create_pr: Open a pull request instead of committing to the branch.
        message: Of the commit.
        replace_card: Write the card anew, hand-written text included.
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
        commit: Its newest commit; None while there is no such repository.
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
    options: Options
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
        state = "a new repository" if head.commit is None else f"at {head.commit[:7]}"
        where = "as a pull request" if options.create_pr else f"to the branch {options.branch}"
        lines = [f"{self.repository.url}: {state}, {seen}, {where}"]
        for path, change in self.changes.items():
            size = len(contents(self.files[path])) if path in self.files else 0
            lines.append(f"  {change:8}{size:>12,} bytes  {path}")
        if self.changes.get(CARD) in ("new", "changed"):
            before, after = head.card or b"", contents(self.files[CARD])
            old, new = (text.decode(errors="replace").splitlines() for text in (before, after))
            diff = difflib.unified_diff(old, new, "on the Hub", "new", lineterm="")
            lines += ["The card's changes:", *(f"  {line}" for line in diff)]
        if not self.needs_commit:
            lines.append("Nothing to commit: the repository holds these files.")
        if options.tag:
            lines.append(f"Tag after verification: {options.tag}")
        return "\n".join(lines)


def make_plan(
    api: HfApi,
    repository: Repository,
    make_files: MakeFiles,
    options: Options,
) -> Plan:
    """Read the head and compare.

    Args:
        api: The Hub's client.
        repository: Where to.
        make_files: Gives the files.
        options: How they are to be sent.

    Raises:
        ReleaseError: What is asked for would be refused later: a tag that names something else,
            or privacy of a repository that is public.
    """
    head = _read_head(api, repository, options.branch)
    files = make_files(head.card)
    changes: dict[str, Any] = {}
    for path, content in sorted(files.items()):
        there = head.files.get(path)
        same = there in (git_hash(data := contents(content)), sha256(data).hexdigest())
        changes[path] = "new" if there is None else "same" if same else "changed"
    for path in sorted(head.files):
        if path not in files and (
            _WHEEL.fullmatch(path) or (CARD in files and _PLOT.fullmatch(path))
        ):
            changes[path] = "removed"
    plan = Plan(repository, options, head, files, changes)
    if options.private and head.commit and not head.private:
        raise ReleaseError(
            f"--private needs a new or private repository. Received: {repository.url}, which is "
            "public. Change it in its settings first, or leave the option out."
        )
    tagged = head.tags.get(options.tag or "")
    if tagged and (plan.needs_commit or tagged != head.commit):
        raise ReleaseError(
            f"A tag names one release for ever. Received: {options.tag}, which {repository.id} "
            f"has at {tagged[:7]}. Take the next version."
        )
    return plan


def _read_head(api: HfApi, repository: Repository, branch: str) -> Head:
    id_, kind = repository.id, repository.kind
    try:
        info = api.repo_info(id_, repo_type=kind, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        refs = api.list_repo_refs(id_, repo_type=kind)
    except RepositoryNotFoundError:
        return Head(None, False, branch == "main", {}, None, {})
    branches = {ref.name: ref.target_commit for ref in refs.branches}
    commit = branches.get(branch) or branches["main"]
    entries = api.list_repo_tree(id_, recursive=True, revision=commit, repo_type=kind)
    files = {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
        for entry in entries
        if isinstance(entry, RepoFile)
    }
    card = None
    if CARD in files:
        with TemporaryDirectory() as folder:
            path = api.hf_hub_download(id_, CARD, revision=commit, repo_type=kind, cache_dir=folder)
            card = Path(path).read_bytes()
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    return Head(commit, bool(info.private), branch in branches, files, card, tags)
