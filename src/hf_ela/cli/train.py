"""The command `hf-ela train`."""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from hf_ela._terminal import printable
from hf_ela.cli.options import Commands, add_data_options, data_options, use_token, with_flags
from hf_ela.errors import needs_extra


def add_train(commands: Commands) -> None:
    """Add the command to a parser."""
    train = commands.add_parser(
        "train",
        help="train a detector and write a run folder",
        description="Train a detector and write a run folder: run.json, README.md (the model "
        "card), weights/, predictions.parquet, plots/ and samples/. Requires the `train` extra.",
    )
    train.add_argument("--recipe", metavar="NAME|FILE", help="default, reference, or a TOML file")
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
        "--resume", action="store_true", help="continue the interrupted run in --out"
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
    add_data_options(train)
    train.set_defaults(run=_train, parser=train)


def _train(options: argparse.Namespace) -> int:
    if options.resume and not options.out:
        options.parser.error("--resume needs the folder of the interrupted run: --out FOLDER")
    with needs_extra("train", "Training"):
        from hf_ela.training.trainer import recorded, summary, train

    from hf_ela.recipes.loading import load_recipe

    use_token(options)
    out = options.out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}"
    if options.resume and not _says_what(options):
        recipe, data = recorded(out)
    else:
        overrides = list(options.overrides or ())
        if options.seed is not None:
            seeds = ("training.seed", "training.order_seed")
            overrides += [f"{key}={options.seed}" for key in seeds]
        recipe = load_recipe(options.recipe or "default", overrides)
        data = data_options(options.data, options)

    def say(line: str) -> None:
        print(printable(with_flags(line, options.parser)), flush=True)

    try:
        run = train(recipe, data, out, resume=options.resume, country=options.country, say=say)
    except KeyboardInterrupt:
        resumable = (out / "checkpoint").exists()
        hint = f"; continue with: hf-ela train --out {printable(str(out))} --resume"
        print(f"\ninterrupted{hint if resumable else ''}", file=sys.stderr)
        raise
    print(summary(run, out))
    return 0


def _says_what(options: argparse.Namespace) -> bool:
    """Return whether recipe or data are given beside ``--resume``."""
    elsewhere = {"out", "resume", "country", "token", "run", "parser"}
    return any(value is not None for name, value in vars(options).items() if name not in elsewhere)
