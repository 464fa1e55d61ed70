"""The command `hf-ela score`."""

import argparse

from hf_ela._terminal import native_messages_held_back, printable, progress_bar
from hf_ela.cli.answers import Counts
from hf_ela.cli.options import Commands, add_model_option
from hf_ela.errors import needs_extra


def add_score(commands: Commands) -> None:
    """Add `hf-ela score`."""
    score = commands.add_parser(
        "score",
        help="score many pictures, on one machine or a Ray cluster",
        description="Score all pictures of a folder, of a bucket (s3://, gs://) or of a dataset of "
        "the Hub, as files or in Parquet, and write Parquet: path, fake, label, uncertain, error. "
        "After an interruption the same command scores only what is left. Exit status: 0 all "
        "scored, 1 some refused, 2 wrong usage, or it cannot be done.",
    )
    score.add_argument(
        "source", metavar="SOURCE", help="a folder, a bucket, or user/name[@revision] on the Hub"
    )
    score.add_argument(
        "--out", required=True, metavar="DIR", help="folder or bucket for the Parquet files"
    )
    add_model_option(score)
    score.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of a Ray cluster, or auto for that of this machine; by default Ray is started here",
    )
    score.set_defaults(run=_score, parser=score)


def _score(options: argparse.Namespace) -> int:
    with needs_extra("scale", "`hf-ela score`"):
        from hf_ela.scoring.job import Job
        from hf_ela.scoring.pictures import Pictures
    from hf_ela.classifier import ElaClassifier
    from hf_ela.hub.locate import split_revision

    source, revision = split_revision(options.model) if options.model else (None, None)
    pictures = Pictures.find(options.source)
    with native_messages_held_back():
        classifier = ElaClassifier.from_pretrained(source, revision=revision)
    job = Job(classifier, pictures, options.out, options.address)
    if before := job.total - job.left:
        print(f"Scored before: {before} of {job.total}.")
    counts = Counts(progress_bar(job.answers(), "Scoring", job.left))
    if counts:
        print(counts.words())
    print(f"Results: {printable(options.out)}")
    return 1 if job.refused + counts["refused"] else 0
