"""The command `hf-ela push`."""

import argparse
import sys
from pathlib import Path

from hf_ela.cli.options import Commands, with_flags


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
    push.add_argument("--token", help="access token (better: `hf auth login`)")
    push.set_defaults(run=_push, parser=push)


def _push(options: argparse.Namespace) -> int:
    from hf_ela.hub.plan import PushOptions
    from hf_ela.hub.push import release

    how = PushOptions(
        branch=options.branch,
        tag=options.tag,
        private=options.private,
        create_pr=options.create_pr,
        message=options.message,
        replace_card=options.replace_card,
    )

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
            token=options.token,
            dry_run=options.dry_run,
            say=say,
        )
    except KeyboardInterrupt:
        print("\ninterrupted; the same command finishes the job", file=sys.stderr)
        raise
    return 0
