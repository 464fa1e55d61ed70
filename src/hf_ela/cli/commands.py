"""The commands `hf-ela ela`, `samples`, `card`, `export` and `push`."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from hf_ela._terminal import native_messages_held_back, printable
from hf_ela.cli.options import MODEL, Commands, load_classifier, with_flags
from hf_ela.errors import needs_extra

SIGNED_GAIN = 8.0
SHEET = [75, 85, 90, 95]
"""JPEG qualities of `hf-ela ela --sheet`."""


def add_ela(commands: Commands) -> None:
    """Add `hf-ela ela`."""
    ela = commands.add_parser(
        "ela",
        help="draw the error levels of an image",
        description="Draw the error levels of an image, or the image and its error levels at "
        "several JPEG qualities side by side. Error levels are computed at full size; only the "
        "picture of them is scaled down, to 1280 pixels, or 512 side by side. An existing picture "
        "is replaced.",
    )
    ela.add_argument("image", metavar="IMAGE")
    ela.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.png",
        help="default: NAME.ela.png, or NAME.ela-sheet.png",
    )
    shown = ela.add_mutually_exclusive_group()
    shown.add_argument(
        "--quality", type=_quality, default=90, metavar="Q", help="JPEG quality (default: 90)"
    )
    shown.add_argument(
        "--sheet",
        type=_quality,
        nargs="*",
        metavar="Q",
        help="the image and several qualities side by side (default: 75 85 90 95)",
    )
    ela.add_argument(
        "--gain",
        type=_gain,
        metavar="max|N",
        help="brightness: a factor, or max for full range at each quality (default: one value in "
        f"200 becomes white, or {SIGNED_GAIN:g} with --signed)",
    )
    ela.add_argument("--signed", action="store_true", help="keep the sign; mid-grey is zero")
    ela.add_argument(
        "--color",
        choices=["RGB", "YCbCr"],
        default="RGB",
        help="colour space of the difference (absolute YCbCr is shown as red, green, blue)",
    )
    ela.set_defaults(run=_ela, parser=ela)


def _quality(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be an integer from 1 to 100. Received: {text}. If that is the image, name it "
            "before the option."
        ) from None


def _gain(text: str) -> float | str:
    try:
        if text == "max" or 0 < float(text) < float("inf"):
            return text if text == "max" else float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be max or a number above 0. Received: {text}.")


def _ela(options: argparse.Namespace) -> int:
    from hf_ela._checks import check_settings
    from hf_ela._files import whole_file
    from hf_ela.ela.error_level import ela_picture

    kind = "ela" if options.sheet is None else "ela-sheet"
    output = options.output or Path(f"{Path(options.image).stem}.{kind}.png")
    if output.suffix.lower() != ".png":
        options.parser.error(f"the output must be a .png file. Received: {output}.")
    if output.exists() and Path(options.image).exists() and output.samefile(options.image):
        options.parser.error(f"the output must not be the image itself. Received: {output}.")
    if not output.parent.is_dir():
        options.parser.error(f"the output must lie in an existing folder. Received: {output}.")
    gain = SIGNED_GAIN if options.signed and options.gain is None else options.gain
    settings = {"signed": options.signed, "color": options.color, "gain": gain}
    sheet = None if options.sheet is None else options.sheet or SHEET
    try:
        check_settings(sheet or [options.quality], **settings)
    except ValueError as error:
        message = str(error).replace("`quality`", "`sheet`") if sheet else str(error)
        options.parser.error(with_flags(message, options.parser))

    picture = ela_picture(options.image, sheet or options.quality, **settings)
    with whole_file(output) as temporary:
        picture.save(temporary, "PNG")
    print(printable(str(output)))
    return 0


def add_samples(commands: Commands) -> None:
    """Add `hf-ela samples`."""
    samples = commands.add_parser(
        "samples",
        help="make a small synthetic dataset",
        description="Write a small labelled set of synthetic images, the same on every machine.",
    )
    samples.add_argument("folder", metavar="FOLDER")
    samples.add_argument(
        "--per-class", type=int, default=240, metavar="N", help="training images a class (240)"
    )
    samples.add_argument(
        "--test-per-class", type=int, default=60, metavar="N", help="test images a class (60)"
    )
    samples.add_argument("--seed", type=int, default=0, metavar="N", help="other pictures (0)")
    samples.add_argument("--num-proc", type=int, default=1, metavar="N", help="processes (1)")
    samples.set_defaults(run=_samples, parser=samples)


def _samples(options: argparse.Namespace) -> int:
    from hf_ela.data.synthetic.dataset import write_samples

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


def add_card(commands: Commands) -> None:
    """Add `hf-ela card`."""
    card = commands.add_parser(
        "card",
        help="write the model card of a run",
        description="Write RUN/README.md, the model card, from RUN/run.json, without a network. "
        "Your text outside the two marker lines is kept, and so is metadata you added.",
    )
    card.add_argument("folder", type=Path, metavar="RUN", help="a finished run folder")
    card.add_argument(
        "--repo", dest="repo_id", metavar="USER/NAME", help="repository of the release"
    )
    card.add_argument("--tag", dest="revision", metavar="vX.Y.Z", help="tag of that release (main)")
    card.add_argument(
        "--replace-card",
        action="store_true",
        help="replace the whole card, hand-written text included",
    )
    card.set_defaults(run=_card, parser=card)


def _card(options: argparse.Namespace) -> int:
    from hf_ela.hub.card import write_card

    path = write_card(
        options.folder,
        repo_id=options.repo_id,
        revision=options.revision,
        replace_card=options.replace_card,
    )
    print(printable(str(path)))
    return 0


def add_export(commands: Commands) -> None:
    """Add `hf-ela export`."""
    export = commands.add_parser(
        "export",
        help="write a model as one ONNX or LiteRT file",
        description="Write a model as one file, from RGB pixels to probabilities with ELA inside, "
        "after comparing it with Keras. An existing file is replaced. Requires the `train` extra.",
    )
    export.add_argument("model", metavar="MODEL", help=MODEL)
    export.add_argument("output", type=Path, metavar="OUT", help="a file .onnx or .tflite")
    export.set_defaults(run=_export, parser=export)


def _export(options: argparse.Namespace) -> int:
    if options.output.suffix not in (".onnx", ".tflite"):
        options.parser.error(f"OUT must end with .onnx or .tflite. Received: {options.output}.")
    from hf_ela.models.settings import SETTINGS_FILE
    from hf_ela.recipes.schema import LABELS

    with needs_extra("train", "An export"), native_messages_held_back():
        from hf_ela.models.export import OPSET, TOLERANCE, export_litert, export_onnx

    classifier = load_classifier(options.model, "keras")
    recipe = classifier.recipe
    if options.output.suffix == ".onnx":
        export_onnx(classifier.model, recipe, options.output)
        kind = f"ONNX, opset {OPSET}"
    else:
        export_litert(classifier.model, recipe, options.output)
        kind = "LiteRT"
    side = recipe.pixel_side
    print(
        f"{printable(str(options.output))}: {kind}, {options.output.stat().st_size:,} bytes\n"
        f"  in   pixels         uint8    N x {side} x {side} x 3, RGB\n"
        f"  out  probabilities  float32  N x 2: {', '.join(LABELS)}, before the `temperature` "
        f"of {SETTINGS_FILE}\n"
        f"  differs from Keras by less than {TOLERANCE:g}"
    )
    return 0


def add_push(commands: Commands) -> None:
    """Add the command to a parser."""
    push = commands.add_parser(
        "push",
        help="release a run to the Hugging Face Hub",
        description="Release a run to the Hugging Face Hub in one commit. The release is "
        "downloaded again and must give the recorded scores before it is tagged. The same command "
        "finishes whatever was interrupted.",
    )
    push.add_argument("folder", type=Path, metavar="RUN", help="a finished run folder")
    push.add_argument("repo_id", metavar="USER/NAME", help="the model repository; created if new")
    push.add_argument(
        "--dry-run", action="store_true", help="show the plan, read from the Hub, and send nothing"
    )
    push.add_argument("--tag", metavar="vX.Y.Z", help="tag the release once it is verified")
    push.add_argument("--branch", default="main", help="branch to commit to (main)")
    push.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    push.add_argument("--private", action="store_true", help="create a private repository")
    push.add_argument("--message", metavar="TEXT", help="commit message")
    push.add_argument(
        "--replace-card",
        action="store_true",
        help="replace the card on the Hub, hand-written text included, by the card of RUN",
    )
    push.add_argument("--space", metavar="USER/NAME", help="also push a Gradio Space that shows it")
    push.add_argument(
        "--widget", metavar="USER/NAME", help="also push a static Space that runs it in the browser"
    )
    push.add_argument(
        "--samples",
        type=Path,
        metavar="FOLDER",
        help="pictures of your own to show and to verify the release with: at most 12, in fake/ "
        "and real/, and a README.md with their sources and licences",
    )
    push.add_argument(
        "--collection",
        metavar="TITLE|SLUG",
        help="put model and Spaces into a collection: the title of one of yours, made if new",
    )
    push.add_argument("--token", help="access token (better: `hf auth login`)")
    push.set_defaults(run=_push, parser=push)


def _push(options: argparse.Namespace) -> int:
    from hf_ela.hub.plan import PushOptions
    from hf_ela.hub.push import release

    how = PushOptions(**{field.name: getattr(options, field.name) for field in fields(PushOptions)})

    def say(text: str) -> None:
        # A plan quotes the card, which stays as it is.
        print(text if "\n" in text else with_flags(text, options.parser), flush=True)

    try:
        release(
            options.folder,
            options.repo_id,
            how,
            space=options.space,
            widget=options.widget,
            collection=options.collection,
            samples=options.samples,
            token=options.token,
            dry_run=options.dry_run,
            say=say,
        )
    except KeyboardInterrupt:
        print("\ninterrupted; the same command finishes the job", file=sys.stderr)
        raise
    return 0
