"""Training from options to a run folder: data, network, evaluation, `run.json`.

A run folder holds `run.json` (its presence means the run is complete), `README.md` (the model card
made from it), `weights/` (what `ElaClassifier.from_pretrained` loads), `predictions.parquet`,
`plots/` and `samples/`. Until then it holds `checkpoint/`, from which an interrupted run resumes.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from hf_ela._files import (
    LOCK,
    TEMPORARY,
    held_alone,
    named_if_full,
    sweep,
    write_json,
)
from hf_ela._terminal import interrupts_kept, native_messages_held_back
from hf_ela.backend import choose_backend
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import Prepared, prepare
from hf_ela.errors import HfElaError, RunError, needs_extra
from hf_ela.evaluation.intervals import RESAMPLES
from hf_ela.evaluation.leak_audit.audit import audit_prepared
from hf_ela.evaluation.robustness import SUITE
from hf_ela.hub.card import write_card
from hf_ela.recipes.schema import Recipe
from hf_ela.run_record import EVENTS, Run, write_run
from hf_ela.training.claiming import claim, recorded_settings, with_revision
from hf_ela.training.devices import check_devices
from hf_ela.training.initial import Initial
from hf_ela.training.processes import Processes
from hf_ela.training.provenance import measure_emissions, tracker_for


def train(
    recipe: Recipe,
    options: DataOptions,
    out: str | Path,
    *,
    initial: Initial | None = None,
    resume: bool = False,
    devices: int = 1,
    processes: Processes | None = None,
    country: str | None = None,
    track: bool = False,
    plots: bool = True,
    export: bool = True,
    resamples: int = RESAMPLES,
    perturbations: Sequence[str] = tuple(SUITE),
    say: Callable[[str], None] = print,
) -> Run:
    """Train, evaluate and write a run folder.

    Args:
        recipe: What to train.
        options: Which data to train on.
        out: The run folder; it must be new or empty, unless `resume`.
        initial: The saved model to fine-tune, with `recipe` from `Initial.recipe`.
        resume: Continue the interrupted run in `out`, with its own recipe and options, and from
            the model that it started from.
        devices: How many of JAX's devices share each batch, of each process.
        processes: This process, with rank 0, and others that call
            `hf_ela.training.helping.help_train`.
        country: Measure the emissions of the training; see `hf_ela.training.provenance`.
        track: Write event files for TensorBoard; a resumed run goes on with its own.
        plots: Draw the plots of the run.
        export: Save the model as ONNX too, not for Keras only.
        resamples: Draws of the bootstrap for each interval.
        perturbations: Rows of the robustness table, names of
            `hf_ela.evaluation.robustness.SUITE`.
        say: Receives a line about each step.

    Returns:
        What ``run.json`` holds.

    Raises:
        RunError: `out` holds a run already, or, with `resume`, no such interrupted run, or one
            that another process continues; or emissions cannot be measured, or events written.
        RecipeError: The weights of `initial` do not fit the recipe.
        DataError: See `hf_ela.data.preparation.prepare`.
    """
    out = Path(out)
    choose_backend()
    check_devices(devices, recipe, processes)
    if resume and country:
        raise RunError(
            "Emissions are measured over a whole training: a resumed run cannot measure them."
        )
    tracker = tracker_for(country)
    if track or (resume and (out / EVENTS).is_dir()):
        with needs_extra("tensorboard", "Tracking a training"):
            import tensorboardX  # noqa: F401  (before any work)
    events = out / EVENTS
    if initial:
        initial.check_recipe(recipe)
    made = claim(out, recipe, options, initial, resume=resume)
    with held_alone(out / "checkpoint", wait=False):
        sweep(out, f"*/{TEMPORARY}*")
        if resume and (origin := recorded_settings(out)["initial"]):
            initial = Initial.again(**origin)
        seconds: dict[str, float] = {}
        with _timed(seconds, "data"):
            say(f"Preparing {options.source} ...")
            data = _prepare(out, recipe, options, made)
            found = data.summary
            say(
                f"Images: {data.computed} prepared, {data.cached} from the cache, "
                f"{len(found['rejected'])} refused."
            )
            if overlap := found["test_near_duplicates_of_train"]:
                say(f"Warning: {overlap} test images have a near-duplicate in the other splits.")
            if found["synthetic"]:
                say("Warning: these are synthetic samples. A model of them says nothing about art.")
        with _timed(seconds, "audit"):
            audit = audit_prepared(data, resamples=resamples)
            say(f"Leak audit: {audit['verdict'][0]}")
        if processes:
            processes.join(recipe, data, out / "checkpoint")
        # Keras is imported only now: forking data workers after TensorFlow has started may hang,
        # and a refused dataset need not wait for it.
        with native_messages_held_back():
            from hf_ela.backend import has_gpu, leave_processes, process_count
            from hf_ela.models.networks import describe
            from hf_ela.training.fit import fit
            from hf_ela.training.results import write_results

            where = "a GPU" if has_gpu() else "the CPU"
            if devices > 1 or processes:
                where = f"{devices * process_count()} devices"

        counts = f"{len(data.train)} images, validating on {len(data.validation)}"
        start = f" from {initial.name}" if initial else ""
        say(f"Training {recipe.name}{start} on {counts}, on {where} ...")
        with interrupts_kept(), named_if_full(out), measure_emissions(tracker) as emissions:
            model, checkpoint = fit(
                recipe,
                data.train,
                data.validation,
                out / "checkpoint",
                data.groups.column(data.train.file_names, "source"),
                initial,
                events if track or events.is_dir() else None,
                devices,
            )
        if processes:
            leave_processes()
        seconds["training"] = checkpoint.seconds
        with interrupts_kept(), named_if_full(out), _timed(seconds, "evaluation"):
            say(f"Evaluating on {len(data.test)} test images, as-is and aligned ...")
            results = write_results(
                model,
                recipe,
                data,
                checkpoint,
                out,
                initial,
                plots=plots,
                export=export,
                resamples=resamples,
                perturbations=perturbations,
                say=say,
            )
        values = {
            "created": f"{datetime.now(UTC):%Y-%m-%d}",
            "recipe": recipe.model_dump(),
            "seed": recipe.training.seed,
            "data": data.summary,
            "audit": audit,
            "ela": {"computed": data.computed, "cached": data.cached},
            "model": describe(model, recipe),
            "training": {
                "epochs": checkpoint.epochs,
                "best_epoch": checkpoint.best_epoch,
                "history": checkpoint.history,
            },
            **results,
            "timing": {f"{name}_seconds": round(value, 2) for name, value in seconds.items()},
        }
        if initial:
            values["initial"] = initial.record
        if emissions:
            values["co2_eq_emissions"] = emissions
        run = write_run(out, values)
        shutil.rmtree(out / "checkpoint")
        try:
            write_card(out)
        except (HfElaError, OSError) as error:
            say(f"The run is complete, but its card could not be written: {error}")
        return run


def _prepare(out: Path, recipe: Recipe, options: DataOptions, made: Sequence[Path]) -> Prepared:
    """Prepare the data, the same as before where a run is resumed; else remove what was `made`."""
    pinned = out / "checkpoint" / "data.json"
    before = json.loads(pinned.read_text("utf-8")) if pinned.exists() else None
    try:
        data = prepare(with_revision(options, out), recipe)
    except Exception:
        if made:
            for name in ("settings.json", LOCK):
                (out / "checkpoint" / name).unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):  # something else may have come into it
                folder.rmdir()
        raise
    now = {key: data.summary[key] for key in ("revision", "fingerprint", "groups")}
    if before not in (None, now):
        raise RunError(
            f"The images at {options.source} differ from those that the interrupted run began "
            "with. Restore them, or train into another folder."
        )
    write_json(pinned, now)
    return data


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = perf_counter()
    yield
    seconds[name] = perf_counter() - started
