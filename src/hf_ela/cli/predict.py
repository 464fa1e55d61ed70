"""The command `hf-ela predict`."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ela.errors import ImageError
from hf_ela.terminal import native_messages_held_back, printable

if TYPE_CHECKING:
    from hf_ela.classifier import ElaClassifier
    from hf_ela.explain import Evidence

__all__ = ["add_predict"]

MEANING = (
    "P(fake) is this model's estimate that an image is AI-generated; from {threshold:.3f} on it "
    "is called fake. It is no proof: it comes from traces of compression, and can be wrong, most "
    "of all on kinds of images that the model was not trained on."
)
UNCERTAIN = (
    " From {low:.3f} to {high:.3f} the answer is uncertain: so near to the threshold, the model is "
    "wrong too often."
)
PACKAGED = "the model that comes with hf-ela: a research baseline"


def add_predict(commands: Any) -> None:
    """Add the command to a parser."""
    predict = commands.add_parser(
        "predict",
        help="score images",
        description="Score images by a saved model. Folders are searched for images, at every "
        "depth. Exit status: 0 all scored, 1 some refused, 2 wrong usage or no usable model.",
    )
    predict.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER")
    predict.add_argument(
        "--model",
        metavar="MODEL",
        help="a saved model, a run, or user/repo[@revision] of the Hub; by default the model that "
        "comes with hf-ela, a research baseline",
    )
    predict.add_argument("--json", action="store_true", help="one JSON object per line")
    predict.add_argument(
        "--explain",
        type=Path,
        metavar="DIR",
        help="save two pictures of each image there: where the evidence lies, and its ELA",
    )
    predict.add_argument(
        "--runtime",
        choices=["onnx", "keras"],
        help="what judges (ONNX where the model has it)",
    )
    predict.add_argument("--batch-size", type=int, default=32, metavar="N", help="images per step")
    predict.set_defaults(run=_predict, parser=predict)


def _predict(options: argparse.Namespace) -> int:
    if options.batch_size < 1:
        options.parser.error(f"--batch-size must be at least 1. Received: {options.batch_size}.")
    from hf_ela.classifier import ElaClassifier
    from hf_ela.origin import locate, split_revision

    source, revision = split_revision(options.model) if options.model else (None, None)
    # A download shows its progress; what a backend says as it starts is held back.
    folder, _ = locate(source, revision=revision, runtime=options.runtime)
    with native_messages_held_back():
        classifier = ElaClassifier.from_pretrained(folder, runtime=options.runtime)
    files = list(_files(options.paths))
    if options.explain:
        options.explain.mkdir(parents=True, exist_ok=True)
        results = _explained(classifier, files, options.explain)
    else:
        results = _scored(classifier, files, options.batch_size)
    results = _with_bar(results, len(files), options)
    show = _print_lines if options.json else partial(_print_table, meaning=meaning(classifier))
    status = 1 if show(results) else 0
    if not options.json:
        print(f"Model: {printable(options.model or PACKAGED)}")
    if options.explain and not options.json:
        print(f"Pictures: {printable(str(options.explain))}")
    return status


def meaning(classifier: "ElaClassifier") -> str:
    """Return what a model's answers mean, in words for a person."""
    text = MEANING.format(threshold=classifier.threshold)
    if classifier.uncertain:
        low, high = classifier.uncertain
        text += UNCERTAIN.format(low=low, high=high)
    return text


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


def _scored(
    classifier: "ElaClassifier", files: list[str], batch_size: int
) -> Iterator[dict[str, Any]]:
    """Yield what `--json` prints, in order."""
    scores = classifier.scores(files, batch_size=batch_size)
    for file, score in zip(files, scores, strict=True):
        if isinstance(score, ImageError):
            yield _refused(file, score)
        else:
            yield _judged(file, classifier, score)


def _explained(
    classifier: "ElaClassifier", files: list[str], folder: Path
) -> Iterator[dict[str, Any]]:
    """Yield the same with the views, and save the pictures of each image."""
    stems: set[str] = set()
    for file in files:
        try:
            found = classifier.explain(file)
        except ImageError as error:
            yield _refused(file, error)
            continue
        views = [
            {**box._asdict(), "score": score}
            for box, score in zip(found.boxes, found.scores, strict=True)
        ]
        pictures = _save_pictures(found, folder, _free_stem(Path(file).name, stems))
        yield _judged(file, classifier, found.score) | {"views": views, **pictures}


def _free_stem(name: str, taken: set[str]) -> str:
    """Return a name that no other image of this call has: two folders may hold the same one."""
    number, stem = 1, name
    while stem.lower() in taken:
        number += 1
        stem = f"{name}-{number}"
    taken.add(stem.lower())
    return stem


def _save_pictures(found: "Evidence", folder: Path, stem: str) -> dict[str, str]:
    from PIL import Image

    from hf_ela.explain import overlay
    from hf_ela.files import whole_file

    pictures = {"evidence": overlay(found), "ela": Image.fromarray(found.ela)}
    paths = {kind: folder / f"{stem}.{kind}.png" for kind in pictures}
    for kind, picture in pictures.items():
        with whole_file(paths[kind]) as temporary:
            picture.save(temporary, "PNG")
    return {kind: str(path) for kind, path in paths.items()}


def _judged(file: str, classifier: "ElaClassifier", score: float) -> dict[str, Any]:
    label, scores = classifier.label(score), {"fake": score, "real": 1 - score}
    return {
        "file": file,
        "label": label,
        "score": scores[label],
        "scores": scores,
        "uncertain": classifier.is_uncertain(score),
    }


def _refused(file: str, error: ImageError) -> dict[str, Any]:
    empty = os.path.isdir(file)  # noqa: PTH112  (a Path would not take any text)
    reason = "is a folder in which no image was found" if empty else error.reason
    return {"file": file, "error": {"type": type(error).__name__, "message": reason}}


def _with_bar(
    results: Iterator[dict[str, Any]], total: int, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Show a bar where it disturbs nothing."""
    mixed = options.json and sys.stdout.isatty()  # lines as they come, on the same terminal
    if mixed or not sys.stderr.isatty():
        return results
    from rich.console import Console
    from rich.progress import track

    bar = track(results, "Predicting", total, console=Console(stderr=True), transient=True)
    return iter(bar)


def _print_lines(results: Iterator[dict[str, Any]]) -> int:
    refused = 0
    for result in results:
        print(json.dumps(result), flush=True)
        refused += "error" in result
    return refused


def _print_table(results: Iterator[dict[str, Any]], meaning: str) -> int:
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
            label = f"uncertain ({result['label']}?)" if result["uncertain"] else result["label"]
            table.add_row(file, label, f"{result['scores']['fake']:.3f}", "")
    console = Console()
    with console.capture() as captured:  # rich itself would exit on a closed pipe
        console.print(table)
        console.print(meaning)
    sys.stdout.write(captured.get())
    return refused
