"""The command `hf-ela`: one function for each subcommand, heavy imports inside."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ela import __version__
from hf_ela.errors import HfElaError, ImageError
from hf_ela.terminal import native_messages_held_back, printable

if TYPE_CHECKING:
    from hf_ela.classifier import ElaClassifier

SIGNED_GAIN = 8.0
MEANING = (
    "P(fake) is this model's estimate that an image is AI-generated; from {threshold:.3f} on it "
    "is called fake. It is no proof: it comes from traces of compression, and can be wrong, most "
    "of all on kinds of images that the model was not trained on."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    0: done; 1: an image was refused; 2: nothing could be done as asked (wrong usage, no usable
    model, no backend, an output that cannot be written); 130: interrupted; 141: the reader of the
    output went away. `argparse` itself exits with 0 after ``--help`` and 2 on wrong usage.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file name may be beyond the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            # Pillow warns of oddities in files; what matters to the answer comes as a refusal.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # What is still in the buffer has no reader: the interpreter must not try it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (HfElaError, OSError) as error:
        print(f"hf-ela: {printable(str(error))}", file=sys.stderr)
        return 1 if isinstance(error, ImageError) else 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hf-ela", description="Tell human-made art from AI-generated art."
    )
    parser.add_argument("--version", action="version", version=f"hf-ela {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    predict = commands.add_parser(
        "predict",
        help="score images",
        description="Score images by a saved model. Folders are searched for images, at every "
        "depth. Exit status: 0 all scored, 1 some refused, 2 wrong usage or no usable model.",
    )
    predict.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER")
    predict.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="a saved model, a run, or user/repo[@revision] of the Hub",
    )
    predict.add_argument("--json", action="store_true", help="one JSON object per line")
    predict.add_argument("--batch-size", type=int, default=32, metavar="N", help="images per step")
    predict.set_defaults(run=_predict, parser=predict)

    ela = commands.add_parser(
        "ela",
        help="draw the error levels of an image",
        description="Draw an image and its error levels at several JPEG qualities side by side. "
        "Error levels are computed at full size; only the picture of them is scaled down, to 512 "
        "pixels. An earlier picture is replaced.",
    )
    ela.add_argument("image", metavar="IMAGE")
    ela.add_argument("-o", "--output", type=Path, metavar="OUT.png", help="default: NAME.ela.png")
    ela.add_argument("--qualities", type=int, nargs="+", default=[75, 85, 90, 95], metavar="Q")
    ela.add_argument(
        "--gain",
        type=_gain,
        metavar="max|N",
        help="brightness: a factor, or max for full range at each quality (default: max, or "
        f"{SIGNED_GAIN:g} with --signed)",
    )
    ela.add_argument("--signed", action="store_true", help="keep the sign; mid-grey is zero")
    ela.add_argument(
        "--color",
        choices=["RGB", "YCbCr"],
        default="RGB",
        help="colour space of the difference (absolute YCbCr is shown as red, green, blue)",
    )
    ela.set_defaults(run=_ela, parser=ela)

    samples = commands.add_parser(
        "samples",
        help="make a small synthetic dataset",
        description="Write a small labelled set of synthetic images, the same on every machine.",
    )
    samples.add_argument("folder", metavar="FOLDER")
    samples.add_argument("--per-class", type=int, default=240, metavar="N")
    samples.add_argument("--test-per-class", type=int, default=60, metavar="N")
    samples.add_argument("--seed", type=int, default=0, metavar="N")
    samples.add_argument("--num-proc", type=int, default=1, metavar="N", help="processes")
    samples.set_defaults(run=_samples, parser=samples)

    card = commands.add_parser(
        "card",
        help="write the model card of a run",
        description="Write RUN/README.md, the model card, from RUN/run.json, without a network. "
        "Text outside of its two marker lines stays, and so do metadata that you added.",
    )
    card.add_argument("folder", type=Path, metavar="RUN", help="a run folder, as train.py wrote it")
    card.add_argument("--repo", metavar="USER/NAME", help="the card of the release there")
    card.add_argument("--tag", metavar="vX.Y.Z", help="of that release; main by default")
    card.add_argument(
        "--replace", action="store_true", help="write it anew, hand-written text included"
    )
    card.set_defaults(run=_card, parser=card)

    reproduce = commands.add_parser(
        "reproduce",
        help="train again what a release records, and compare",
        description="Train again with the recipe, seed and data that a release records, and "
        "compare the test metrics with the recorded 95 % intervals. The new run is kept, with the "
        "comparison in reproduction.json. Exit status: 0 all inside, 1 some outside, 2 it could "
        "not be done.",
    )
    reproduce.add_argument(
        "model", metavar="MODEL", help="user/repo[@revision] of the Hub, a release's folder, a run"
    )
    reproduce.add_argument(
        "--data", metavar="FOLDER", help="the data, where the release was trained on a local folder"
    )
    reproduce.add_argument("--groups", metavar="CSV", help="its groups, as for train.py")
    reproduce.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="the new run (runs/reproduce-<time>); an interrupted one goes on",
    )
    reproduce.add_argument(
        "--limit", type=int, metavar="N", help="only N images of every split: a quick check"
    )
    reproduce.add_argument(
        "--streaming",
        action=argparse.BooleanOptionalAction,
        help="read in one pass without downloading first (default for a Hub dataset)",
    )
    reproduce.add_argument("--num-proc", type=int, default=2, metavar="N", help="processes")
    reproduce.add_argument("--cache-dir", metavar="FOLDER", help="where ELA is kept")
    reproduce.add_argument("--token", help="of the Hub, if private; better: `hf auth login`")
    reproduce.set_defaults(run=_reproduce, parser=reproduce)
    return parser


def _gain(text: str) -> float | str:
    try:
        return text if text == "max" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be max or a number. Received: {text}.") from None


# ------------------------------------------------------------------------------------- predict


def _predict(options: argparse.Namespace) -> int:
    if options.batch_size < 1:
        options.parser.error(f"--batch-size must be at least 1. Received: {options.batch_size}.")
    from hf_ela.classifier import ElaClassifier
    from hf_ela.origin import locate, split_revision

    source, revision = split_revision(options.model)
    folder, _ = locate(source, revision=revision)  # a download shows its progress
    with native_messages_held_back():
        classifier = ElaClassifier.from_pretrained(folder)
    files = list(_files(options.paths))
    results = _results(classifier, files, options)
    show = _print_lines if options.json else partial(_print_table, threshold=classifier.threshold)
    return 1 if show(results) else 0


def _files(paths: Sequence[str]) -> Iterator[str]:
    """Yield the files named, and those in the folders named; a folder without any as itself."""
    from hf_ela.images import IMAGE_SUFFIXES

    def refuse(error: OSError) -> None:
        unreadable.append(os.fsdecode(error.filename))

    for path in paths:
        unreadable: list[str] = []  # subfolders that may not be read: refused when they are opened
        found = [
            os.path.join(folder, name)  # noqa: PTH118  (a Path would not give a name as it came)
            for folder, _, names in os.walk(path, onerror=refuse)
            for name in names
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  (as above)
        ]
        yield from sorted(found + [name for name in unreadable if name != path]) or [path]


def _results(
    classifier: "ElaClassifier", files: list[str], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield what `--json` prints, in order, with a bar where it disturbs nothing."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    mixed = options.json and sys.stdout.isatty()  # lines as they come, on the same terminal
    scores = classifier.scores(files, batch_size=options.batch_size)
    bar = track(
        scores,
        "Predicting",
        len(files),
        console=console,
        transient=True,
        disable=mixed or not console.is_terminal,
    )
    for file, score in zip(files, bar, strict=True):
        if isinstance(score, ImageError):
            empty = os.path.isdir(file)  # noqa: PTH112  (as below)
            reason = "is a folder in which no image was found" if empty else score.reason
            yield {"file": file, "error": {"type": type(score).__name__, "message": reason}}
        else:
            label, scores_ = classifier.label(score), {"fake": score, "real": 1 - score}
            yield {"file": file, "label": label, "score": scores_[label], "scores": scores_}


def _print_lines(results: Iterator[dict[str, Any]]) -> int:
    refused = 0
    for result in results:
        print(json.dumps(result), flush=True)
        refused += "error" in result
    return refused


def _print_table(results: Iterator[dict[str, Any]], threshold: float) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("File", "Label", "P(fake)", "Note")
    for column in table.columns:
        column.overflow = "fold"
    refused = 0
    for result in results:
        # Text, since a file name may look like markup.
        file = Text(printable(result["file"]))
        if "error" in result:
            refused += 1
            table.add_row(file, "-", "-", Text(printable(result["error"]["message"])))
        else:
            table.add_row(file, result["label"], f"{result['scores']['fake']:.3f}", "")
    console = Console()
    with console.capture() as captured:  # rich itself would exit on a closed pipe
        console.print(table)
        console.print(MEANING.format(threshold=threshold))
    sys.stdout.write(captured.get())
    return refused


# ----------------------------------------------------------------------------------------- ela


def _ela(options: argparse.Namespace) -> int:
    from hf_ela.ela import Gain, check_settings
    from hf_ela.files import whole_file
    from hf_ela.picture import ela_picture

    output = options.output or Path(f"{Path(options.image).stem}.ela.png")
    if output.suffix.lower() != ".png":
        options.parser.error(f"the output must be a .png file. Received: {output}.")
    if output.exists() and Path(options.image).exists() and output.samefile(options.image):
        options.parser.error(f"the output must not be the image itself. Received: {output}.")
    usual: Gain = SIGNED_GAIN if options.signed else "max"
    gain = usual if options.gain is None else options.gain
    settings = {"signed": options.signed, "color": options.color, "gain": gain}
    try:
        check_settings(options.qualities, **settings)
    except ValueError as error:
        options.parser.error(str(error))

    picture = ela_picture(options.image, options.qualities, **settings)
    with whole_file(output) as temporary:
        picture.save(temporary, "PNG")
    print(printable(str(output)))
    return 0


# ------------------------------------------------------------------------------------- samples


def _samples(options: argparse.Namespace) -> int:
    from hf_ela.synthetic import write_samples

    folder = write_samples(
        options.folder,
        per_class=options.per_class,
        test_per_class=options.test_per_class,
        seed=options.seed,
        num_proc=options.num_proc,
        progress=True,
    )
    print(printable(str(folder)))
    return 0


# ----------------------------------------------------------------------------------- reproduce


def _reproduce(options: argparse.Namespace) -> int:
    from hf_ela.comparison import report
    from hf_ela.origin import split_revision
    from hf_ela.reproduce import reproduce

    if options.token:
        os.environ["HF_TOKEN"] = options.token  # where every client looks, worker processes too
    source, revision = split_revision(options.model)
    out = options.out or Path("runs") / f"reproduce-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        result = reproduce(
            source,
            out,
            revision=revision,
            data=options.data,
            groups=options.groups,
            limit=options.limit,
            streaming=options.streaming,
            num_proc=options.num_proc,
            cache_dir=options.cache_dir,
        )
    except KeyboardInterrupt:
        if (out / "checkpoint").is_dir():
            print(
                f"\ninterrupted; to go on, repeat the command with --out {printable(str(out))}",
                file=sys.stderr,
            )
        raise
    print(report(result))
    print(f"Written to {printable(str(out))}: the run, and reproduction.json")
    return 0 if result.inside else 1


# ---------------------------------------------------------------------------------------- card


def _card(options: argparse.Namespace) -> int:
    from hf_ela.card import write_card

    path = write_card(
        options.folder, repo_id=options.repo, revision=options.tag, replace=options.replace
    )
    print(printable(str(path)))
    return 0
