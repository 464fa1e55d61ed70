"""What the Hub keeps of a repository: commits and refs like those of git, and large files apart."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from hub_server.http import HubError

MAIN = "refs/heads/main"
CONVERSION = "refs/convert/parquet"
LFS_SIZE = 10 * 1024**2
_SUFFIXES = """
    .7z .arrow .bin .bz2 .ckpt .gz .h5 .joblib .msgpack .npy .npz .onnx .parquet .pb .pickle .pkl
    .pt .pth .rar .safetensors .tar .tflite .tgz .wasm .xz .zip .zst
"""
LFS_SUFFIXES = tuple(_SUFFIXES.split())
# Datasets keep media as large files too; that is all the difference of their .gitattributes.
LFS_MEDIA = (".flac", ".gif", ".jpeg", ".jpg", ".mp3", ".mp4", ".png", ".tiff", ".wav", ".webp")


@dataclass(frozen=True)
class Commit:
    """A whole tree with its parent."""

    parent: "Commit | None"
    title: str
    date: datetime
    files: Mapping[str, bytes]

    @cached_property
    def sha(self) -> str:
        """The commit's 40-character name, made of all it holds."""
        blobs = sorted((path, blob_id(data)) for path, data in self.files.items())
        parent = self.parent and self.parent.sha
        return hashlib.sha1(repr((parent, self.title, self.date, blobs)).encode()).hexdigest()

    def history(self) -> Iterator["Commit"]:
        """This commit and its parents, newest first."""
        commit: Commit | None = self
        while commit:
            yield commit
            commit = commit.parent

    def below(self, path: str) -> dict[str, bytes]:
        """The file at `path`, or all files of that folder; all of them for an empty path."""
        return {
            name: data
            for name, data in self.files.items()
            if not path or name == path or name.startswith(f"{path}/")
        }

    def last_change(self, path: str) -> "Commit":
        """The newest commit that changed the file or folder."""
        return next(
            commit
            for commit in self.history()
            if commit.parent is None or commit.below(path) != commit.parent.below(path)
        )


@dataclass
class Discussion:
    """A discussion, or a pull request: then `base` is the commit that it starts from."""

    number: int
    title: str
    author: str
    date: datetime
    base: Commit | None = None
    status: str = "open"


@dataclass
class Repository:
    """A model, dataset or space: commits, refs that name some of them, contents of large files."""

    id: str
    kind: str
    clock: Iterator[datetime]
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    discussions: list[Discussion] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its path on the site."""
        return f"/{self.id}" if self.kind == "models" else f"/{self.kind}/{self.id}"

    def commit(
        self, files: Mapping[str, bytes | None], *, ref: str = MAIN, title: str = "Upload files"
    ) -> str:
        """Put `files` over the head of `ref` (None deletes one) and return the new commit."""
        parent = self.commits.get(self.refs.get(ref, ""))
        merged = {**(parent.files if parent else {}), **files}
        tree = {path: data for path, data in sorted(merged.items()) if data is not None}
        for path, data in files.items():
            if data is not None and self.is_large(path, len(data)):
                self.objects[sha256(data)] = data
        commit = Commit(parent, title, next(self.clock), tree)
        self.commits[commit.sha] = commit
        self.refs[ref] = commit.sha
        return commit.sha

    def convert(self, files: Mapping[str, bytes | None]) -> str:
        """Commit to the Parquet conversion, as the Hub's own bot does."""
        return self.commit(files, ref=CONVERSION, title="Update parquet files")

    def branch(self, name: str, revision: str = "main") -> None:
        """Point a branch at a revision."""
        self.refs[f"refs/heads/{name}"] = self.find(revision).sha

    def tag(self, name: str, revision: str = "main") -> None:
        """Point a tag at a revision."""
        self.refs[f"refs/tags/{name}"] = self.find(revision).sha

    def discuss(
        self, title: str, author: str, base: Commit | None = None, status: str = "open"
    ) -> Discussion:
        """Open a discussion; with a base, a pull request, readable as ``refs/pr/N``."""
        opened = Discussion(
            len(self.discussions) + 1, title, author, next(self.clock), base, status
        )
        self.discussions.append(opened)
        if base:
            self.refs[f"refs/pr/{opened.number}"] = base.sha
        return opened

    def find(self, revision: str) -> Commit:
        """The commit of a branch, a tag, a full ref, or of its own name (7 characters will do)."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.commits[self.refs[ref]]
        named = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        if len(named) == 1:
            return self.commits[named[0]]
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def history(self, revision: str = "main") -> list[Commit]:
        """The commits of a revision, newest first."""
        return list(self.find(revision).history())

    def is_large(self, path: str, size: int) -> bool:
        """Whether a file is kept by LFS."""
        suffixes = LFS_SUFFIXES + (LFS_MEDIA if self.kind == "datasets" else ())
        return size > 0 and (path.endswith(suffixes) or size > LFS_SIZE)

    def describe(self, path: str, data: bytes) -> dict[str, Any]:
        """Size and names of a file, in the spelling of `siblings`."""
        if not self.is_large(path, len(data)):
            return {"size": len(data), "blobId": blob_id(data)}
        name = sha256(data)
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {len(data)}\n"
        )
        lfs = {"sha256": name, "size": len(data), "pointerSize": len(pointer)}
        return {"size": len(data), "blobId": blob_id(pointer.encode()), "lfs": lfs}


def blob_id(data: bytes) -> str:
    """The name that git gives to a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data: bytes) -> str:
    """The name that LFS gives to a file's contents."""
    return hashlib.sha256(data).hexdigest()
