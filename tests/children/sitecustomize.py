"""Notes the other hosts that a process looks up or connects to, whatever a test starts.

Python imports it at every start: `conftest` puts its folder on PYTHONPATH. pip may ask its index.
"""

import os
import sys
from contextlib import suppress
from typing import Any

HERE = (None, "", "localhost", "127.0.0.1", "::1")


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in HERE and not host.endswith(".invalid"):
        with suppress(OSError), open(os.environ["CALLED_HOSTS"], "a") as called:  # noqa: PTH123
            called.write(f"{host}, by {' '.join(sys.orig_argv)[:200]!r}\n")


if not {"pip", "__pip-runner__.py"} & {word.rpartition("/")[2] for word in sys.orig_argv}:
    sys.addaudithook(_note)
