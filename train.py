"""Train a detector and write a run folder.

    python train.py                                   # the Hub dataset, our default recipe
    python train.py --data my/folder --out runs/mine  # train/{fake,real}, test/{fake,real}
    python train.py --recipe reference --set training.epochs=3 --limit 200
    python train.py --out runs/mine --resume          # go on after an interruption

The run folder then holds run.json, weights/, predictions.parquet and plots/.
"""

import argparse
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--recipe", metavar="NAME|FILE", help="reference, default, or a TOML file")
    p.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        dest="overrides",
        help="change a value of the recipe, e.g. training.epochs=3; repeatable",
    )
    p.add_argument("--seed", type=int, help="short for training.seed and training.order_seed")
    p.add_argument(
        "--data", metavar="ID|FOLDER", dest="source", help="Hub id, imagefolder or Parquet files"
    )
    p.add_argument("--revision", help="branch, tag or commit of a Hub dataset")
    p.add_argument(
        "--streaming",
        action=argparse.BooleanOptionalAction,
        help="read in one pass without downloading first (default for a Hub id)",
    )
    p.add_argument(
        "--groups",
        metavar="CSV",
        help="file_name,group[,source[,generator]]: a group stays on one side of a split",
    )
    p.add_argument(
        "--leave-out",
        metavar="COLUMN=VALUE",
        help="keep such images of the groups file out of training, e.g. source=wikiart",
    )
    p.add_argument(
        "--label-map",
        metavar="NAME=CLASS,...",
        help="class names to fake and real, e.g. ai=fake,human=real",
    )
    p.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="the first N images of every split, half of each class",
    )
    p.add_argument(
        "--max-rejected",
        type=float,
        metavar="SHARE",
        help="share of unreadable images that is tolerated (0.02)",
    )
    p.add_argument("--num-proc", type=int, metavar="N", help="processes that compute ELA (2)")
    p.add_argument("--cache-dir", metavar="FOLDER", help="where ELA is kept")
    p.add_argument(
        "--emissions",
        dest="country",
        metavar="ISO",
        help="measure CO2 with codecarbon, in the country with this three-letter code",
    )
    p.add_argument("--token", help="of the Hub, for a private dataset; better: `hf auth login`")
    p.add_argument("--out", metavar="FOLDER", type=Path, help="the run folder (runs/<time>)")
    p.add_argument("--resume", action="store_true", help="continue the interrupted run in --out")
    return p


def main() -> int:
    """Run the command line; return the exit status."""
    args = {name: value for name, value in vars(parser().parse_args()).items() if value is not None}
    if args["resume"] and "out" not in args:
        parser().error("--resume needs the folder of the interrupted run: --out FOLDER")
    if token := args.pop("token", None):
        os.environ["HF_TOKEN"] = token  # where every client looks, worker processes too
    out = args.pop("out", Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}")
    try:
        return run(out, args)
    except KeyboardInterrupt:
        resumable = (out / "checkpoint").exists()
        hint = f"; go on with: python train.py --out {out} --resume" if resumable else ""
        print(f"\ninterrupted{hint}", file=sys.stderr)
        return 130


def run(out: Path, args: dict[str, Any]) -> int:
    """Train with the options that were given."""
    try:
        from hf_ela._text import few_bars_in_logs, printable_error

        few_bars_in_logs()  # before tqdm is imported
        from hf_ela.data.loading import DataOptions, parse_label_map
        from hf_ela.errors import HfElaError
        from hf_ela.recipes.loading import load_recipe
        from hf_ela.training.trainer import recorded, summary, train
    except ModuleNotFoundError as error:
        print(
            f"train.py: training needs the extra `train`. Received: no module {error.name}. "
            'Install it with pip install ".[train]", or use the environment of `make`: '
            ". .venv/bin/activate",
            file=sys.stderr,
        )
        return 1

    resume, country = args.pop("resume"), args.pop("country", None)
    try:
        if resume and not args:
            recipe, options = recorded(out)
        else:
            overrides = args.pop("overrides", [])
            if "seed" in args:
                seed = args.pop("seed")
                overrides += [f"training.seed={seed}", f"training.order_seed={seed}"]
            recipe = load_recipe(args.pop("recipe", "default"), overrides)
            if "label_map" in args:
                args["label_map"] = parse_label_map(args["label_map"])
            options = DataOptions(**args)
        result = train(recipe, options, out, resume=resume, country=country)
    except (HfElaError, OSError) as error:
        print(f"train.py: {printable_error(error)}", file=sys.stderr)
        return 1
    print(summary(result, out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
