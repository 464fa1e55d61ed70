"""Read datasets of the Hub at a pinned commit.

`resolve_dataset` pins a repository to 40-character commits before anything is loaded,
`load_hub_rows` reads exactly those, and `read_image` gets the bytes of a row. Wrap the iteration of
a stream in `dataset_errors`.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, HfFileSystem, constants
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.hf_api import DatasetInfo, RepoFile, RepoFolder

from hf_ela._files import held_alone
from hf_ela.errors import (
    DataError,
    DatasetNotFoundError,
    HubUnreachableError,
    ImageNotReadableError,
)
from hf_ela.hub.client import (
    Repository,
    checked,
    client,
    hub_errors,
    malformed,
    not_visible,
    revisions,
)

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

DEFAULT_DATASET = "DataScienceProject/Art_Images_Ai_And_Real_"
"""The dataset of the published model that the `reference` recipe follows."""

# The Hub's bot commits its Parquet copy of a dataset's main branch to this ref, as
# <config>/<split>/0000.parquet; <split>-part0, -part1, ... above 10,000 files, and partial-<split>
# where it stopped at its size limit (huggingface/dataset-viewer, libcommon/parquet_utils.py).
CONVERSION_REF = "refs/convert/parquet"


@dataclass(frozen=True)
class HubDataset:
    """A pinned dataset of the Hub.

    Attributes:
        id: ``user/name``, as the Hub spells it.
        revision: 40-character commit of the repository.
        conversion: 40-character commit of ``refs/convert/parquet`` if rows are read from there.
    """

    id: str
    revision: str
    conversion: str | None


def resolve_dataset(
    repo_id: str, revision: str | None = None, token: str | None = None
) -> HubDataset:
    """Pin a dataset of the Hub to its commits.

    A repository without Parquet costs a request per image, so the Parquet conversion of the Hub is
    used if it is equivalent: of the head of main, complete, with one configuration, and not older
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
    repository = Repository(repo_id, "dataset")
    api = client(token)
    if repo_id.count("/") != 1:  # the client would take `name` for a canonical dataset
        raise malformed(repository)
    with hub_errors(repository):
        try:
            info = api.dataset_info(
                repo_id, revision=revision, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
        except RevisionNotFoundError as error:
            raise DatasetNotFoundError(
                f"The dataset {repo_id} has no branch, tag or commit {revision!r}. "
                f"{revisions(api, repository)}"
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
    """Load the rows of every split in the order of the repository, without decoding images.

    Columns of images hold ``{"bytes": ..., "path": ...}`` for `read_image`: Parquet has bytes,
    folders a path (on the Hub when streaming, otherwise of the downloaded file). Class names are in
    the features.

    Args:
        dataset: The result of `resolve_dataset`.
        streaming: Read rows on demand; otherwise download everything first.
        token: As for `resolve_dataset`.
        cache_dir: Instead of the cache of `datasets`.

    Returns:
        Split name -> rows.

    Raises:
        DataError: As for `resolve_dataset`, or the repository holds no rows that `datasets` can
            read.
    """
    import datasets

    # Set in the environment too, which is too late where `datasets` was imported before.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    commit, files = dataset.revision, None
    with dataset_errors(dataset.id, datasets.exceptions.DatasetsError):
        if dataset.conversion is not None:
            commit = dataset.conversion
            paths = client(token).list_repo_files(dataset.id, repo_type="dataset", revision=commit)
            files = _converted_splits(paths)
        try:
            builder = datasets.load_dataset_builder(
                dataset.id, revision=commit, data_files=files, token=checked(token)
            )
        except datasets.exceptions.DatasetNotFoundError as error:
            raise not_visible(Repository(dataset.id, "dataset")) from error
        if builder.hash != commit:
            # `datasets` prefers a local folder of the same name, and falls back to the newest copy
            # in its cache if the Hub does not answer.
            raise HubUnreachableError(
                f"`datasets` did not read {dataset.id} from the Hub at commit {commit}, but from a "
                "local folder of that name or, because the Hub did not answer, from its cache. "
                "Change to another folder, or try again."
            )
        if streaming:
            # cast_column is ignored for a streamed folder.
            streams = builder.as_streaming_dataset()
            return {split: rows.decode(False) for split, rows in streams.items()}
        folder = Path(builder.cache_dir).parent
        folder.mkdir(parents=True, exist_ok=True)
        with held_alone(folder, wait=True):
            builder.download_and_prepare()
        return {split: _undecoded(rows) for split, rows in builder.as_dataset().items()}


def dataset_errors(repo_id: str, *more: type[Exception]) -> AbstractContextManager[None]:
    """Turn errors of the clients while reading a dataset into `DataError`, as `hub_errors` does."""
    return hub_errors(Repository(repo_id, "dataset", cache=constants.HF_HOME), *more)


def read_image(image: Mapping[str, Any] | None, token: str | None = None) -> bytes:
    """Return the encoded bytes of an image, in any process.

    An ``hf://`` path costs a request, and another one per folder and process.

    Args:
        image: ``{"bytes": ..., "path": ...}``, as in the rows of `load_hub_rows`; None for an
            empty cell.
        token: As for `resolve_dataset`.

    Raises:
        ImageNotReadableError: The local file cannot be read, or the cell is empty.
        DataError: As for `resolve_dataset`.
    """
    if image is None or image["bytes"] is image["path"] is None:
        raise ImageNotReadableError("<cell>", "the cell of this row is empty")
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    path = str(image["path"])
    if path.startswith("hf://"):
        repo_id = path.removeprefix("hf://datasets/").partition("@")[0]
        hub = HfFileSystem(token=checked(token))
        with dataset_errors(repo_id), hub.open(path, "rb") as file:
            return bytes(file.read())
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageNotReadableError(path, error.strerror or str(error)) from error


def _conversion(api: HfApi, info: DatasetInfo) -> str | None:
    """Return the commit of a conversion with the same rows as the repository, or None."""
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
        reason = "is incomplete, or has several configurations"
    elif _changed(converted) < _changed(data):
        # The bot takes minutes, and keeps the old conversion if it fails.
        reason = "is older than its data"
    else:
        return commit
    logger.warning("%s: the Parquet conversion %s; reading file by file.", info.id, reason)
    return None


def _converted_splits(paths: Iterable[str]) -> dict[str, list[str]] | None:
    """Return split -> Parquet files; None unless it is one complete configuration."""
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
    """Return the time of the newest last commit, in seconds since 1970."""
    return max((e.last_commit.date.timestamp() for e in entries if e.last_commit), default=0.0)


def _undecoded(rows: "datasets.Dataset") -> "datasets.Dataset":
    from datasets import Image

    for name, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
    return rows
