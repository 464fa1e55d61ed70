"""Datasets of the Hugging Face Hub; the only module that imports huggingface_hub.

`resolve_dataset` pins a repository to 40-character commits before anything is loaded,
`load_hub_rows` reads exactly those, and `read_image` gets the bytes behind a row. What the
clients raise becomes a `DataError` with a way out; put `hub_errors` around the iteration of a
stream.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, HfFileSystem, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import DatasetInfo, RepoFile, RepoFolder

from hf_ela.errors import (
    DataError,
    DatasetNotFoundError,
    HfElaError,
    HubUnreachableError,
    ImageNotReadableError,
)

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

# The Hub's bot commits its Parquet copy of a dataset's main branch to this ref, as
# <config>/<split>/0000.parquet; <split>-part0, -part1, ... above 10,000 files, and partial-<split>
# where it stopped at its size limit (huggingface/dataset-viewer, libcommon/parquet_utils.py).
CONVERSION_REF = "refs/convert/parquet"
LOGIN = "`hf auth login`, the variable HF_TOKEN, or --token"
# The client's HTTPError, of httpx or httpx2 by the version of huggingface_hub, and OSError.
_CLIENT_ERRORS: tuple[type[Exception], ...] = HfHubHTTPError.__bases__


@dataclass(frozen=True)
class HubDataset:
    """A dataset of the Hub, pinned.

    Attributes:
        id: ``user/name``, as the Hub spells it.
        revision: 40-character commit of the repository.
        conversion: 40-character commit of ``refs/convert/parquet`` when rows are read from there.
    """

    id: str
    revision: str
    conversion: str | None


def resolve_dataset(
    repo_id: str, revision: str | None = None, token: str | None = None
) -> HubDataset:
    """Pin a dataset of the Hub to its commits.

    A repository without Parquet costs a request per image, so the Hub's own Parquet conversion is
    used where it says the same: for the head of main, whole, one configuration, and not older
    than the data.

    Args:
        repo_id: ``user/name``.
        revision: Branch, tag or commit; the head of main by default.
        token: Access token; the one of ``hf auth login`` or HF_TOKEN by default.

    Raises:
        DatasetNotFoundError: The id is malformed; the repository or the revision does not exist,
            is private, or is gated and access was not granted.
        HubUnreachableError: The Hub did not answer.
        DataError: The Hub answered something else.
    """
    if repo_id.count("/") != 1:
        raise _malformed(repo_id)
    api = _api(token)
    with hub_errors(repo_id):
        try:
            info = api.dataset_info(
                repo_id, revision=revision, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
        except HFValidationError as error:
            raise _malformed(repo_id) from error
        except RevisionNotFoundError as error:
            raise DatasetNotFoundError(
                f"A revision is a branch, a tag or a commit of the dataset {repo_id}. "
                f"Received: {revision!r}, which it does not have. {_revisions(api, repo_id)}"
            ) from error
        if info.gated:
            api.auth_check(info.id, repo_type="dataset")
        if info.sha is None:
            raise DataError(f"The Hub names no commit for the dataset {repo_id}.")
        return HubDataset(info.id, info.sha, _conversion(api, info))


def load_hub_rows(
    dataset: HubDataset,
    *,
    streaming: bool,
    token: str | None = None,
    cache_dir: str | None = None,
) -> "dict[str, datasets.Dataset | datasets.IterableDataset]":
    """Load the rows of every split, in the repository's order, images not decoded.

    Columns of images hold ``{"bytes": ..., "path": ...}`` for `read_image`: Parquet gives bytes,
    folders a path (of the Hub when streaming, else of the downloaded file). Class names are in
    the features.

    Args:
        dataset: What `resolve_dataset` gave.
        streaming: Read rows as they are asked for; else download everything first.
        token: As for `resolve_dataset`.
        cache_dir: Instead of the cache of `datasets`.

    Returns:
        Split name -> rows.

    Raises:
        DataError: As for `resolve_dataset`, or the repository holds no rows that `datasets` can
            read.
    """
    import datasets

    commit, files = dataset.revision, None
    with hub_errors(dataset.id, datasets.exceptions.DatasetsError):
        if dataset.conversion is not None:
            commit = dataset.conversion
            paths = _api(token).list_repo_files(dataset.id, repo_type="dataset", revision=commit)
            files = _converted_splits(paths)
        try:
            builder = datasets.load_dataset_builder(
                dataset.id, revision=commit, data_files=files, token=_checked(token)
            )
        except datasets.exceptions.DatasetNotFoundError as error:
            raise _not_visible(dataset.id) from error
        if builder.hash != commit:
            # `datasets` prefers a local folder of the same name, and on any trouble with the Hub
            # falls back to the newest copy in its cache.
            raise HubUnreachableError(
                f"The dataset {dataset.id} must be read from the Hub at commit {commit}. "
                "Received: the local folder of that name, or, since the Hub did not answer, the "
                "local cache. Work in another folder, or try again."
            )
        if streaming:
            # cast_column is ignored for a streamed folder.
            streams = builder.as_streaming_dataset()
            return {split: rows.decode(False) for split, rows in streams.items()}
        builder.download_and_prepare()
        return {split: _undecoded(rows) for split, rows in builder.as_dataset().items()}


def read_image(image: Mapping[str, Any], token: str | None = None) -> bytes:
    """Get the encoded bytes of an undecoded image, in any process.

    An ``hf://`` path costs a request, and one more per folder and process.

    Args:
        image: ``{"bytes": ..., "path": ...}``, as in the rows of `load_hub_rows`.
        token: As for `resolve_dataset`.

    Raises:
        ImageNotReadableError: The local file cannot be read.
        DataError: As for `resolve_dataset`.
    """
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    path = str(image["path"])
    if path.startswith("hf://"):
        repo_id = path.removeprefix("hf://datasets/").partition("@")[0]
        hub = HfFileSystem(token=_checked(token))
        with hub_errors(repo_id), hub.open(path, "rb") as file:
            return bytes(file.read())
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageNotReadableError(path, error.strerror or str(error)) from error


@contextmanager
def hub_errors(repo_id: str, *more: type[Exception]) -> Iterator[None]:
    """Turn what the clients raise while reading a dataset into a `DataError`.

    Args:
        repo_id: The dataset, for the message.
        *more: Further exceptions to turn.
    """
    turned: tuple[type[Exception], ...] = (*_CLIENT_ERRORS, ValueError, *more)
    try:
        yield
    except HfElaError:
        raise
    except turned as error:
        *_, root = causes = list(_causes(error))
        known = (_known_error(cause, repo_id) for cause in causes)
        raise next((found for found in known if found), None) or DataError(
            f"The dataset {repo_id} must hold image files or Parquet that `datasets` can load. "
            f"Received: {type(root).__name__}: {root}. Fix the dataset, or download it and pass a "
            "local folder with --data."
        ) from error


def _known_error(error: BaseException, repo_id: str) -> DataError | None:
    local = "or pass a local folder with --data"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnreachableError(
            f"A dataset of the Hub needs the network. Received: {repo_id!r} with HF_HUB_OFFLINE "
            f"set. Unset it, {local}."
        )
    if isinstance(error, GatedRepoError):
        return DatasetNotFoundError(
            f"The dataset {repo_id} is gated: its owner grants access. Ask for it at "
            f"{constants.ENDPOINT}/datasets/{repo_id}, then log in: {LOGIN}."
        )
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return _not_visible(repo_id)
    # Every other error of the client itself is one of transport.
    transport = isinstance(error, _CLIENT_ERRORS[0]) and status is None
    if transport or isinstance(error, ConnectionError | TimeoutError):
        received = f"no answer ({type(error).__name__})"
    elif status is not None and (status == 429 or status >= 500):
        received = f"status {status}"
    else:
        return None
    return HubUnreachableError(
        f"The Hub at {constants.ENDPOINT} must answer to read {repo_id!r}. Received: {received}. "
        f"Check the network and HF_ENDPOINT, {local}."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        # The cause of an answer with an error status is the client's view of the same.
        current = None if isinstance(current, HfHubHTTPError) else current.__cause__


def _not_visible(repo_id: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"A dataset must exist on {constants.ENDPOINT} and be visible to you. Received: "
        f"{repo_id!r}, which does not exist, or is private or gated. Check the name, and log in "
        f"with a token that may read it: {LOGIN}."
    )


def _malformed(repo_id: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        "A dataset of the Hub is named `user/name`, of letters, digits, `-`, `_` and `.`, at most "
        f"96 characters. Received: {repo_id!r}. For a local folder, check that it exists."
    )


def _api(token: str | None) -> HfApi:
    return HfApi(token=_checked(token), library_name="hf-ela")


def _checked(token: str | None) -> str | None:
    # The HTTP client would quote such a token in its error.
    if token and not re.fullmatch("[!-~]+", token):
        raise DataError(
            "A token of the Hub is printable ASCII without spaces. Received: one that is not. "
            "Copy it again from the settings of your account."
        )
    return token or None


def _revisions(api: HfApi, repo_id: str) -> str:
    with suppress(*_CLIENT_ERRORS):
        refs = api.list_repo_refs(repo_id, repo_type="dataset")
        branches = ", ".join(ref.name for ref in refs.branches) or "none"
        return f"Branches: {branches}; tags: {', '.join(t.name for t in refs.tags) or 'none'}."
    return "Look its revisions up on its page."


def _conversion(api: HfApi, info: DatasetInfo) -> str | None:
    """The commit of a conversion that holds the same rows as the repository."""
    if any(file.rfilename.endswith(".parquet") for file in info.siblings or ()):
        return None
    refs = api.list_repo_refs(info.id, repo_type="dataset")
    head = next((ref.target_commit for ref in refs.branches if ref.name == "main"), None)
    commit = next((ref.target_commit for ref in refs.converts if ref.ref == CONVERSION_REF), None)
    if commit is None or head != info.sha:
        return None
    converted = list(
        api.list_repo_tree(
            info.id, recursive=True, expand=True, revision=commit, repo_type="dataset"
        )
    )
    source = api.list_repo_tree(info.id, expand=True, revision=info.sha, repo_type="dataset")
    data = [entry for entry in source if entry.path not in ("README.md", ".gitattributes")]
    if not _converted_splits(entry.path for entry in converted):
        reason = "holds only a part of it, or several configurations"
    elif _changed(converted) < _changed(data):
        # The bot takes minutes, and leaves the old conversion where it fails.
        reason = "is older than its data"
    else:
        return commit
    logger.warning("%s: the Parquet conversion %s; reading file by file.", info.id, reason)
    return None


def _converted_splits(paths: Iterable[str]) -> dict[str, list[str]] | None:
    """Split -> Parquet files; None unless it is one configuration, and whole."""
    configurations: set[str] = set()
    splits: dict[str, list[str]] = {}
    for path in sorted(paths):
        if not path.endswith(".parquet"):
            continue
        configuration, folder, _ = path.split("/")
        # A split's name has no "-": datasets forbids it.
        split, _, suffix = folder.partition("-")
        if split == "partial" and suffix:
            return None
        configurations.add(configuration)
        splits.setdefault(split, []).append(path)
    return splits if len(configurations) == 1 else None


def _changed(entries: Iterable[RepoFile | RepoFolder]) -> float:
    """When the newest of them was last committed, in seconds since 1970."""
    return max((e.last_commit.date.timestamp() for e in entries if e.last_commit), default=0.0)


def _undecoded(rows: "datasets.Dataset") -> "datasets.Dataset":
    from datasets import Image

    for name, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
    return rows
