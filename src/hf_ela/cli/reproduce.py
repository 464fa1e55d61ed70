"""The command `hf-ela reproduce`."""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from hf_ela._terminal import printable
from hf_ela.cli.options import (
    MODEL,
    Commands,
    add_reading_options,
    reading_options,
    use_token,
    with_flags,
)


def add_reproduce(commands: Commands) -> None:
    """Add the command to a parser."""
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
        "--out",
        type=Path,
        metavar="FOLDER",
        help="the new run (runs/reproduce-<time>); an interrupted one continues",
    )
    add_reading_options(reproduce)
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
