"""Options that several commands share, each spelled once."""

import argparse
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_ela.errors import LabelError

if TYPE_CHECKING:
    from hf_ela.classifier import ElaClassifier
    from hf_ela.data.loading import DataOptions
    from hf_ela.models.settings import Runtime

Commands = Any
"""What `add_subparsers` returns; argparse keeps its type to itself."""

MODEL = "a saved model, a run folder, or user/repo[@revision] on the Hub"
_READING = ("groups", "limit", "streaming", "num_proc", "cache_dir", "address")
_DATASET = ("revision", "leave_out", "label_map", "max_rejected")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the fields of `DataOptions` that every command with a dataset takes."""
    data = parser.add_argument_group("dataset")
    data.add_argument("--revision", help="branch, tag or commit of a Hub dataset")
    data.add_argument(
        "--label-map",
        metavar="NAME=CLASS,...",
        help="class names to fake and real, for example ai=fake,human=real",
    )
    data.add_argument(
        "--max-rejected",
        type=float,
        metavar="SHARE",
        help="share of unreadable images that is tolerated (0.02)",
    )
    add_reading_options(parser)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add those that a recorded run does not settle."""
    reading = parser.add_argument_group("reading the data")
    reading.add_argument(
        "--groups",
        metavar="CSV",
        help="file_name,group[,source[,generator]]: a group stays on one side of a split",
    )
    reading.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="only the first N images of every split, half of each class",
    )
    reading.add_argument(
        "--streaming",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="read in one pass without downloading first (default for a Hub id)",
    )
    reading.add_argument(
        "--num-proc", type=int, metavar="N", help="processes that prepare images (2)"
    )
    reading.add_argument("--cache-dir", metavar="FOLDER", help="where prepared images are kept")
    reading.add_argument("--token", help="access token for the Hub (better: `hf auth login`)")


def add_address_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of the commands that prepare images."""
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of a Ray cluster, or auto: its nodes prepare images, not --num-proc processes; all "
        "of them must see --cache-dir and the images. What is prepared is found without them",
    )


def data_options(source: str | None, options: argparse.Namespace) -> "DataOptions":
    """Return the `DataOptions` of a command line; what was not given keeps its default."""
    from hf_ela.data.loading import DataOptions

    given = _given(options, _DATASET + _READING)
    if "label_map" in given:
        given["label_map"] = parse_label_map(given["label_map"])
    if source:
        given["source"] = source
    return DataOptions(**given)


def parse_label_map(text: str) -> dict[str, str]:
    """Read ``"ai=fake,human=real"``.

    Raises:
        LabelError: It is malformed, or maps to something else than the labels.
    """
    from hf_ela.recipes.schema import LABELS

    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and label.strip() in LABELS for name, _, label in pairs):
        raise LabelError(f"A label map must look like ai=fake,human=real. Received: {text}.")
    return {name.strip(): label.strip() for name, _, label in pairs}


def reading_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_reading_options` that were given, by field of `DataOptions`."""
    return _given(options, _READING)


def _given(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    values = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def use_token(options: argparse.Namespace) -> None:
    """Put a token where every client looks, in worker processes too."""
    if options.token:
        os.environ["HF_TOKEN"] = options.token


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"{MODEL}; by default the model packaged with hf-ela, a research baseline",
    )


def load_classifier(
    origin: str | None, runtime: "Runtime | None" = None, threads: int | None = None
) -> "ElaClassifier":
    """Load what ``--model`` names; a download shows its progress, a starting backend is quiet."""
    from hf_ela._terminal import native_messages_held_back
    from hf_ela.classifier import ElaClassifier
    from hf_ela.hub.locate import locate, split_revision

    source, revision = split_revision(origin) if origin else (None, None)
    folder, _ = locate(source, revision=revision, runtime=runtime)
    with native_messages_held_back():
        return ElaClassifier.from_pretrained(folder, runtime=runtime, threads=threads)


def with_flags(text: str, parser: argparse.ArgumentParser) -> str:
    """Name options where the library names its arguments: --max-rejected for `max_rejected`."""
    names = {}
    for action in parser._actions:  # argparse has no public list of them
        flags = [flag for flag in action.option_strings if flag.startswith("--")]
        names[action.dest] = flags[0] if flags else str(action.metavar)
        names |= {flag[2:].replace("-", "_"): flag for flag in flags}
    return re.sub(r"`(\w+)`", lambda found: names.get(found[1], found[0]), text)
