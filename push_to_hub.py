"""Release a run to the Hugging Face Hub.

    python push_to_hub.py runs/mine user/repo --dry-run      # the plan; nothing is sent
    python push_to_hub.py runs/mine user/repo --tag v1.0.0   # commit, verify, tag
    python push_to_hub.py runs/mine user/repo --create-pr    # propose it instead
    python push_to_hub.py runs/mine user/repo --space user/demo
    python push_to_hub.py runs/mine user/repo --widget user/page

A release is one commit. It is downloaded again and must give the recorded scores before the tag
is made. Whatever was interrupted is finished by the same command.
"""

import argparse
import sys
from pathlib import Path

from hf_ela._text import few_bars_in_logs, printable_error
from hf_ela.errors import HfElaError


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("run", type=Path, metavar="RUN", help="the folder that train.py wrote")
    p.add_argument("repo", metavar="USER/NAME", help="the model's repository; made if new")
    p.add_argument("--dry-run", action="store_true", help="show the plan and send nothing")
    p.add_argument("--tag", metavar="vX.Y.Z", help="name the release, once it is verified")
    p.add_argument("--branch", default="main", help="where to commit (main)")
    p.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    p.add_argument("--private", action="store_true", help="make a new repository private")
    p.add_argument("--message", metavar="TEXT", help="of the commit")
    p.add_argument(
        "--replace-card",
        action="store_true",
        help="send the card of RUN in place of the one on the Hub, hand-written text too",
    )
    p.add_argument("--space", metavar="USER/NAME", help="push the demo Space of this release too")
    p.add_argument(
        "--widget", metavar="USER/NAME", help="push a static Space that runs it in the browser too"
    )
    p.add_argument("--token", help="of the Hub; better: `hf auth login`")
    return p


def main() -> int:
    """Run the command line; return the exit status."""
    args = parser().parse_args()
    few_bars_in_logs()
    try:
        from hf_ela.hub.plan import PushOptions
        from hf_ela.hub.push import release

        options = PushOptions(
            branch=args.branch,
            tag=args.tag,
            private=args.private,
            create_pr=args.create_pr,
            message=args.message,
            replace_card=args.replace_card,
        )
        release(
            args.run,
            args.repo,
            options,
            space=args.space,
            widget=args.widget,
            token=args.token,
            dry_run=args.dry_run,
        )
    except KeyboardInterrupt:
        print("\ninterrupted; the same command again finishes the job", file=sys.stderr)
        return 130
    except HfElaError as error:
        print(f"push_to_hub.py: {printable_error(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
