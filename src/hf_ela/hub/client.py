"""The client of the Hub: tokens, and errors of this package for those that the clients raise."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from typing import Literal

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.sha import git_hash

from hf_ela._files import disk_full
from hf_ela.errors import (
    DataError,
    DatasetNotFoundError,
    HfElaError,
    HubUnreachableError,
    ModelError,
    ModelNotFoundError,
    ReleaseError,
)

LOGIN = "`hf auth login`, or the variable HF_TOKEN"
# The HTTPError of the client (httpx or httpx2, by the version of huggingface_hub), and OSError.
CLIENT_ERRORS: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
WrongAddress: type[Exception] = import_module(CLIENT_ERRORS[0].__module__.split(".")[0]).InvalidURL
"""What the client raises for an address, also of a proxy, that cannot be one."""
OTHER_ANSWERS: tuple[type[Exception], ...] = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
)
"""What the clients raise for an answer that is not what the Hub says, such as that of a proxy."""
_PROXIES = {"all_proxy", "https_proxy", "http_proxy"}


@dataclass(frozen=True)
class Repository:
    """A repository, for messages.

    Attributes:
        id: ``user/name``.
        kind: The `repo_type` of the clients.
        writing: Whether this package writes to it.
        planning: Whether it is only read, to plan the writing or to verify it.
        cache: Where its files are kept; by default the cache of the client.
    """

    id: str
    kind: Literal["dataset", "model", "space"]
    writing: bool = False
    planning: bool = False
    cache: str | os.PathLike[str] | None = None

    @property
    def url(self) -> str:
        """The address of its page."""
        prefix = "" if self.kind == "model" else f"{self.kind}s/"
        return f"{constants.ENDPOINT}/{prefix}{self.id}"

    @property
    def remedy(self) -> str:
        """What to do if the Hub does not answer, as the end of a sentence."""
        if self.planning:
            return "and repeat the command"
        if self.writing:
            return "and repeat the command: files that arrived are not sent again"
        return "or pass a local folder"

    @property
    def verb(self) -> str:
        """What is done with it now."""
        return "write" if self.writing and not self.planning else "read"

    def not_found(self, message: str) -> HfElaError:
        """Return the error for a repository that does not exist, or not for this token."""
        if self.writing:
            return ReleaseError(message)
        kind = DatasetNotFoundError if self.kind == "dataset" else ModelNotFoundError
        return kind(message)

    def failed(self, message: str) -> HfElaError:
        """Return the error for what can be neither read nor written."""
        if self.writing:
            return ReleaseError(message)
        return (DataError if self.kind == "dataset" else ModelError)(message)


def client(token: str | None = None) -> HfApi:
    """Return the client of the Hub; by default with the token of ``hf auth login`` or HF_TOKEN.

    Raises:
        HfElaError: The token is not valid.
    """
    return HfApi(token=checked(token), library_name="hf-ela")


def checked(token: str | None) -> str | None:
    """Return the token, or None for an empty one.

    Raises:
        HfElaError: It has characters that the HTTP client would quote in an error.
    """
    if token and not re.fullmatch("[!-~]+", token):
        raise HfElaError(
            "A token of the Hub must be printable ASCII without spaces; this one is not. Copy it "
            "again from the settings of your account."
        )
    return token or None


def check_tag(tag: str) -> None:
    """Refuse a tag of a release that is not ``vX.Y.Z``.

    Raises:
        ReleaseError: It is not.
    """
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        raise ReleaseError(f"`tag` must be vX.Y.Z, such as v1.0.0. Received: {tag!r}.")


@contextmanager
def hub_errors(repository: Repository, *more: type[Exception]) -> Iterator[None]:
    """Turn exceptions of the clients into errors of this package.

    Args:
        repository: The repository that is read or written, for the message.
        *more: Further exceptions to turn.
    """
    # hf_xet, which moves large files, raises RuntimeError; a SOCKS proxy can raise ImportError.
    turned: tuple[type[Exception], ...] = (*CLIENT_ERRORS, *OTHER_ANSWERS, *more)
    turned = (*turned, RuntimeError, ImportError, WrongAddress)
    try:
        yield
    except HfElaError:
        raise
    except turned as error:
        *_, root = causes = list(_causes(error))
        known = (_known_error(cause, repository) for cause in causes)
        raise next((found for found in known if found), None) or _unexpected(
            root, repository
        ) from error


def malformed(repository: Repository) -> HfElaError:
    """Return the error for an id that the Hub does not allow."""
    return repository.not_found(
        f"A {repository.kind} on the Hub is named user/name, with letters, digits, '-', '_' and "
        f"'.', at most 96 characters. Received: {repository.id!r}. Check the name."
    )


def not_visible(repository: Repository) -> HfElaError:
    """Return the error for a repository that does not exist, or that this token cannot see."""
    return repository.not_found(
        f"The {repository.kind} {repository.id!r} does not exist on {constants.ENDPOINT}, or is "
        f"private or gated. Check the name, or log in with a token that can read it: {LOGIN}."
    )


def revisions(api: HfApi, repository: Repository) -> str:
    """Return branches and tags as a sentence, for a message."""
    with suppress(*CLIENT_ERRORS, *OTHER_ANSWERS):
        refs = api.list_repo_refs(repository.id, repo_type=repository.kind)
        branches = ", ".join(ref.name for ref in refs.branches) or "none"
        return f"Branches: {branches}; tags: {', '.join(t.name for t in refs.tags) or 'none'}."
    return "Its page lists its revisions."


def is_of(data: bytes, checksum: str | None) -> bool:
    """Return whether data has a checksum of the Hub: the id of a git blob, or a SHA-256."""
    return checksum in (git_hash(data), sha256(data).hexdigest())


def _known_error(error: BaseException, repository: Repository) -> HfElaError | None:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnreachableError(
            f"HF_HUB_OFFLINE is set, but {repository.id!r} must be read from the Hub. Unset it, "
            f"{repository.remedy}."
        )
    if isinstance(error, HFValidationError):
        return malformed(repository)
    if isinstance(error, ImportError | ValueError) and "proxy" in str(error).lower():
        return _wrong_proxy(error)
    if isinstance(error, WrongAddress):
        if _proxies():
            return _wrong_proxy(error)
        return HubUnreachableError(
            f"HF_ENDPOINT must be the address of a Hub. Received: {constants.ENDPOINT!r}. Correct "
            "or unset it."
        )
    if isinstance(error, OSError | RuntimeError) and (reason := _disk_problem(error, repository)):
        return repository.failed(reason)
    if (
        isinstance(error, HfHubHTTPError)
        and status == 401
        and "Authorization" in error.response.request.headers
    ):
        return repository.not_found(
            f"{constants.ENDPOINT} does not accept your token (status 401, for the "
            f"{repository.kind} {repository.id}): it has expired, was revoked or is mistyped. Make "
            f"a new one in the settings of your account and log in: {LOGIN}; what is public is "
            "read without a token (`hf auth logout`)."
        )
    if isinstance(error, GatedRepoError):
        return repository.not_found(
            f"The {repository.kind} {repository.id} is gated. Request access at {repository.url}, "
            f"then log in: {LOGIN}."
        )
    if repository.planning and status == 403:
        return ReleaseError(
            f"The token has no read access to {repository.url} (status 403). Create one in the "
            f"settings of your account, then log in: {LOGIN}."
        )
    if repository.writing and status in (401, 403):
        return ReleaseError(
            f"The token has no write access to {repository.url} (status {status}). Create one in "
            f"the settings of your account, then log in: {LOGIN}."
        )
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return not_visible(repository)
    # Any other error of the client itself is an error of transport.
    transport = isinstance(error, CLIENT_ERRORS[0]) and status is None
    if transport or isinstance(error, ConnectionError | TimeoutError):
        received = f"no answer ({type(error).__name__})"
    elif status is not None and (status == 429 or status >= 500):
        received = f"status {status}"
    elif isinstance(error, OTHER_ANSWERS) and repository.kind != "dataset":
        received = f"an answer of another form ({type(error).__name__}: {error!s:.200})"
    else:
        return None
    return HubUnreachableError(
        f"The Hub at {constants.ENDPOINT} could not be reached to {repository.verb} "
        f"{repository.id!r}. Received: {received}. Check the network and HF_ENDPOINT, "
        f"{repository.remedy}."
    )


def _unexpected(error: BaseException, repository: Repository) -> HfElaError:
    received = f"Received: {type(error).__name__}: {error}."
    if repository.kind == "dataset":
        return DataError(
            f"`datasets` cannot load the dataset {repository.id}: it must hold image files or "
            f"Parquet. {received} Fix the dataset, or download it and pass a local folder."
        )
    return repository.failed(
        f"The Hub refused to {repository.verb} the {repository.kind} {repository.id}. {received}"
    )


def _proxies() -> list[str]:
    """Return the variables of the environment that name a proxy."""
    return [name for name in os.environ if name.lower() in _PROXIES]


def _wrong_proxy(error: Exception) -> HfElaError:
    """Return the error for a proxy that the client cannot use; its address may hold a password."""
    names = ", ".join(_proxies())
    problem = "has no valid address. Correct it, such as to http://host:port"
    if isinstance(error, ImportError):
        problem = "is a SOCKS proxy, which requires the package `socksio`: pip install socksio"
    return HubUnreachableError(
        f"The Hub cannot be asked: the proxy that the environment names ({names or 'no variable'}) "
        f"{problem}, or unset the variable."
    )


def _disk_problem(error: OSError | RuntimeError, repository: Repository) -> str | None:
    """Return what to say about a folder that cannot be written, or None for another problem."""
    path, reason = getattr(error, "filename", None), disk_full(error)
    if path and isinstance(error, OSError):
        reason = error.strerror
    if not reason:
        return None
    return (
        f"{reason}: {path or repository.cache or constants.HF_HUB_CACHE}. Files of "
        f"{repository.id} are kept there: free space, or choose another folder with HF_HOME."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        # The cause of an answer with an error status is the client's view of the same.
        current = None if isinstance(current, HfHubHTTPError) else current.__cause__
