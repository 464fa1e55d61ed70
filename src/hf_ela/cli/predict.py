"""The command `hf-ela predict`."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hf_ela._terminal import printable, progress_bar
from hf_ela._text import synthetic_notice
from hf_ela.cli.answers import print_lines, print_table
from hf_ela.cli.files import Shard, check_path, named_files
from hf_ela.cli.options import add_model_option, load_classifier, with_flags
from hf_ela.cli.report import Report
from hf_ela.errors import ImageError, RunError

if TYPE_CHECKING:
    from hf_ela.classifier import ElaClassifier
    from hf_ela.models.score import Score

MEANING = (
    "P(fake) is the model's estimate that an image is AI-generated. Images with {threshold:.3f} or "
    "more are called fake. An estimate is not proof: it rests on traces of generation and "
    "compression, and can be wrong, above all on kinds of images the model was not trained on."
)
UNCERTAIN = (
    " Between {low:.3f} and {high:.3f} the answer is uncertain: the model is wrong too often there."
)
ASKED = (
    " The model itself calls images fake from {own:.3f}: up to {threshold:.3f} they are uncertain, "
    "as fewer false alarms were asked for."
)
PACKAGED_MODEL = "the model packaged with hf-ela, a research baseline"

STEM = 200
"""Bytes of a file's name that its sheet's name begins with; file systems end at 255."""


def add_predict(commands: Any) -> None:
    """Add the command to a parser."""
    predict = commands.add_parser(
        "predict",
        help="score images",
        description="Score images with a saved model. Folders are searched for images at every "
        "depth, except for folders of models and runs in them; - reads one image from standard "
        "input. Exit status: 0 all scored, 1 some "
        "refused, 2 wrong usage or no usable model.",
    )
    predict.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER")
    add_model_option(predict)
    shown = predict.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="one JSON object per line")
    shown.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the answers to a new .csv, .jsonl, .parquet or .html file; after an "
        "interruption the same command scores only what is left",
    )
    predict.add_argument(
        "--explain",
        type=Path,
        metavar="DIR",
        help="save a sheet of each image there: the answer on a scale, where the evidence lies, "
        "error levels, and what the file is and claims. Existing sheets are kept; new ones of the "
        "same name get a number",
    )
    predict.add_argument(
        "--runtime",
        choices=["onnx", "keras"],
        help="what computes the scores (ONNX Runtime if the model has an ONNX file)",
    )
    predict.add_argument(
        "--max-false-alarms",
        type=float,
        metavar="SHARE",
        help="call an image fake only from the threshold at which at most this share of human-made "
        "validation images was: 0.05, 0.02 or 0.01",
    )
    predict.add_argument(
        "--shard",
        type=Shard.parsed,
        default=Shard(1, 1),
        metavar="I/N",
        help="only every N-th picture, from the I-th on: N commands, one for each I, share them",
    )
    predict.add_argument("--batch-size", type=int, default=32, metavar="N", help="images per step")
    predict.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="how many read and score images (OMP_NUM_THREADS, or all cores)",
    )
    predict.set_defaults(run=_predict, parser=predict)


def _predict(options: argparse.Namespace) -> int:
    for name, value in (("batch-size", options.batch_size), ("threads", options.threads)):
        if value is not None and value < 1:
            options.parser.error(f"--{name} must be at least 1. Received: {value}.")
    searched = map(os.path.realpath, filter(os.path.isdir, options.paths))
    if options.explain and any(map(options.explain.resolve().is_relative_to, searched)):
        options.parser.error(
            "--explain must not lie in a folder that is searched: its sheets would be scored "
            f"too. Received: {options.explain}."
        )
    for path in options.paths:
        check_path(path)
        if options.shard.of > 1 and not os.path.exists(path):  # noqa: PTH110  (as in `check_path`)
            raise RunError(f"Shards need files and folders that exist. Received: {path}.")
    classifier = load_classifier(options.model, options.runtime, options.threads)
    try:
        threshold = classifier.threshold_for(options.max_false_alarms)
    except ValueError as error:
        options.parser.error(with_flags(str(error), options.parser))
    others: list[str] = []
    asked = list(named_files(options.paths, others))
    files = options.shard.part(asked)
    means = meaning(classifier, threshold)
    words = [means, f"Model: {printable(options.model or PACKAGED_MODEL)}"]
    if notice := synthetic_notice(classifier.data):
        words.append(notice)
    if options.shard.of > 1:
        words.append(f"Shard {options.shard}: {len(files)} of {len(asked)} pictures.")
    report = None
    if options.out:
        made_by = {"model": repr(classifier), "files": classifier.digest, "from": threshold}
        made_by |= {"sheets": str(options.explain), "shard": str(options.shard)}
        report = Report(options.out, made_by)
    left = [file for file in files if not report or file not in report.rows]
    if options.explain:
        if options.explain.exists() and not options.explain.is_dir():
            raise RunError(f"`explain` must name a folder. Received: {options.explain}, a file.")
        options.explain.mkdir(parents=True, exist_ok=True)
        results = _explained(classifier, threshold, left, options.explain, words)
    else:
        results = _scored(classifier, threshold, left, options.batch_size)
    mixed = options.json and sys.stdout.isatty()  # lines as they come, on the same terminal
    # In a log, the answers themselves show the progress, if they are printed.
    bar = bool(report) or (sys.stderr.isatty() and not mixed)
    shown = progress_bar(results, "Predicting", len(left), shown=bar)
    if report:
        for _ in report.kept(shown):
            pass
        counts = report.write(files, words)
        refused = counts["refused"]
        print(counts.words())
        print(f"Written: {printable(str(options.out))}")
    elif options.json:
        refused = print_lines(shown)
    else:
        refused = print_table(shown, means)
    if not options.json:
        if others:
            named = f"{printable(others[0])}{' and others' if others[1:] else ''}"
            print(f"Passed over: {len(others)} without the suffix of a picture, {named}.")
        print(*words[1:], sep="\n")
        if options.explain:
            print(f"Sheets: {printable(str(options.explain))}")
    return 1 if refused else 0


def meaning(classifier: "ElaClassifier", threshold: float | None = None) -> str:
    """Return what a model's answers mean, in words for a person."""
    threshold = classifier.threshold if threshold is None else threshold
    text = MEANING.format(threshold=threshold)
    if classifier.uncertain:
        text += UNCERTAIN.format(low=classifier.uncertain[0], high=classifier.uncertain[1])
    if threshold > classifier.threshold:
        text += ASKED.format(own=classifier.threshold, threshold=threshold)
    return text


def _band(classifier: "ElaClassifier", threshold: float) -> tuple[float, float] | None:
    """Return the scores between which the answer is uncertain, under a threshold."""
    if classifier.uncertain is None and threshold <= classifier.threshold:
        return None
    low, high = classifier.uncertain or (classifier.threshold,) * 2
    return low, max(high, threshold)


def _source(file: str) -> str | IO[bytes]:
    """Return what is read for a file on the command line: standard input for ``-``."""
    return sys.stdin.buffer if file == "-" and sys.stdin else file


def _scored(
    classifier: "ElaClassifier", threshold: float, files: list[str], batch_size: int
) -> Iterator[dict[str, Any]]:
    """Yield what `--json` prints, in order."""
    scores = classifier.scores([*map(_source, files)], batch_size=batch_size)
    for file, score in zip(files, scores, strict=True):
        if isinstance(score, ImageError):
            yield _refused(file, score)
        else:
            yield _answered(file, classifier, threshold, score)


def _explained(
    classifier: "ElaClassifier",
    threshold: float,
    files: list[str],
    folder: Path,
    words: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Yield the same with the views, and save a sheet of each image."""
    from hf_ela.cli.sheet import Scale, save_sheet

    taken = {path.name.lower() for path in folder.iterdir()}
    scale = Scale(threshold, _band(classifier, threshold))
    for file in files:
        try:
            found = classifier.explain(_source(file))
        except ImageError as error:
            yield _refused(file, error)
            continue
        answered = _answered(file, classifier, threshold, found.score)
        views = [
            {**box._asdict(), "score": score}
            for box, score in zip(found.boxes, found.scores, strict=True)
        ]
        path = folder / _free_name(Path(file).name, taken)
        save_sheet(path, found, answered, scale, words)
        yield answered | {"views": views, "sheet": str(path)}


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name of a sheet that no file has yet: two folders may hold files of the same name.

    A long name is cut, between two characters.
    """
    encoded = os.fsencode(name)
    if len(encoded) > STEM:
        name = encoded[:STEM].decode(errors="ignore")
    number, sheet = 1, f"{name}.sheet.png"
    while sheet.lower() in taken:
        number += 1
        sheet = f"{name}-{number}.sheet.png"
    taken.add(sheet.lower())
    return sheet


def _answered(
    file: str, classifier: "ElaClassifier", threshold: float, score: "Score"
) -> dict[str, Any]:
    uncertain, frequency = classifier.is_uncertain(score, threshold), classifier.frequency(score)
    answer = classifier.answer(score, threshold=None if uncertain else threshold)
    notice = synthetic_notice(classifier.data)
    facts = asdict(score.info) if score.info else {}
    claims = facts.pop("claims", ())
    return {
        "file": file,
        "label": answer[0]["label"],
        "score": answer[0]["score"],
        "scores": {entry["label"]: entry["score"] for entry in answer},
        "probability": score,
        "uncertain": uncertain,
        **({"reason": score.doubt} if score.doubt else {}),
        **({"frequency": frequency} if frequency else {}),
        "claims": claims,
        "facts": {fact: value for fact, value in facts.items() if fact != "name"},
        **({"notice": notice} if notice else {}),
    }


def _refused(file: str, error: ImageError) -> dict[str, Any]:
    empty = os.path.isdir(file)  # noqa: PTH112  (a Path raises for long text)
    reason = "is a folder without images" if empty else error.reason
    return {"file": file, "error": {"type": type(error).__name__, "message": reason}}
