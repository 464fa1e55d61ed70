"""Download a model of the Hub: the needed files, all from one pinned commit.

The first file pins the commit: a branch or a tag is resolved once, all other files are requested by
commit. File names are constants, so nothing in a repository decides where a file is written or
read; the Hub serves no symbolic links, and those in the cache belong to the client.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)

from hf_ela._files import JSON_LIMIT
from hf_ela.errors import HubUnreachableError, ModelError, ModelNotFoundError
from hf_ela.hub.client import (
    CLIENT_ERRORS,
    OTHER_ANSWERS,
    Repository,
    client,
    hub_errors,
    is_of,
    revisions,
)
from hf_ela.models.guards import largest_weights
from hf_ela.models.settings import (
    NETWORK_FILE,
    SETTINGS_FILE,
    WEIGHTS_FILE,
    Runtime,
    read_settings,
)

COUNTED = "config.json"
"""The file by whose requests, GET or HEAD, the Hub counts the downloads of a Keras model."""


def fetch_model(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
    runtime: Runtime | None = None,
) -> tuple[Path, str]:
    """Download a model, or find it in the cache: the settings and, if valid, weights or ONNX file.

    Arguments and errors are those of `ElaClassifier.from_pretrained`. If the Hub does not answer,
    the client uses its cache: the returned commit says what was found there.

    Returns:
        The folder that `read_model` reads, and the 40-character commit.
    """
    repository = Repository(repo_id, "model", cache=cache_dir)
    download = _Download(repository, client(token), local_files_only)
    path, commit = download.file(SETTINGS_FILE, revision, JSON_LIMIT)
    settings = read_settings(path)
    name = NETWORK_FILE if settings.runtime(runtime) == "onnx" else WEIGHTS_FILE
    is_new = not download.holds_model(commit)
    model, _ = download.file(name, commit, largest_weights(settings.recipe))
    if is_new:
        download.count(commit)
    return model.parent, commit


def fetch_run(
    repo_id: str, *, revision: str | None = None, token: str | None = None
) -> tuple[Path, str]:
    """Download the record of a model's training; arguments and errors as for `fetch_model`.

    Returns:
        The file ``run.json``, and the 40-character commit.
    """
    download = _Download(Repository(repo_id, "model"), client(token), False)
    return download.file("run.json", revision, JSON_LIMIT)


@dataclass(frozen=True)
class _Download:
    repository: Repository
    api: HfApi
    local_files_only: bool

    def file(self, name: str, revision: str | None, limit: int) -> tuple[Path, str]:
        """Download one file of at most `limit` bytes; return it and its commit."""
        repo_id = self.repository.id
        where: dict[str, Any] = {
            "revision": revision,
            "cache_dir": self.repository.cache,
            "local_files_only": self.local_files_only,
        }
        with hub_errors(self.repository):
            self._ask(name, revision)
            try:
                found = self.api.hf_hub_download(repo_id, name, dry_run=True, **where)
                if (found.file_size or 0) > limit:
                    raise ModelError(
                        f"{name} of an hf-ela model has at most {limit:,} bytes. Received: "
                        f"{found.file_size:,} bytes, in {repo_id} at {found.commit_hash}. The file "
                        "is corrupt or malicious."
                    )
                # By the requested name, so that the cache knows it without a network.
                path = Path(self.api.hf_hub_download(repo_id, name, **where))
                if not _is_whole(path) and not self._offline:
                    self.api.hf_hub_download(repo_id, name, force_download=True, **where)
                if not _is_whole(path):
                    raise ModelError(
                        f"{name} of {repo_id} was damaged on its way, or in the cache. Remove "
                        f"{path.resolve()}, then load the model again with the network."
                    )
            except LocalEntryNotFoundError as error:
                if self._offline:
                    raise self._not_in_cache(name, revision) from error
                raise
            except RevisionNotFoundError as error:
                raise ModelNotFoundError(
                    f"The model {repo_id} has no branch, tag or commit {revision!r}. "
                    f"{revisions(self.api, self.repository)}"
                ) from error
            except EntryNotFoundError as error:
                raise self._other_kind(name, revision) from error
        return path, path.parent.name

    def holds_model(self, commit: str) -> bool:
        """Return whether the cache holds a model of a commit, for either runtime."""
        return any(self._cached(name, commit) for name in (NETWORK_FILE, WEIGHTS_FILE))

    def count(self, commit: str) -> None:
        """Ask once for `COUNTED`, which loading does not need."""
        with suppress(*CLIENT_ERRORS, *OTHER_ANSWERS):
            url = hf_hub_url(self.repository.id, COUNTED, revision=commit)
            self.api.get_hf_file_metadata(url=url)

    def _cached(self, name: str, revision: str | None) -> bool:
        cache = Path(self.repository.cache or constants.HF_HUB_CACHE)
        return isinstance(try_to_load_from_cache(self.repository.id, name, cache, revision), str)

    @property
    def _offline(self) -> bool:
        return self.local_files_only or bool(constants.is_offline_mode())

    def _ask(self, name: str, revision: str | None) -> None:
        """Ask once for a file that is not in the cache: the client would try for half a minute."""
        if not self._offline and not self._cached(name, revision):
            with suppress(HfHubHTTPError):  # an answer, which the client knows how to treat
                url = hf_hub_url(self.repository.id, name, revision=revision)
                self.api.get_hf_file_metadata(url=url)

    def _not_in_cache(self, name: str, revision: str | None) -> HubUnreachableError:
        setting = "local_files_only" if self.local_files_only else "HF_HUB_OFFLINE"
        return HubUnreachableError(
            f"{setting} is set, but the cache {self.repository.cache or constants.HF_HUB_CACHE} "
            f"does not hold {name} of {self.repository.id} at {revision or 'main'}. Load it once "
            "with the network, by the same revision, or pass a local folder."
        )

    def _other_kind(self, name: str, revision: str | None) -> ModelError:
        found = "other files"
        with suppress(*CLIENT_ERRORS, *OTHER_ANSWERS):
            info = self.api.model_info(self.repository.id, revision=revision)
            files = sorted(file.rfilename for file in info.siblings or ())
            listed = ", ".join(files[:8]) + (", ..." if len(files) > 8 else "")
            found = f"{listed or 'no files'} (library: {info.library_name or 'none named'})"
        return ModelError(
            f"{self.repository.id} at {revision or 'main'} is not an hf-ela model: it has no "
            f"{name}. Received: {found}. Check the name and the revision."
        )


def _is_whole(path: Path) -> bool:
    """Return whether a file has the checksum by which the client names it in its cache.

    Without symbolic links it has no such name there, and passes.
    """
    stored = path.resolve()
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", stored.name):
        return True
    return is_of(stored.read_bytes(), stored.name)
