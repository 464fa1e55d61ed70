"""The widget in a real browser: its files served on loopback, the runtime from its npm package.

    python tests/widget_page.py docs/answer.png

draws the answer of the packaged model about the first sample picture.
"""

import argparse
import base64
import mimetypes
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import HUB, REPOSITORY, chromium
from hf_ela._text import LABEL_WORDS

WIDGET = REPOSITORY / "src" / "hf_ela" / "hub" / "assets" / "widget"
CDN = "https://cdn.jsdelivr.net/npm/onnxruntime-web@"
TIMEOUT = 60_000


def runtime_files() -> dict[str, bytes]:
    """The runtime's two files as npm has them, under their addresses at the CDN."""
    source = (WIDGET / "model.js").read_text("utf-8")
    (version,) = re.findall(r'VERSION = "([\d.]+)"', source)
    names = re.findall(r'name: "([\w.-]+)"', source)
    folder = Path(tempfile.gettempdir()) / f"hf_ela_onnxruntime_web_{version}"
    if not all((folder / name).is_file() for name in names):
        if not (npm := shutil.which("npm")):
            pytest.skip("npm, which has the runtime, is not here")
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            words = [npm, "pack", f"onnxruntime-web@{version}", "--pack-destination", temporary]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"npm gave no runtime: {done.stderr[-300:]}")
            folder.mkdir(exist_ok=True)
            (package,) = Path(temporary).glob("*.tgz")
            with tarfile.open(package) as archive:
                for name in names:
                    file = archive.extractfile(f"package/dist/{name}")
                    assert file is not None
                    (Path(temporary) / name).write_bytes(file.read())
                    (Path(temporary) / name).replace(folder / name)
    return {f"{CDN}{version}/dist/{name}": (folder / name).read_bytes() for name in names}


@contextmanager
def served(files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve the files of a static Space, with the headers of its card; gives the address."""
    from huggingface_hub import SpaceCard  # reads the address of the Hub when it is imported

    headers = SpaceCard(files["README.md"].decode()).data.get("custom_headers") or {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/") or "index.html"
            body = files.get(name)
            self.send_response(404 if body is None else 200)
            kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
            self.send_header("Content-Type", kind or "application/octet-stream")
            for header, value in headers.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class WidgetPage:
    """A page of the widget, in a browser that reaches nothing but what it is meant to.

    Attributes:
        page: Playwright's.
        requests: All requests, of the worker too.
        foreign: Addresses of those that were meant for elsewhere; they were not answered.
        runtime: What the CDN gives, by address; a test may put something else there.
    """

    def __init__(self, browser: Any, url: str, hub: str, **options: Any) -> None:
        from playwright.sync_api import expect

        self.expect = expect
        self.url, self.hub = url, hub
        self.requests: list[Any] = []
        self.foreign: list[str] = []
        self.runtime = runtime_files()
        self.context = browser.new_context(**options)
        self.context.route("**/*", self._answer)
        self.page = self.context.new_page()
        self.page.set_default_timeout(TIMEOUT)

    def _answer(self, route: Any) -> None:
        url = route.request.url
        self.requests.append(route.request)
        if (body := self.runtime.get(url)) is not None:
            route.fulfill(body=body, headers={"Access-Control-Allow-Origin": "*"})
        elif url.startswith((self.url, f"{self.hub}/", "blob:")):
            route.continue_()
        else:
            self.foreign.append(url)
            route.abort()

    def open(self) -> None:
        self.page.goto(self.url)
        self.expect(self.page.locator("#unsupported")).to_be_hidden(timeout=TIMEOUT)

    def choose(self, name: str, data: bytes) -> None:
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        self.page.set_input_files("#file", file)

    def score(self, name: str) -> float:
        """The score that is shown, once it is that of this file."""
        self.expect(self.page.locator("#status")).to_contain_text(f"{name}: ", timeout=TIMEOUT)
        assert self.page.locator("#problem").is_hidden()
        return float(self.page.get_attribute("#score", "data-value"))

    def answer(self, name: str, data: bytes) -> tuple[str, bool, str, list[str]] | None:
        """Label, whether it is uncertain, the doubt, and what the file says; None if refused."""
        self.choose(name, data)
        self.page.wait_for_function(
            "(name) => { const at = (id) => document.getElementById(id);"
            "return at('status').textContent.startsWith(`${name}: `) ||"
            " (!at('problem').hidden && at('problem-text').textContent.startsWith(name)); }",
            arg=name,
        )
        if self.page.locator("#problem").is_visible():
            return None
        verdict = self.page.inner_text("#verdict")
        label = next(label for label, words in LABEL_WORDS.items() if words in verdict)
        reason = verdict.partition(" (")[2].removesuffix(")")
        claims = self.page.locator("#claim-list li").all_inner_texts()
        words = [claim.partition("says: ")[2].rpartition(" (")[0] for claim in claims]
        return label, "uncertain" in verdict, reason, words

    def assert_problem(self, text: str) -> None:
        """Wait for an error that says so; there is no answer beside it."""
        alert = self.page.get_by_role("alert")
        self.expect(alert).to_contain_text(text, timeout=TIMEOUT)
        assert self.page.locator("#answer").is_hidden()

    def module(self, name: str, function: str, argument: Any = None) -> Any:
        """Call a JavaScript function of (module, argument), a module of the page."""
        return self.page.evaluate(
            f"async ([name, argument]) => ({function})"
            "(await import(new URL(name, document.baseURI)), argument)",
            [name, argument],
        )


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def draw_answer(path: str, *, width: int = 1280, sample: int = 0, whole: bool = False) -> None:
    """Draw what the page says about a sample picture: its answer, or the whole page."""
    from playwright.sync_api import sync_playwright

    from hf_ela.hub.locate import packaged_model
    from hf_ela.hub.package import SAMPLES
    from hf_ela.hub.release_files import widget_files

    title = list(SAMPLES.values())[sample]
    names = ("hf_ela.json", "model.onnx")
    with HUB as hub, sync_playwright() as playwright:
        files = {name: (packaged_model() / name).read_bytes() for name in names}
        commit = hub.add_model("user/art", files).find("main").sha
        chrome = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        with served(widget_files("user/art", commit)) as url:
            viewport = {"width": width, "height": 900}
            widget = WidgetPage(chrome, url, hub.endpoint, viewport=viewport)
            widget.open()
            widget.page.get_by_role("button", name=title).click()
            widget.score(title)
            widget.expect(widget.page.locator("#ela")).to_be_visible(timeout=TIMEOUT)
            place = widget.page if whole else widget.page.locator("#answer")
            place.screenshot(path=path, **({"full_page": True} if whole else {}))
        chrome.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the answer about the first sample picture.")
    parser.add_argument("path", metavar="PNG", help="the picture to write")
    path = parser.parse_args().path
    draw_answer(path)
    with Image.open(path) as drawn:
        drawn.thumbnail((800, 2000))
        drawn.convert("RGB").quantize(256).save(path, optimize=True)  # a README is for all
