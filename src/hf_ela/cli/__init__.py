"""The command `hf-ela`: what every subcommand shares."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from io import TextIOWrapper

from hf_ela._terminal import few_bars_in_logs, printable_error, standard_streams
from hf_ela._version import __version__
from hf_ela.cli.audit import add_audit
from hf_ela.cli.commands import add_card, add_ela, add_export, add_push, add_samples
from hf_ela.cli.evaluate import add_evaluate
from hf_ela.cli.options import with_flags
from hf_ela.cli.predict import add_predict
from hf_ela.cli.score import add_score
from hf_ela.cli.serve import add_serve
from hf_ela.cli.train import add_reproduce, add_train
from hf_ela.errors import HfElaError, ImageError

__all__ = ["main"]


COMMANDS = {
    "predict": add_predict,
    "evaluate": add_evaluate,
    "audit": add_audit,
    "train": add_train,
    "push": add_push,
    "card": add_card,
    "export": add_export,
    "reproduce": add_reproduce,
    "ela": add_ela,
    "samples": add_samples,
    "score": add_score,
    "serve": add_serve,
}


@standard_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    0: done; 1: `predict` or `ela` refused an image, or `reproduce` found other figures; 2: nothing
    could be done as asked (wrong usage, no usable model, no backend, an output that cannot be
    written); 130: interrupted; 141: the reader of the output went away. `argparse` itself exits
    with 0 after ``--help`` and 2 on wrong usage.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file name may be beyond the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    if not words:
        parser.print_help(sys.stderr)
        return 2
    if words[0] == "help":
        words = [*words[1:2], "--help"]
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        near = get_close_matches(words[0].casefold(), COMMANDS, n=1) or COMMANDS
        parser.error(f"unknown command {words[0]!r}. Choose {', '.join(near)}.")
    options, unknown = parser.parse_known_args(words)
    if unknown:  # with the usage of the command, unlike `parse_args`
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    few_bars_in_logs()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # TensorFlow's news about itself
    try:
        with warnings.catch_warnings():
            # Pillow warns of oddities in files; what matters to the answer comes as a refusal.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except (HfElaError, OSError) as error:
        message = with_flags(printable_error(error), options.parser)
        with suppress(OSError):  # nobody reads it
            print(f"hf-ela: {message}", file=sys.stderr)
        return 1 if isinstance(error, ImageError) else 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hf-ela", description="Estimate whether pictures are human-made or AI-generated."
    )
    parser.add_argument("--version", action="version", version=f"hf-ela {__version__}")
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", description="hf-ela COMMAND --help describes a command."
    )
    for add in COMMANDS.values():
        add(commands)
    return parser
