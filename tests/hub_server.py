"""A Hugging Face Hub over loopback, for tests that run the real clients.

Repositories live in memory, as commits and refs like those of git. What `huggingface_hub` and
`datasets` need for reading is served; every call is a function under ``@route``, so that a write
endpoint is one more function (`Repository.commit` already makes commits)::

    with LocalHub() as hub:
        repository = hub.add_dataset("user/name", {"train/fake/a.jpg": data})
        subprocess.run([...], env=hub.environment(home))  # the clients read it when imported

Status codes, headers and error codes are those the clients act on (`hf_raise_for_status` and
`get_hf_file_metadata` of huggingface_hub 2.4).
"""

import hashlib
import itertools
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import Message
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

MAIN = "refs/heads/main"
CONVERSION = "refs/convert/parquet"
LFS_SUFFIXES = (".parquet", ".zip", ".h5", ".onnx", ".jpg", ".png")


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
class Repository:
    """A model, dataset or space: commits, and the refs that name some of them."""

    id: str
    kind: str
    clock: Iterator[datetime]
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(
        self, files: Mapping[str, bytes | None], *, ref: str = MAIN, title: str = "Upload files"
    ) -> str:
        """Put `files` over the head of `ref` (None deletes one) and return the new commit."""
        parent = self.commits.get(self.refs.get(ref, ""))
        merged = {**(parent.files if parent else {}), **files}
        tree = {path: data for path, data in sorted(merged.items()) if data is not None}
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

    def find(self, revision: str) -> Commit:
        """The commit of a branch, a tag, a full ref or a commit's name."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.commits[self.refs[ref]]
        if revision in self.commits:
            return self.commits[revision]
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")


class HubError(Exception):
    """An answer that is an error: status, `X-Error-Code`, message."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.response = Response(
            json.dumps({"error": message}).encode(),
            status,
            {"X-Error-Code": code, "X-Error-Message": message, **headers},
        )


@dataclass
class Response:
    """What goes back."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """A call, with the parts that its route names (percent-decoded)."""

    hub: "LocalHub"
    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: bytes
    parts: dict[str, str] = field(default_factory=dict)

    @property
    def user(self) -> str | None:
        """Who calls: None without a token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token != self.hub.token:
            raise HubError(401, "", "Invalid credentials in Authorization header")
        return self.hub.user if token else None

    @property
    def repository(self) -> Repository:
        """The repository of the path, if the caller may see it."""
        key = self.parts["kind"], f"{self.parts['user']}/{self.parts['name']}"
        repository = self.hub.repositories.get(key)
        if repository is None or (repository.private and self.user is None):
            # The Hub does not tell strangers which names exist.
            status = 404 if self.user else 401
            raise HubError(status, "RepoNotFound", "Repository not found")
        return repository

    @property
    def commit(self) -> Commit:
        """The commit of the path's revision."""
        return self.repository.find(self.parts.get("revision", "main"))

    def flag(self, name: str) -> bool:
        """Whether a query parameter is true."""
        return self.query.get(name, "").lower() in ("1", "true")

    def check_gate(self) -> None:
        """Refuse the contents of a gated repository: nobody has been granted access."""
        if self.repository.gated:
            raise HubError(403 if self.user else 401, "GatedRepo", "Access is restricted")


class LocalHub:
    """The server; a context manager.

    Attributes:
        endpoint: What HF_ENDPOINT must be.
        requests: All calls so far, as ``"METHOD /path status"``.
        faults: Part of a path -> status that calls to such a path get instead of an answer.
    """

    user = "tester"
    token = "hf_local_token_of_tester"

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[str] = []
        self.faults: dict[str, int] = {}
        start = datetime(2026, 1, 1, tzinfo=UTC)
        self._clock = (start + timedelta(minutes=minute) for minute in itertools.count())
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add_dataset(
        self,
        repo_id: str,
        files: Mapping[str, bytes | None],
        *,
        private: bool = False,
        gated: bool = False,
    ) -> Repository:
        """Add a dataset with one commit on main."""
        repository = Repository(repo_id, "datasets", self._clock, private, gated)
        repository.commit(files)
        self.repositories["datasets", repo_id] = repository
        return repository

    def environment(self, home: Path) -> dict[str, str]:
        """The environment for a process that takes this server for the Hub."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        return inherited | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def answer(self, request: Request) -> Response:
        """Find the route and run it."""
        for part, status in self.faults.items():
            if part in unquote(request.path):
                return HubError(status, "", "A fault made by the test").response
        for method, pattern, function in ROUTES:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                request.parts = {
                    key: unquote(part or "") for key, part in match.groupdict().items()
                }
                try:
                    return function(request)
                except HubError as error:
                    return error.response
        return HubError(404, "", f"No route for {request.method} {request.path}").response


def blob_id(data: bytes) -> str:
    """The name that git gives to a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _handler(hub: LocalHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[-1] for key, values in parse_qs(url.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            method = "GET" if self.command == "HEAD" else self.command
            response = hub.answer(Request(hub, method, url.path, query, self.headers, body))
            hub.requests.append(f"{self.command} {unquote(url.path)} {response.status}")
            self.send_response(response.status)
            for key, value in response.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(response.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  (http.server's)

        def log_message(self, *_: object) -> None:
            """Stay quiet: `LocalHub.requests` keeps the log."""

    return Handler


# --- Routes --------------------------------------------------------------------------------------

ROUTES: list[tuple[str, re.Pattern[str], Callable[[Request], Response]]] = []
REPOSITORY = "/api/{kind}/{user}/{name}"


def route(
    method: str, template: str
) -> Callable[[Callable[[Request], Response]], Callable[[Request], Response]]:
    """Register a call; ``{part}`` is one segment of the path, ``{path}`` the rest of it."""
    pattern = template.replace("{path}", r"(?P<path>.+)").replace("{kind}", "(?P<kind>[a-z]+s)")
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def register(function: Callable[[Request], Response]) -> Callable[[Request], Response]:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


def as_json(value: Any) -> Response:
    return Response(json.dumps(value).encode(), headers={"Content-Type": "application/json"})


@route("GET", "/api/whoami-v2")
def whoami(request: Request) -> Response:
    if request.user is None:
        raise HubError(401, "", "Invalid username or password.")
    access = {"accessToken": {"displayName": "test", "role": "write"}}
    return as_json({"type": "user", "name": request.user, "orgs": [], "auth": access})


@route("GET", REPOSITORY)
@route("GET", REPOSITORY + "/revision/{revision}")
def info(request: Request) -> Response:
    repository, commit = request.repository, request.commit
    siblings = [
        {"rfilename": path, **(describe(path, data) if request.flag("blobs") else {})}
        for path, data in commit.files.items()
    ]
    return as_json(
        {
            "_id": blob_id(repository.id.encode())[:24],
            "id": repository.id,
            "author": repository.id.partition("/")[0],
            "sha": commit.sha,
            "lastModified": iso(commit.date),
            "private": repository.private,
            "gated": "manual" if repository.gated else False,
            "disabled": False,
            "tags": [],
            "siblings": siblings,
        }
    )


@route("GET", REPOSITORY + "/auth-check")
def auth_check(request: Request) -> Response:
    request.check_gate()
    return Response(b"")


@route("GET", REPOSITORY + "/refs")
def refs(request: Request) -> Response:
    repository = request.repository

    def named(prefix: str) -> list[dict[str, str]]:
        return [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha}
            for ref, sha in repository.refs.items()
            if ref.startswith(prefix)
        ]

    return as_json(
        {
            "branches": named("refs/heads/"),
            "tags": named("refs/tags/"),
            "converts": named("refs/convert/"),
            "pullRequests": named("refs/pr/"),
        }
    )


@route("GET", REPOSITORY + "/commits/{revision}")
def commits(request: Request) -> Response:
    return as_json(
        [
            {**summary(commit), "message": "", "authors": [{"user": request.hub.user}]}
            for commit in request.commit.history()
        ]
    )


@route("GET", REPOSITORY + "/tree/{revision}")
@route("GET", REPOSITORY + "/tree/{revision}/{path}")
def tree(request: Request) -> Response:
    commit, folder = request.commit, request.parts.get("path", "")
    depth = folder.count("/") + 1 if folder else 0
    files = commit.below(folder)
    if not files and folder:
        raise HubError(404, "EntryNotFound", f"{folder} does not exist on this revision")
    paths = {
        "/".join(path.split("/")[:end])
        for path in files
        for end in range(depth + 1, path.count("/") + 2)
        if request.flag("recursive") or end == depth + 1
    }
    return as_json([entry(commit, path, request.flag("expand")) for path in sorted(paths)])


@route("POST", REPOSITORY + "/paths-info/{revision}")
def paths_info(request: Request) -> Response:
    if request.headers.get("Content-Type", "").startswith("application/json"):
        asked = json.loads(request.body)
    else:
        asked = parse_qs(request.body.decode())
        asked["expand"] = asked.get("expand", ["false"])[-1].lower() == "true"
    commit = request.commit
    known = [path for path in asked["paths"] if commit.below(path)]
    return as_json([entry(commit, path, bool(asked.get("expand"))) for path in known])


@route("GET", "/{kind}/{user}/{name}/resolve/{revision}/{path}")
def resolve(request: Request) -> Response:
    request.check_gate()
    commit, path = request.commit, request.parts["path"]
    if path not in commit.files:
        # The clients take the commit from this header even when the file is missing.
        raise HubError(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": commit.sha})
    data = commit.files[path]
    described = describe(path, data)
    headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    headers["ETag"] = f'"{described["blobId"]}"'
    if "lfs" in described:
        headers["X-Linked-Etag"] = f'"{described["lfs"]["sha256"]}"'
        headers["X-Linked-Size"] = str(len(data))
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if span is None:
        return Response(data, headers=headers)
    first, last = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
    if first > last:
        return Response(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Response(data[first : last + 1], 206, headers)


def iso(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def summary(commit: Commit) -> dict[str, str]:
    return {"id": commit.sha, "title": commit.title, "date": iso(commit.date)}


def describe(path: str, data: bytes) -> dict[str, Any]:
    """Size and names of a file, in the spelling of `siblings`."""
    described: dict[str, Any] = {"size": len(data), "blobId": blob_id(data)}
    if path.endswith(LFS_SUFFIXES):
        sha256 = hashlib.sha256(data).hexdigest()
        described["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
    return described


def entry(commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    """A file or folder, in the spelling of `tree` and `paths-info`."""
    last = {"lastCommit": summary(commit.last_change(path))} if expand else {}
    if path not in commit.files:
        oid = blob_id(repr(sorted(commit.below(path).items())).encode())
        return {"type": "directory", "path": path, "size": 0, "oid": oid, **last}
    described = describe(path, commit.files[path])
    if "lfs" in described:
        last["lfs"] = {**described["lfs"], "oid": described["lfs"]["sha256"]}
    size, oid = described["size"], described["blobId"]
    return {"type": "file", "path": path, "size": size, "oid": oid, **last}
