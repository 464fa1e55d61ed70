"""Release a run to the Hugging Face Hub.

    python push_to_hub.py runs/mine user/repo --dry-run      # the plan; nothing is sent
    python push_to_hub.py runs/mine user/repo --tag v1.0.0   # commit, verify, tag
    python push_to_hub.py runs/mine user/repo --create-pr    # propose it instead
    python push_to_hub.py runs/mine user/repo --space user/demo
    python push_to_hub.py runs/mine user/repo --widget user/page

A release is one commit. It is downloaded again and must give the recorded scores before the tag is
made. The same command finishes whatever was interrupted. This is `hf-ela push`.
"""

import sys

from hf_ela.cli import main

if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]]))
