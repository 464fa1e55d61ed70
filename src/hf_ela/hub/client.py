"""The client of the Hub: tokens, and typed errors with a way out for what the clients raise."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

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
# The client's HTTPError, of httpx or httpx2 by the version of huggingface_hub, and OSError.
CLIENT_ERRORS: tuple[type[Exception], ...] = HfHubHTTPError.__bases__


@dataclass(frozen=True)
class Repository:
    """A repository, and what its errors are called.

    Attributes:
        id: ``user/name``.
        kind: As the clients' `repo_type`.
        writing: Whether it is written to.
    """

    id: str
    kind: Literal["dataset", "model", "space"]
    writing: bool = False

    @property
    def url(self) -> str:
        """Its page."""
        prefix = "" if self.kind == "model" else f"{self.kind}s/"
        return f"{constants.ENDPOINT}/{prefix}{self.id}"

    @property
    def way_out(self) -> str:
        """What one can do instead, after a comma."""
        if self.writing:
            return "and repeat the command: what arrived is not sent again"
        return "or pass a local folder" + (" with --data" if self.kind == "dataset" else "")

    def unusable(self, message: str) -> HfElaError:
        """The Hub refused, or holds something else."""
        if self.writing:
            return ReleaseError(message)
        return DataError(message) if self.kind == "dataset" else ModelError(message)

    def not_found(self, message: str) -> HfElaError:
        """It does not exist, or not for this token."""
        if self.writing:
            return ReleaseError(message)
        kind = DatasetNotFoundError if self.kind == "dataset" else ModelNotFoundError
        return kind(message)


def client(token: str | None = None) -> HfApi:
    """Return the Hub's client; without `token` it takes that of ``hf auth login`` or HF_TOKEN.

    Raises:
        HfElaError: The token cannot be one.
    """
    return HfApi(token=checked(token), library_name="hf-ela")


def checked(token: str | None) -> str | None:
    """Return the token, or None for an empty one.

    Raises:
        HfElaError: It has characters that the HTTP client would quote in its error.
    """
    if token and not re.fullmatch("[!-~]+", token):
        raise HfElaError(
            "A token of the Hub is printable ASCII without spaces. Received: one that is not. "
            "Copy it again from the settings of your account."
        )
    return token or None


@contextmanager
def hub_errors(repository: Repository, *more: type[Exception]) -> Iterator[None]:
    """Turn what the clients raise into an error of this package.

    Args:
        repository: What is read or written, for the message.
        *more: Further exceptions to turn.
    """
    turned: tuple[type[Exception], ...] = (*CLIENT_ERRORS, ValueError, *more)
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
    """The id is no id of the Hub."""
    return repository.not_found(
        f"A {repository.kind} of the Hub is named `user/name`, of letters, digits, `-`, `_` and "
        f"`.`, at most 96 characters. Received: {repository.id!r}. "
        + ("Check the name." if repository.writing else "For a local folder, check that it exists.")
    )


def not_visible(repository: Repository) -> HfElaError:
    """The Hub knows no such repository, or does not say so to this token."""
    return repository.not_found(
        f"A {repository.kind} must exist on {constants.ENDPOINT} and be visible to you. "
        f"Received: {repository.id!r}, which does not exist, or is private or gated. Check the "
        f"name, and log in with a token that may read it: {LOGIN}."
    )


def revisions(api: HfApi, repository: Repository) -> str:
    """Return branches and tags as a sentence, for a message."""
    with suppress(*CLIENT_ERRORS):
        refs = api.list_repo_refs(repository.id, repo_type=repository.kind)
        branches = ", ".join(ref.name for ref in refs.branches) or "none"
        return f"Branches: {branches}; tags: {', '.join(t.name for t in refs.tags) or 'none'}."
    return "Look its revisions up on its page."


def _known_error(error: BaseException, repository: Repository) -> HfElaError | None:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnreachableError(
            f"A {repository.kind} of the Hub needs the network. Received: {repository.id!r} with "
            f"HF_HUB_OFFLINE set. Unset it, {repository.way_out}."
        )
    if isinstance(error, HFValidationError):
        return malformed(repository)
    if isinstance(error, GatedRepoError):
        return repository.not_found(
            f"The {repository.kind} {repository.id} is gated: its owner grants access. Ask for it "
            f"at {repository.url}, then log in: {LOGIN}."
        )
    if repository.writing and status in (401, 403):
        return ReleaseError(
            f"Writing to {repository.url} needs a token with write access to it. Received: status "
            f"{status}. Make one in the settings of your account, then: {LOGIN}."
        )
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return not_visible(repository)
    # Every other error of the client itself is one of transport.
    transport = isinstance(error, CLIENT_ERRORS[0]) and status is None
    if transport or isinstance(error, ConnectionError | TimeoutError):
        received = f"no answer ({type(error).__name__})"
    elif status is not None and (status == 429 or status >= 500):
        received = f"status {status}"
    else:
        return None
    verb = "write" if repository.writing else "read"
    return HubUnreachableError(
        f"The Hub at {constants.ENDPOINT} must answer to {verb} {repository.id!r}. Received: "
        f"{received}. Check the network and HF_ENDPOINT, {repository.way_out}."
    )


def _unexpected(error: BaseException, repository: Repository) -> HfElaError:
    received = f"Received: {type(error).__name__}: {error}."
    if repository.kind == "dataset":
        return DataError(
            f"The dataset {repository.id} must hold image files or Parquet that `datasets` can "
            f"load. {received} Fix the dataset, or download it and pass a local folder with --data."
        )
    verb = "write" if repository.writing else "read"
    return repository.unusable(
        f"The Hub refused to {verb} the {repository.kind} {repository.id}. {received}"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        # The cause of an answer with an error status is the client's view of the same.
        current = None if isinstance(current, HfHubHTTPError) else current.__cause__
