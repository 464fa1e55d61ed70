"""A Hugging Face Hub over loopback, for tests that run the real clients.

Repositories live in memory, as commits and refs like those of git::

    with LocalHub() as hub:
        repository = hub.add_model("tester/art", {"README.md": b"# Art"})
        hub.fault("POST", "/commit/", status=500, times=1)
        hub.before("POST", "/commit/", lambda: repository.commit({"a.txt": b"moved"}), times=1)
        subprocess.run([...], env=hub.environment(home))  # the clients read it when imported
        assert len(repository.history("main")) == 2

Three callers are known: `LocalHub.token` may write in the namespaces `user` and `organizations`,
and open pull requests elsewhere; `read_token` may only read; without a token, writing is 401 and a
private repository looks like a missing one.

Status codes, headers, error codes and fields are those that the clients act on, read in the
sources of huggingface_hub 1.33 and 2.4 (and in the messages that people quote in its issues).
What the real Hub does beyond that cannot be known here. So these are this server's own rules:

- A file is large (LFS) by its suffix, or over 10 MiB; the Hub reads the repository's
  .gitattributes, and may look at the sample of the contents that the client sends. Large files go
  up in one piece over the basic transfer: no multipart, no Xet.
- Objects of large files belong to their repository and stay, with or without a commit.
- A card is checked for what `cards.py` lists; the Hub knows more rules, and changes them.
- Both tokens see every private repository. Nobody has access to a gated one.
- A stale parent is 412, always. The Hub is said to answer 409 at times: make that with a fault.
- A Gradio Space can be made by anybody; the Hub may ask for a subscription (402).
- Rates are unlimited, and nothing is scanned.
"""

import itertools
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from hub_server import collections, reading, writing
from hub_server.http import Drop, Fault, Hook, handler
from hub_server.repository import Commit, Repository

__all__ = ["Commit", "LocalHub", "Repository", "collections", "reading", "writing"]


class LocalHub:
    """The server; a context manager.

    Attributes:
        endpoint: What HF_ENDPOINT must be.
        repositories: (``models``, ``datasets`` or ``spaces``, id) -> repository.
        collections: Slug -> what the Hub says of a collection.
        announced: Where large files may be sent to -> the repository that waits for them.
        started: All calls as they came in, as ``"METHOD /path"``.
        requests: All calls that ended, as ``"METHOD /path status"``; ``dropped`` for a status where
            the connection was cut.
        faults: What `fault` ordered.
        hooks: What `before` ordered.
    """

    user = "tester"
    organizations: tuple[str, ...] = ()
    token = "hf_local_token_of_tester"
    read_token = "hf_local_token_that_reads"

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.announced: dict[str, Repository] = {}
        self.started: list[str] = []
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.hooks: list[Hook] = []
        start = datetime(2026, 1, 1, tzinfo=UTC)
        self._clock = (start + timedelta(minutes=minute) for minute in itertools.count())
        self.lock = threading.RLock()
        self.closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def add_model(
        self, repo_id: str, files: Mapping[str, bytes | None], **options: Any
    ) -> Repository:
        """Add a model; see `add`."""
        return self.add("models", repo_id, files, **options)

    def add_dataset(
        self, repo_id: str, files: Mapping[str, bytes | None], **options: Any
    ) -> Repository:
        """Add a dataset; see `add`."""
        return self.add("datasets", repo_id, files, **options)

    def add_space(self, repo_id: str, files: Mapping[str, bytes | None]) -> Repository:
        """Add a Gradio Space; see `add`."""
        return self.add("spaces", repo_id, files, sdk="gradio")

    def add(
        self,
        kind: str,
        repo_id: str,
        files: Mapping[str, bytes | None],
        *,
        private: bool = False,
        gated: bool = False,
        sdk: str | None = None,
        title: str = "Upload files",
    ) -> Repository:
        """Add a repository with one commit on main."""
        repository = Repository(repo_id, kind, self._clock, private, gated, sdk)
        repository.commit(files, title=title)
        self.repositories[kind, repo_id] = repository
        return repository

    def fault(
        self,
        method: str,
        part: str,
        *,
        times: int | None = None,
        status: int | None = None,
        retry_after: int | None = None,
        drop: Drop | None = None,
        slow: float = 0,
        answer: bytes | None = None,
    ) -> Fault:
        """Let requests go wrong; the first fault that holds for a request counts.

        Args:
            method: As the client sends it; ``"*"`` for any. A download is a HEAD, then a GET.
            part: What the path contains, percent-decoded.
            times: For how many requests; always by default.
            status: Answer this error and do nothing.
            retry_after: Seconds, for the header of that name.
            drop: Cut the connection: ``"half"`` way through the body of the answer, or ``"after"``
                all is done but before a word of answer.
            slow: Seconds until the answer; what was asked for is done before.
            answer: What a proxy says instead, with status 200.

        Returns:
            The fault, whose `met` counts its requests.
        """
        fault = Fault(method, part, times, 0, status, retry_after, drop, slow, answer)
        self.faults.append(fault)
        return fault

    def before(
        self, method: str, part: str, function: Callable[[], object], *, times: int | None = None
    ) -> Hook:
        """Call a function before such requests are answered, faults included."""
        hook = Hook(method, part, times, function=function)
        self.hooks.append(hook)
        return hook

    def clear_faults(self) -> None:
        """Let everything go well from now on; hooks go too."""
        self.faults.clear()
        self.hooks.clear()

    def reset(self) -> None:
        """Forget all repositories, calls and faults."""
        self.clear_faults()
        for kept in (self.repositories, self.collections, self.announced):
            kept.clear()
        for kept in (self.started, self.requests):
            kept.clear()

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
