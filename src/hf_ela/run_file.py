"""`run.json`, the record of a training: its version, and reading it back."""

import json
from pathlib import Path
from typing import Any

from hf_ela.errors import RunError

__all__ = ["RUN_SCHEMA", "read_run"]

RUN_SCHEMA = 1
"""Version of the layout of ``run.json``."""


def read_run(folder: Path) -> dict[str, Any]:
    """Return what ``run.json`` of a run folder or of a downloaded release holds.

    Raises:
        RunError: There is none, or it is damaged or of another version.
    """
    path = folder / "run.json"
    try:
        run = json.loads(path.read_text("utf-8"))
        schema = run["schema"]
    except (FileNotFoundError, NotADirectoryError):
        interrupted = (folder / "checkpoint").is_dir()
        hint = (
            f"Finish it: python train.py --out {folder} --resume"
            if interrupted
            else "Give the folder that train.py wrote."
        )
        found = "without it" if folder.is_dir() else "which is no folder"
        raise RunError(
            f"A run that has ended is a folder with run.json. Received: {folder}, {found}. {hint}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} must be what a training wrote. Received: {type(error).__name__}: {error}. "
            "Copy the folder again."
        ) from error
    if schema != RUN_SCHEMA:
        raise RunError(
            f"`schema` of {path} must be {RUN_SCHEMA} for this hf-ela. Received: {schema!r}. "
            "Take the version of hf-ela that made the run."
        )
    return dict(run)
