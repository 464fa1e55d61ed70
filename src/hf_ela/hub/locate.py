"""Where a model comes from: this package, a folder, or a repository of the Hub."""

import os
import re
from importlib.resources import files
from pathlib import Path

from hf_ela.errors import ModelError, ModelNotFoundError
from hf_ela.models.settings import SETTINGS_FILE, Runtime

__all__ = ["PACKAGED", "locate", "packaged_model", "repository_of", "split_revision"]

PACKAGED = "pretrained"
"""Folder of the model that comes with this package, inside of it."""


def packaged_model() -> Path:
    """Return the folder of the model that comes with this package, with its card, README.md.

    Raises:
        ModelNotFoundError: The package was built without: the wheel in a release, which lies beside
            a model of its own, and a checkout before one was trained.
    """
    folder = files("hf_ela").joinpath(PACKAGED)
    # In a zip file, from which Python can import, it is no Path.
    if isinstance(folder, Path) and (folder / SETTINGS_FILE).is_file():
        return folder
    raise ModelNotFoundError(
        "Without a name, the model that comes with hf-ela is taken. Received: an hf-ela that was "
        "built without one. Name a saved model, a run, or a repository of the Hub, user/repo; or "
        "install an hf-ela with a model."
    )


def split_revision(text: str) -> tuple[str, str | None]:
    """Split ``user/repo@revision``; the name of a folder that exists stays whole.

    Raises:
        ModelError: Nothing comes after the ``@``.
    """
    if Path(text).exists() or "@" not in text:
        return text, None
    source, _, revision = text.partition("@")
    if not revision:
        raise ModelError(
            "A model of the Hub is written user/repo or user/repo@revision. Received: "
            f"{text!r}. Name a branch, a tag or a commit after the @, or leave it out."
        )
    return source, revision


def repository_of(source: str | os.PathLike[str], revision: str | None = None) -> str | None:
    """Return the id of a repository, or None for a folder.

    A folder that exists is a folder, also where a repository has its name; a `Path` is always one.

    Raises:
        ModelError: It is neither, or a folder with a `revision`.
    """
    if not isinstance(source, str) or (source and Path(source).exists()):
        if revision is not None:
            raise ModelError(
                "`revision` goes with a repository of the Hub. Received: "
                f"revision={revision!r} with the folder {source}. Leave it out, or move the "
                "folder if a repository of that name is meant."
            )
        return None
    # The Hub's own rules for names come later, with its client.
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", source, re.ASCII):
        raise ModelError(
            "A model must be a folder that `save_pretrained` or train.py wrote, or a repository of "
            f"the Hub, `user/repo`. Received: {source!r}, which is neither: no such folder exists. "
            "Check the path."
        )
    return source


def locate(
    source: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    runtime: Runtime | None = None,
) -> tuple[Path, str | None]:
    """Return the folder of a model, downloaded where it is one of the Hub, and the commit.

    Without `source`, that of the model that comes with this package.

    The arguments and what is raised are those of `ElaClassifier.from_pretrained`. Of a model of
    the Hub, the folder holds what `runtime` needs.
    """
    source = packaged_model() if source is None else source
    repo_id = repository_of(source, revision)
    if repo_id is None:
        return Path(source), None
    # Only here: a folder is loaded without the Hub's client.
    from hf_ela.hub.download import fetch_model

    try:
        return fetch_model(
            repo_id,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            runtime=runtime,
        )
    except ModelNotFoundError as error:  # perhaps a mistyped path
        raise ModelNotFoundError(f"{error} There is no local folder {source} either.") from error
