"""`hf-ela serve`: the contract of an endpoint over HTTP, its page, and what it refuses."""

import json
import socket
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.error import HTTPError

import pytest
import uvicorn
from huggingface_hub import InferenceClient

from bad_files import encode, picture
from hf_ela import ElaClassifier
from hf_ela.serving import server as serving
from hf_ela.serving.server import Server

JPEG = encode(picture(150, 90), "JPEG", quality=87)


@pytest.fixture(scope="module")
def classifier(saved_crops) -> ElaClassifier:
    return ElaClassifier.from_pretrained(saved_crops)


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Serve an application on a free port of loopback, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", proxy_headers=False))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(classifier) -> Iterator[str]:
    with running(Server(classifier, "127.0.0.1", 1000).app) as found:
        yield found


def post(address: str, body: bytes, kind: str, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(address, body, {"Content-Type": kind, **headers})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_an_image_is_answered_as_python_answers_it(address, classifier, tmp_path) -> None:
    first, second = classifier.predict(JPEG)
    first |= {"probability": next(classifier.scores([JPEG]))}
    assert post(address, JPEG, "image/jpeg") == (200, [first, second])
    assert post(f"{address}?top_k=1", JPEG, "application/octet-stream") == (200, [first])
    asked = {"inputs": b64encode(JPEG).decode(), "parameters": {"top_k": 1}}
    for where in ("?top_k=2", "?threshold=0.5&top_k=2"):  # the body wins
        status, answer = post(f"{address}{where}", json.dumps(asked).encode(), "application/json")
        assert (status, len(answer)) == (200, 1)
    (tmp_path / "a.jpg").write_bytes(JPEG)
    found = InferenceClient(address).image_classification(str(tmp_path / "a.jpg"))
    assert [one.label for one in found] == [one["label"] for one in classifier.predict(JPEG)]


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"no image", "image/png", 400, "The image is refused: "),
        (b"x", "text/plain", 415, "Send an image with its Content-Type"),
        (b"{", "application/json", 400, "The body must be JSON."),
        (b"[" * 1900, "application/json", 400, "The body must be JSON."),
        (b"[]", "application/json", 400, "must be an object with `inputs`"),
        (b'{"inputs": 7}', "application/json", 400, "Received: int"),
        (b"0" * 3000, "image/png", 413, "A request must have at most 2,000 bytes."),
    ],
)
def test_refusals(address, monkeypatch, body, kind, status, message) -> None:
    monkeypatch.setattr(serving, "MAX_BODY", 2000)
    found, answer = post(address, body, kind)
    assert found == status
    assert message in answer["error"]


def test_a_page_of_another_host_is_not_answered(address, classifier) -> None:
    def status(host: str, app: str) -> int:
        connection = HTTPConnection(app.removeprefix("http://"))
        with closing(connection):
            connection.request("GET", "/health", headers={"Host": host})
            return connection.getresponse().status

    assert status("localhost", address) == 200
    assert status("evil.example", address) == 400
    with running(Server(classifier, "0.0.0.0", 1000).app) as everywhere:
        assert status("my.server", everywhere) == 200
    with running(Server(classifier, "127.0.0.2", 1000).app) as elsewhere:
        assert status("127.0.0.2", elsewhere) == 200


def test_requests_of_a_minute_are_limited(classifier, monkeypatch) -> None:
    monkeypatch.setattr(serving, "MINUTE", 10**9)  # or one may end meanwhile
    with running(Server(classifier, "127.0.0.1", 2).app) as address:
        for _ in range(3):  # what other sites' pages can send does not count
            assert post(address, b"x", "text/plain")[0] == 415
            assert post(address, b"x", "image/png", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
        forwarded = [{"X-Forwarded-For": f"10.0.0.{number}"} for number in range(4)]
        found = [post(address, b"x", "image/png", **headers)[0] for headers in forwarded]
    assert found == [400, 400, 429, 429]


def test_the_contract_is_described(address) -> None:
    with urllib.request.urlopen(f"{address}/openapi.json") as response:
        contract = json.load(response)
    assert contract["openapi"].startswith("3.")
    assert contract["info"]["version"]
    named = {one["name"] for one in contract["paths"]["/"]["post"]["parameters"]}
    status, answer = post(f"{address}?nonsense=1", JPEG, "image/jpeg")
    assert status == 400
    assert all(name in answer["error"] for name in named)


def test_the_page_reaches_only_its_server(address) -> None:
    for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/style.css", "css")):
        with urllib.request.urlopen(address + path) as response:
            assert kind in response.headers["Content-Type"]
            assert "connect-src 'self'" in response.headers["Content-Security-Policy"]
            assert "http" not in response.read().decode()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rate 0", "--rate must be at least 1. Received: 0."),
        ("--port 70000", "--port must be from 0 to 65535. Received: 70000."),
    ],
)
def test_wrong_usage(command, words, message) -> None:
    assert message in command(f"serve {words}", status=2).err


def test_a_port_that_is_taken(command, address, saved_crops) -> None:
    port = address.rpartition(":")[2]
    err = command(f"serve --model {saved_crops} --port {port}", status=2).err
    assert f"127.0.0.1:{port} cannot be listened on: " in err
    assert "Choose another --port." in err
