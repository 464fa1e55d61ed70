"""Models of the Hub: the files that are needed, all from one pinned commit.

The first file pins it: a branch or a tag is asked for once, everything after by commit. Names are
constants, so that nothing in a repository says where anything is written or read; the Hub gives no
symbolic links, and those in the client's cache are the client's own.
"""

from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)

from hf_ela._files import JSON_LIMIT
from hf_ela.errors import HubUnreachableError, ModelError, ModelNotFoundError
from hf_ela.hub.client import Repository, client, hub_errors, revisions
from hf_ela.models.guards import largest_weights
from hf_ela.models.settings import (
    NETWORK_FILE,
    SETTINGS_FILE,
    WEIGHTS_FILE,
    Runtime,
    read_settings,
)

__all__ = ["fetch_model", "fetch_run"]


def fetch_model(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
    runtime: Runtime | None = None,
) -> tuple[Path, str]:
    """Download a model, or find it in the cache: settings, and when valid, weights or ONNX file.

    Where the Hub does not answer, the client takes what it has in its cache for that revision: for
    a commit that is the same, for a branch or a tag what it was when it was last asked for. The
    commit returned says which.

    Args:
        repo_id: ``user/repo``.
        revision: Branch, tag or commit; the head of main by default.
        token: Access token; the one of ``hf auth login`` or HF_TOKEN by default.
        cache_dir: Instead of the client's cache.
        local_files_only: Take what is in the cache, and ask nobody.
        runtime: ``onnx`` downloads the ONNX file, ``keras`` the weights; None the first of the two
            that the model was saved with.

    Returns:
        The folder that `read_onnx` or `read_model` reads, and the 40-character commit.

    Raises:
        ModelNotFoundError: The repository or the revision does not exist, or not for this token.
        HubUnreachableError: The Hub did not answer, and the cache does not hold it.
        ModelError: It is no model of hf-ela, of a newer one, or not valid.
    """
    download = _Download(Repository(repo_id, "model"), client(token), cache_dir, local_files_only)
    path, commit = download.file(SETTINGS_FILE, revision, JSON_LIMIT)
    settings = read_settings(path)
    name = NETWORK_FILE if settings.runtime(runtime) == "onnx" else WEIGHTS_FILE
    model, _ = download.file(name, commit, largest_weights(settings.recipe))
    return model.parent, commit


def fetch_run(
    repo_id: str, *, revision: str | None = None, token: str | None = None
) -> tuple[Path, str]:
    """Download the record of a model's training; arguments and errors as for `fetch_model`.

    Returns:
        The file ``run.json``, and the 40-character commit.
    """
    download = _Download(Repository(repo_id, "model"), client(token), None, False)
    return download.file("run.json", revision, JSON_LIMIT)


@dataclass(frozen=True)
class _Download:
    repository: Repository
    api: HfApi
    cache_dir: str | PathLike[str] | None
    local_files_only: bool

    def file(self, name: str, revision: str | None, limit: int) -> tuple[Path, str]:
        """Download one file of at most `limit` bytes; return it and its commit."""
        repo_id = self.repository.id
        where: dict[str, Any] = {
            "revision": revision,
            "cache_dir": self.cache_dir,
            "local_files_only": self.local_files_only,
        }
        with hub_errors(self.repository):
            try:
                found = self.api.hf_hub_download(repo_id, name, dry_run=True, **where)
                if (found.file_size or 0) > limit:
                    raise ModelError(
                        f"{name} of a model of hf-ela has at most {limit:,} bytes. Received: "
                        f"{repo_id} at {found.commit_hash}, with {found.file_size:,}. It is "
                        "damaged, or was not made by hf-ela: do not use it."
                    )
                # By the name that was asked for: so the cache knows it when there is no network.
                path = Path(self.api.hf_hub_download(repo_id, name, **where))
            except LocalEntryNotFoundError as error:
                if self.local_files_only or constants.is_offline_mode():
                    raise self._not_in_cache(name, revision) from error
                raise
            except RevisionNotFoundError as error:
                raise ModelNotFoundError(
                    f"A revision is a branch, a tag or a commit of the model {repo_id}. Received: "
                    f"{revision!r}, which it does not have. "
                    f"{revisions(self.api, self.repository)}"
                ) from error
            except EntryNotFoundError as error:
                raise self._other_kind(name, revision) from error
        return path, path.parent.name

    def _not_in_cache(self, name: str, revision: str | None) -> HubUnreachableError:
        setting = "local_files_only" if self.local_files_only else "HF_HUB_OFFLINE"
        return HubUnreachableError(
            f"With {setting}, a model must be in the cache. Received: {self.repository.id} at "
            f"{revision or 'main'}, of which {self.cache_dir or constants.HF_HUB_CACHE} does not "
            f"hold {name}. Load it once with the network, by the same revision; or pass a local "
            "folder."
        )

    def _other_kind(self, name: str, revision: str | None) -> ModelError:
        found = "other files"
        with suppress(HfHubHTTPError):
            info = self.api.model_info(self.repository.id, revision=revision)
            files = sorted(file.rfilename for file in info.siblings or ())
            listed = ", ".join(files[:8]) + (", ..." if len(files) > 8 else "")
            found = f"{listed or 'no files'} (library: {info.library_name or 'none named'})"
        return ModelError(
            f"A model of hf-ela on the Hub has {name}. Received: {self.repository.id} at "
            f"{revision or 'main'}, with {found}. hf-ela loads what its own push_to_hub.py "
            "released: check the name and the revision, or train a model with train.py."
        )
