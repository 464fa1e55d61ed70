"""The commands `hf-ela train` and `hf-ela reproduce`."""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from hf_ela._terminal import printable
from hf_ela.cli.options import (
    MODEL,
    Commands,
    add_address_option,
    add_data_options,
    add_reading_options,
    data_options,
    reading_options,
    use_token,
    with_flags,
)
from hf_ela.cli.tables import run_summary
from hf_ela.errors import RecipeError, needs_extra

AUTO = "auto"
FROM = f"pretrained (the packaged model), {MODEL}"


def add_train(commands: Commands) -> None:
    """Add `hf-ela train`."""
    train = commands.add_parser(
        "train",
        help="train a detector and write a run folder",
        description="Train a detector and write a run folder: run.json, README.md (the model "
        "card), weights/, predictions.parquet, plots/ and samples/. Requires the `train` extra.",
    )
    train.add_argument(
        "--recipe",
        metavar="NAME|FILE",
        help="transfer (the default), ela, scratch, reference, or a TOML file",
    )
    train.add_argument(
        "--from",
        metavar="MODEL",
        dest="initial",
        help=f"fine-tune {FROM}, with its recipe: what to do with few images",
    )
    train.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        dest="overrides",
        help="change a value of the recipe, for example training.epochs=3; repeatable",
    )
    train.add_argument("--seed", type=int, help="sets training.seed and training.order_seed")
    train.add_argument(
        "--data",
        metavar="ID|FOLDER",
        help="Hub id, imagefolder or Parquet files; by default the art dataset on the Hub",
    )
    train.add_argument("--out", metavar="FOLDER", type=Path, help="the run folder (runs/<time>)")
    train.add_argument(
        "--resume",
        action="store_true",
        help="continue the interrupted run in --out; beside --data or the like, begin it if --out "
        "is new or empty",
    )
    train.add_argument(
        "--devices",
        metavar="N",
        type=int,
        default=1,
        help="share each batch among N devices, of each process; requires Keras on JAX",
    )
    train.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="share each batch with other processes: where the one with rank 0 listens",
    )
    train.add_argument(
        "--processes",
        metavar="N|auto",
        type=_number_or_auto,
        help="how many processes; auto: this number, --coordinator and --rank as JAX finds them in "
        "the environment, such as Slurm's",
    )
    train.add_argument(
        "--rank", metavar="I", type=int, help="which of them this one is, from 0, which writes"
    )
    train.add_argument(
        "--leave-out",
        metavar="COLUMN=VALUE",
        help="keep such images of the groups file out of training, for example source=wikiart",
    )
    train.add_argument(
        "--emissions",
        dest="country",
        metavar="ISO",
        help="measure CO2 with codecarbon, in the country with this three-letter code",
    )
    train.add_argument(
        "--track",
        action="store_true",
        help="write event files for TensorBoard into events/ of the run, and into a release of it; "
        "log to Trackio too, if it is installed",
    )
    add_data_options(train)
    add_address_option(train)
    train.set_defaults(run=_train, parser=train)


def _number_or_auto(text: str) -> int | str:
    if text == AUTO:
        return AUTO
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or {AUTO}. Received: {text}.") from None


def _train(options: argparse.Namespace) -> int:
    if options.resume and not options.out:
        options.parser.error("--resume needs the folder of the interrupted run: --out FOLDER")
    auto = options.processes == AUTO
    given = 3 - (options.coordinator, options.processes, options.rank).count(None)
    if given not in ((1,) if auto else (0, 3)) or (given and not options.out):
        options.parser.error(
            "--coordinator, --processes, --rank and --out go together, or --processes auto, --out"
        )
    if options.initial and options.recipe:
        raise RecipeError(
            f"--from trains with the recipe of {options.initial}. Received: --recipe "
            f"{options.recipe}. Leave out --recipe."
        )
    with needs_extra("train", "Training"):
        from hf_ela.training.claiming import recorded
        from hf_ela.training.helping import help_train
        from hf_ela.training.initial import Initial
        from hf_ela.training.processes import Processes
        from hf_ela.training.trainer import train

    from hf_ela.hub.locate import split_revision
    from hf_ela.recipes.loading import DEFAULT_RECIPE, load_recipe

    use_token(options)
    processes = None
    if auto:
        processes = Processes.detected()
    elif options.coordinator:
        processes = Processes(options.coordinator, options.processes, options.rank)
    initial = Initial.load(*split_revision(options.initial)) if options.initial else None
    out = options.out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}"
    says_what = _says_what(options)
    # A job that is started again after a failure has one command for all of its attempts.
    begun = out.is_dir() and any(out.iterdir())
    resume = options.resume and (begun or not says_what)
    if resume and not says_what:
        recipe, data = recorded(out)
    else:
        overrides = list(options.overrides or ())
        if options.seed is not None:
            seeds = ("training.seed", "training.order_seed")
            overrides += [f"{key}={options.seed}" for key in seeds]
        recipe = (
            initial.recipe(overrides)
            if initial
            else load_recipe(options.recipe or DEFAULT_RECIPE, overrides)
        )
        data = data_options(options.data, options)

    def say(line: str) -> None:
        print(printable(with_flags(line, options.parser)), flush=True)

    shared = {"initial": initial, "resume": resume, "devices": options.devices, "say": say}
    if processes and processes.rank:
        help_train(recipe, data, out, processes, **shared)
        return 0
    try:
        run = train(
            recipe,
            data,
            out,
            processes=processes,
            country=options.country,
            track=options.track,
            **shared,
        )
    except KeyboardInterrupt:
        resumable = (out / "checkpoint").exists()
        hint = f"; continue with: hf-ela train --out {printable(str(out))} --resume"
        print(f"\ninterrupted{hint if resumable else ''}", file=sys.stderr)
        raise
    print(run_summary(run, out))
    return 0


def _says_what(options: argparse.Namespace) -> bool:
    """Return whether recipe or data are given beside ``--resume``."""
    elsewhere = {"devices", "coordinator", "processes", "rank"}
    elsewhere |= {"out", "resume", "country", "track", "token", "run", "parser"}
    return any(value is not None for name, value in vars(options).items() if name not in elsewhere)


def add_reproduce(commands: Commands) -> None:
    """Add `hf-ela reproduce`."""
    reproduce = commands.add_parser(
        "reproduce",
        help="train again what a release records, and compare",
        description="Train again with the recipe, seed and data that a release records, and "
        "compare the test metrics with the recorded 95 % intervals. The new run is kept, with the "
        "comparison in reproduction.json. Exit status: 0 all inside, 1 some outside, 2 it could "
        "not be done.",
    )
    reproduce.add_argument("model", metavar="MODEL", help=MODEL)
    reproduce.add_argument(
        "--data", metavar="FOLDER", help="the data, if the release was trained on a local folder"
    )
    reproduce.add_argument(
        "--from",
        metavar="MODEL",
        dest="initial",
        help="the model that the training started from, if it lay in a local folder",
    )
    reproduce.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="the new run (runs/reproduce-<time>); an interrupted one continues",
    )
    add_reading_options(reproduce)
    add_address_option(reproduce)
    reproduce.set_defaults(run=_reproduce, parser=reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    from hf_ela.hub.locate import split_revision
    from hf_ela.training.reproduction import comparison_text, reproduce

    use_token(options)
    source, revision = split_revision(options.model)
    out = options.out or Path("runs") / f"reproduce-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        result = reproduce(
            source,
            out,
            revision=revision,
            data=options.data,
            initial=options.initial,
            say=lambda line: print(printable(with_flags(line, options.parser)), flush=True),
            **reading_options(options),
        )
    except KeyboardInterrupt:
        if (out / "checkpoint").is_dir():
            print(
                f"\ninterrupted; to continue, repeat the command with --out {printable(str(out))}",
                file=sys.stderr,
            )
        raise
    print(comparison_text(result))
    print(f"Written to {printable(str(out))}: the run, and reproduction.json")
    return 0 if result.inside else 1
