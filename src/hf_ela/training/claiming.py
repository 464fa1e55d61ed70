"""Run folders: reserved before anything is computed, and found again to resume."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hf_ela._files import check_output, write_json
from hf_ela.data.loading import DataOptions
from hf_ela.errors import RunError
from hf_ela.recipes.loading import parse_recipe
from hf_ela.recipes.schema import Recipe
from hf_ela.training.initial import Initial


def recorded(out: str | Path) -> tuple[Recipe, DataOptions]:
    """Return recipe and options of the interrupted run in a folder.

    Raises:
        RunError: There is no interrupted run.
    """
    settings = recorded_settings(Path(out))
    return parse_recipe(settings["recipe"], source=str(out)), DataOptions(**settings["data"])


def recorded_settings(out: Path) -> dict[str, Any]:
    """Return what `claim` has written.

    Raises:
        RunError: There is no interrupted run.
    """
    path = out / "checkpoint" / "settings.json"
    if not path.is_file():
        finished = (out / "run.json").exists()
        raise RunError(
            f"`resume` needs the folder of an interrupted run. Received: {out}, with "
            f"{'a finished' if finished else 'no'} run."
        )
    return dict(json.loads(path.read_text("utf-8")))


def claim(
    out: Path,
    recipe: Recipe,
    options: DataOptions,
    initial: Initial | None = None,
    *,
    resume: bool,
) -> list[Path]:
    """Reserve a folder for a run, before anything is computed.

    Returns:
        The folders that were made for it, the innermost first; none for a run that is resumed.

    Raises:
        RunError: The folder holds something else, lies in the data, or cannot be written.
    """
    if resume:
        then_recipe, then = recorded(out)
        # How the work is done may change; what is computed may not.
        same = replace(
            then,
            num_proc=options.num_proc,
            cache_dir=options.cache_dir,
            streaming=options.streaming,
            address=options.address,
        )
        before = recorded_settings(out)["initial"]
        if (then_recipe, same) != (recipe, options) or (initial and initial.origin != before):
            raise RunError(
                "The settings differ from those of the interrupted run. Leave them out, or train "
                "into another folder."
            )
        return []
    check_output(out, options.source)
    try:
        if out.exists() and any(out.iterdir()):
            interrupted = (out / "checkpoint" / "settings.json").is_file()
            raise RunError(
                f"A run folder must be new or empty. Received: {out}. "
                + ("Continue that run with `resume`." if interrupted else "Choose another folder.")
            )
        folder = out / "checkpoint"
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "recipe": recipe.model_dump(),
            "data": asdict(options),
            "initial": initial and initial.origin,
        }
        write_json(folder / "settings.json", settings)
    except OSError as error:
        raise RunError(f"A run folder must be writable. Received: {out}: {error}") from error
    return made


def with_revision(options: DataOptions, out: Path) -> DataOptions:
    """Return options with the revision of the dataset that an interrupted run began with."""
    pinned = out / "checkpoint" / "data.json"
    revision = json.loads(pinned.read_text("utf-8"))["revision"] if pinned.exists() else None
    return replace(options, revision=revision) if revision else options
