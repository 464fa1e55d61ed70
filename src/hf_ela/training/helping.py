"""A process that helps another to train: it shares the batches, and writes nothing of the run."""

from collections.abc import Callable
from pathlib import Path

from hf_ela._terminal import interrupts_kept, native_messages_held_back
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import prepare
from hf_ela.recipes.schema import Recipe
from hf_ela.training.claiming import recorded_settings, with_revision
from hf_ela.training.devices import check_devices
from hf_ela.training.initial import Initial
from hf_ela.training.processes import Processes


def help_train(
    recipe: Recipe,
    options: DataOptions,
    out: str | Path,
    processes: Processes,
    *,
    initial: Initial | None = None,
    resume: bool = False,
    devices: int = 1,
    say: Callable[[str], None] = print,
) -> None:
    """Share the batches of the process with rank 0, which calls `hf_ela.training.train`.

    Args:
        recipe: As there.
        options: As there. Of two processes with one cache, one computes while the other waits.
        out: The run folder of that process.
        processes: This process, and the others.
        initial: As there.
        resume: As there.
        devices: As there.
        say: Receives a line about each step.

    Raises:
        RunError: The others do not come in time, or do something else.
        DataError: See `hf_ela.data.preparation.prepare`.
    """
    out = Path(out)
    check_devices(devices, recipe, processes)
    if resume and (origin := recorded_settings(out)["initial"]):
        initial = Initial.again(**origin)
    who = f"Rank {processes.rank} of {processes.number}"
    say(f"{who}: preparing {options.source} ...")
    data = prepare(with_revision(options, out), recipe)
    say(f"{who}: waiting for the others at {processes.coordinator} ...")
    processes.join(recipe, data, out / "checkpoint")
    with native_messages_held_back():
        from hf_ela.backend import leave_processes
        from hf_ela.training.fit import fit

    say(f"{who}: training {recipe.name} ...")
    sources = data.groups.column(data.train.file_names, "source")
    with interrupts_kept():
        fit(
            *(recipe, data.train, data.validation, out / "checkpoint"),
            sources=sources,
            initial=initial,
            devices=devices,
        )
    leave_processes()
    say(f"{who}: done. Rank 0 evaluates, and writes {out}.")
