"""``python -m hf_ela`` is the command `hf-ela`."""

import sys

from hf_ela.cli import main

if __name__ == "__main__":
    sys.exit(main())
