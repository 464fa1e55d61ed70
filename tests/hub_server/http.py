"""Requests, answers, routes, and the faults that a test puts between them."""

import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from hub_server import LocalHub
    from hub_server.repository import Commit, Repository

Drop = Literal["half", "after"]


class HubError(Exception):
    """An answer that is an error: status, `X-Error-Code`, message."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        known = {"X-Error-Code": code} if code else {}
        self.response = Response(
            json.dumps({"error": message}).encode(),
            status,
            {**known, "X-Error-Message": message.splitlines()[0], **headers},
        )


@dataclass
class Response:
    """What goes back."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


@dataclass
class Rule:
    """Requests that a test has plans for: a method ("*": any), a part of the path, how many."""

    method: str
    part: str
    times: int | None
    met: int = 0

    def meets(self, method: str, path: str) -> bool:
        """Whether the rule holds for this request; counts it if so."""
        if self.method not in ("*", method) or self.part not in path or self.met == self.times:
            return False
        self.met += 1
        return True


@dataclass
class Fault(Rule):
    """What goes wrong; see `LocalHub.fault`."""

    status: int | None = None
    retry_after: int | None = None
    drop: Drop | None = None
    slow: float = 0
    answer: bytes | None = None

    @property
    def response(self) -> Response | None:
        """The answer that takes the place of any work; None where the work is done."""
        if self.answer is not None:
            return Response(self.answer, headers={"Content-Type": "application/json"})
        if self.status is None:
            return None
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return HubError(self.status, "", "A fault made by the test", **headers).response


@dataclass
class Hook(Rule):
    """What the test does just before a request is answered."""

    function: Callable[[], object] = print


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
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def role(self) -> str | None:
        """What the caller's token allows, "write" or "read"; None without a token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        roles = {self.hub.token: "write", self.hub.read_token: "read"}
        if token and token not in roles:
            raise HubError(401, "", "Invalid credentials in Authorization header")
        return roles.get(token)

    @property
    def repository(self) -> "Repository":
        """The repository of the path, if the caller may see it."""
        kind = self.parts.get("kind") or "models"
        return self.named(kind, f"{self.parts['user']}/{self.parts['name']}")

    def named(self, kind: str, repo_id: str) -> "Repository":
        """A repository, if the caller may see it."""
        repository = self.hub.repositories.get((kind, repo_id))
        role = self.role  # a token that is not valid opens nothing, not even what is public
        if repository is None or (repository.private and role is None):
            # The Hub does not tell strangers which names exist.
            raise HubError(404 if role else 401, "RepoNotFound", "Repository not found")
        return repository

    @property
    def commit(self) -> "Commit":
        """The commit of the path's revision."""
        return self.repository.find(self.parts.get("revision") or "main")

    def flag(self, name: str) -> bool:
        """Whether a query parameter is true."""
        return self.query.get(name, "").lower() in ("1", "true")

    def check_gate(self) -> None:
        """Refuse the contents of a gated repository: nobody has been granted access."""
        if self.repository.gated:
            raise HubError(403 if self.role else 401, "GatedRepo", "Access is restricted")

    def check_write(self, owner: str | None) -> None:
        """Refuse who may not write in that namespace; with None, who may write nowhere."""
        if self.role is None:
            raise HubError(401, "", "Invalid username or password.")
        if self.role != "write" or owner not in (None, self.hub.user, *self.hub.organizations):
            where = f' under the namespace "{owner}"' if owner else ""
            raise HubError(403, "", f"You don't have the rights to write{where}")

    def written(self, *, propose: bool = False) -> "Repository":
        """The repository of the path, if the caller may write to it (or propose changes)."""
        if self.role is None:
            raise HubError(401, "RepoNotFound", "Invalid username or password.")
        repository = self.repository
        self.check_write(None if propose else self.parts["user"])
        return repository


Function = Callable[[Request], Response]
ROUTES: list[tuple[str, re.Pattern[str], Function]] = []
REPOSITORY = "/api/{kind}/{user}/{name}"
SITE = "/{kind?}{user}/{name}"


def route(method: str, template: str) -> Callable[[Function], Function]:
    """Register a call; ``{part}`` is one segment of the path, ``{path}`` the rest of it."""
    pattern = template.replace(".git/", r"\.git/").replace("{path}", "(?P<path>.+)")
    pattern = pattern.replace("{kind}", "(?P<kind>[a-z]+s)")
    pattern = pattern.replace("{kind?}", "(?:(?P<kind>datasets|spaces)/)?")
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+?)", pattern)

    def register(function: Function) -> Function:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


def dispatch(request: Request) -> Response:
    """Find the route and run it."""
    for method, pattern, function in ROUTES:
        if method == request.method and (match := pattern.fullmatch(request.path)):
            request.parts = {key: unquote(part or "") for key, part in match.groupdict().items()}
            try:
                return function(request)
            except HubError as error:
                return error.response
    return HubError(404, "", f"No route for {request.method} {request.path}").response


def handler(hub: "LocalHub") -> type[BaseHTTPRequestHandler]:
    """Read requests from the wire, let the faults of the hub happen, answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            try:
                self._exchange()
            except ConnectionError:  # the client went away
                self.close_connection = True

        def _exchange(self) -> None:
            url = urlsplit(self.path)
            path = unquote(url.path)
            hub.started.append(f"{self.command} {path}")
            body = self._body()
            with hub.lock:
                for hook in hub.hooks:
                    if hook.meets(self.command, path):
                        hook.function()
                faults = (fault for fault in hub.faults if fault.meets(self.command, path))
                fault = next(faults, Fault(self.command, path, None))
            query = {key: values[-1] for key, values in parse_qs(url.query).items()}
            method = "GET" if self.command == "HEAD" else self.command
            request = Request(hub, method, url.path, query, self.headers, body)
            if (response := fault.response) is None:
                with hub.lock:
                    response = dispatch(request)
            hub.closed.wait(fault.slow)
            status = "dropped" if fault.drop else response.status
            hub.requests.append(f"{self.command} {path} {status}")
            if fault.drop == "after":
                self._cut()
                return
            self.send_response(response.status)
            for key, value in response.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            if self.command != "HEAD":
                end = len(response.body) // 2 if fault.drop else len(response.body)
                self.wfile.write(response.body[:end])
            if fault.drop:
                self._cut()

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def _cut(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  (http.server's)

        def log_message(self, *_: object) -> None:
            """Stay quiet: `LocalHub.requests` keeps the log."""

    return Handler
