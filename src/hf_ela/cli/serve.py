"""The command `hf-ela serve`."""

import argparse
import socket

from hf_ela.cli.options import Commands, add_model_option, load_classifier
from hf_ela.errors import RunError, needs_extra

RATE, WAITING = 600, 64
"""Requests a minute of one address, and requests at once."""


def add_serve(commands: Commands) -> None:
    """Add `hf-ela serve`."""
    serve = commands.add_parser(
        "serve",
        help="answer requests and show a page, on this machine",
        description="Serve a model as an Inference Endpoint does: POST / takes an image, or JSON "
        "with images in base64; GET /openapi.json describes it; GET / is a page that asks. Only "
        "this machine can reach it, unless --host says otherwise.",
    )
    add_model_option(serve)
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1")
    serve.add_argument("--port", type=int, default=7861, metavar="N", help="default: 7861")
    serve.add_argument(
        "--rate",
        type=int,
        default=RATE,
        metavar="N",
        help=f"most requests a minute of one address ({RATE})",
    )
    serve.set_defaults(run=_serve, parser=serve)


def _serve(options: argparse.Namespace) -> int:
    if options.rate < 1:
        options.parser.error(f"--rate must be at least 1. Received: {options.rate}.")
    if not 0 <= options.port < 2**16:
        options.parser.error(f"--port must be from 0 to 65535. Received: {options.port}.")
    with needs_extra("serve", "Serving"):
        import uvicorn

        from hf_ela.serving.server import Server
    server = Server(load_classifier(options.model), options.host, options.rate)
    host = f"[{options.host}]" if ":" in options.host else options.host
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listening = socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        raise RunError(
            f"{host}:{options.port} cannot be listened on: {error}. Choose another `port`."
        ) from error
    with listening:
        port = listening.getsockname()[1]
        print(f"Serving on http://{host}:{port}  (Ctrl-C stops it)", flush=True)
        # The address is that of who connects, whatever a header says.
        config = uvicorn.Config(
            server.app, log_level="warning", proxy_headers=False, limit_concurrency=WAITING
        )
        uvicorn.Server(config).run([listening])
    return 0
