"""What the `hf` command line makes of a job, without sending it."""

import os
import subprocess
import sys
from collections.abc import Sequence


def resolved(words: Sequence[str]) -> dict[str, str]:
    """Return what `hf jobs uv run --dry-run` prints of `hf jobs uv run ...`, by name.

    A wrong option does not end it, but is taken for the script.
    """
    assert words[:4] == ["hf", "jobs", "uv", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", *words[1:4], "--dry-run", *words[4:]],
        env=os.environ | {"HF_HUB_DISABLE_UPDATE_CHECK": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = (line.split(None, 1) for line in done.stdout.splitlines() if line.startswith("  "))
    return dict(row for row in rows if len(row) == 2)
