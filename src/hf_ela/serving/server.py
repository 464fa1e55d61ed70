"""`hf-ela serve`: the answers of an endpoint and a page that asks for them, on one machine."""

import asyncio
import ipaddress
import json
import time
from collections import Counter
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from hf_ela._version import __version__
from hf_ela.serving.requests import MAX_BYTES, MAX_IMAGES, SECONDS, RequestError, Requests

if TYPE_CHECKING:
    from hf_ela.classifier import ElaClassifier

PAGE = files("hf_ela") / "serving" / "page"
MAX_BODY = MAX_BYTES * MAX_IMAGES // 4
"""Bytes of a request: an image of the largest size in base64, or a list of smaller ones."""
BYTES = ("image/", "application/octet-stream")
"""Content types of a body that is an image."""
MINUTE = 60
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page can reach nothing but this server."""


class Server:
    """The application, for any ASGI server.

    Attributes:
        app: Answers ``POST /`` as an Inference Endpoint does, ``GET /openapi.json``,
            ``GET /health``, and ``GET /`` with the page.
    """

    def __init__(self, classifier: "ElaClassifier", host: str, rate: int) -> None:
        """Serve a loaded model.

        Args:
            classifier: The model.
            host: The address that is listened on. On a loopback address only requests that name
                one are answered, so that no page of another host can reach the server.
            rate: Most requests a minute of one address.
        """
        self._requests, self._rate = Requests(classifier), rate
        self._asked: Counter[str] = Counter()
        self._minute = 0
        hosts = ["localhost", "127.0.0.1", "[::1]", host] if _is_loopback(host) else ["*"]
        self.app = Starlette(
            routes=[
                Route("/", self._answer, methods=["POST"]),
                Route("/health", lambda _: JSONResponse({"status": "ok"})),
                Route("/openapi.json", self._openapi),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
            exception_handlers={HTTPException: _refusal},
        )
        self.app.mount("/", _Page(directory=str(PAGE), html=True))

    async def _answer(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.startswith(BYTES):
            raise HTTPException(
                415, "Send an image with its Content-Type, such as image/jpeg, or application/json."
            )
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise HTTPException(403, "Pages of other sites are not answered.")
        self._count(request)
        body = await _body(request)
        if kind == "application/json":
            try:
                data = json.loads(body)
            except (ValueError, RecursionError):
                raise HTTPException(400, "The body must be JSON.") from None
            if not isinstance(data, dict) or "inputs" not in data:
                raise HTTPException(400, "The body must be an object with `inputs`.")
        else:
            data = {"inputs": body}
        in_address = {
            name: {"true": True, "false": False}.get(value, value)
            for name, value in request.query_params.items()
        }
        in_body = data.get("parameters") or {}
        if isinstance(in_body, dict):  # else the answer says what it must be
            data["parameters"] = in_address | in_body
        try:
            answer: Any = await run_in_threadpool(self._requests.answer, data)
        except RequestError as error:
            raise HTTPException(400, str(error)) from error
        except RuntimeError as error:
            raise HTTPException(500, str(error)) from error
        return JSONResponse(answer)

    def _count(self, request: Request) -> None:
        """Count the requests of an address in this minute."""
        if (minute := int(time.monotonic() // MINUTE)) != self._minute:
            self._minute = minute
            self._asked.clear()
        address = request.client.host if request.client else ""
        self._asked[address] += 1
        if self._asked[address] > self._rate:
            wait = MINUTE - int(time.monotonic() % MINUTE)
            raise HTTPException(
                429,
                f"At most {self._rate} requests a minute are answered. Try again in {wait} s.",
                {"Retry-After": str(wait)},
            )

    async def _openapi(self, _: Request) -> Response:
        contract = json.loads((files("hf_ela") / "serving" / "openapi.json").read_text("utf-8"))
        contract["info"]["version"] = __version__
        return JSONResponse(contract)


class _Page(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


async def _body(request: Request) -> bytes:
    """Return the body, of which no more than `MAX_BODY` is read, within `SECONDS`."""
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise HTTPException(413, f"A request must have at most {MAX_BODY:,} bytes.")
    except TimeoutError:
        raise HTTPException(408, f"The request did not arrive within {SECONDS} s.") from None
    return bytes(body)


async def _refusal(_: Request, error: Any) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
