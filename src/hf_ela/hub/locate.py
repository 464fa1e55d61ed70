"""Find a model: in this package, in a folder, or in a repository of the Hub."""

import os
import re
from importlib.resources import files
from pathlib import Path

from hf_ela.errors import HubUnreachableError, ModelError, ModelNotFoundError
from hf_ela.models.settings import SETTINGS_FILE, Runtime

PACKAGED = "pretrained"
"""Name of the model that comes with this package, and of its folder there."""


def packaged_model() -> Path:
    """Return the folder of the model that comes with this package, with its card, README.md.

    Raises:
        ModelNotFoundError: The package has no model, like the wheel in a release, which lies
            beside a model of its own.
    """
    folder = files("hf_ela").joinpath(PACKAGED)
    # When Python imports from a zip file, it is not a Path.
    if isinstance(folder, Path) and (folder / SETTINGS_FILE).is_file():
        return folder
    raise ModelNotFoundError(
        "This hf-ela was built without a model. Name a saved model, a run folder, or a repository "
        "of the Hub, user/repo."
    )


def split_revision(text: str) -> tuple[str, str | None]:
    """Split ``user/repo@revision``, unless it names an existing folder.

    Raises:
        ModelError: Nothing follows the ``@``.
    """
    if Path(text).exists() or "@" not in text:
        return text, None
    source, _, revision = text.partition("@")
    if not revision:
        raise ModelError(
            "A model on the Hub is written user/repo or user/repo@revision. Received: "
            f"{text!r}. Add a branch, a tag or a commit after the @, or remove it."
        )
    return source, revision


def repository_of(source: str | os.PathLike[str], revision: str | None = None) -> str | None:
    """Return the id of a repository, or None for a folder.

    An existing folder wins over a repository of that name; a `Path` is always a folder.

    Raises:
        ModelError: It is neither, or a folder with `revision`.
    """
    if not isinstance(source, str) or (source and Path(source).exists()):
        if revision is not None:
            raise ModelError(
                f"`revision` needs a repository of the Hub, but {source} is a folder. Received: "
                f"revision={revision!r}. Omit it, or move the folder away to load a repository of "
                "that name."
            )
        return None
    # The client applies the naming rules of the Hub later.
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", source, re.ASCII):
        raise ModelError(
            "A model must be a saved model, a run folder, or a repository of the Hub, user/repo. "
            f"Received: {source!r}, but no such folder exists. Check the path."
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

    Arguments and errors are those of `ElaClassifier.from_pretrained`, and ``pretrained`` is the
    model that comes with this package unless a folder has that name. For a model of the Hub, the
    folder holds the files that `runtime` needs.
    """
    if source is None or (source == PACKAGED and not Path(source).exists()):
        source = packaged_model()
    repo_id = repository_of(source, revision)
    if repo_id is None:
        return Path(source), None
    # Imported only here: a folder needs no client of the Hub.
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
    except (ModelNotFoundError, HubUnreachableError) as error:  # perhaps a mistyped path
        raise type(error)(f"{error} No local folder {source} exists either.") from error
