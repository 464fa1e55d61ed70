"""The endpoint's handler and the Space, as their users get them: in an environment of their own."""

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from huggingface_hub import InferenceClient, SpaceCard
from packaging.requirements import Requirement
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from scipy.special import logit

from bad_files import encode, picture
from conftest import REPOSITORY, TINY, wait_for
from hf_ela import ElaClassifier
from hf_ela._text import LABEL_WORDS, SYNTHETIC_NOTICE
from hf_ela.errors import ImageError
from hf_ela.hub.package import SAMPLES, sample_pictures
from hf_ela.hub.private import content_of
from hf_ela.hub.release_files import model_files, space_files, widget_files
from hf_ela.images.claims import Claim
from hf_ela.recipes.loading import load_recipe
from networks import network_of
from test_claims import MARKED
from toolkit import load_handler
from widget_page import WidgetPage, base64_of
from widget_page import served as served_page

JPEG = encode(picture(150, 90), "JPEG", quality=87)
PNG = encode(picture(80, 120, seed=1), "PNG")


@pytest.fixture(scope="module")
def trained() -> ElaClassifier:
    recipe = load_recipe("scratch", [*TINY, "input.grid=2"])
    unsure = ElaClassifier(network_of(recipe, seed=2), recipe, temperature=2)
    # The one picture in the band, the other outside.
    inside, outside = score_of(unsure, PNG), score_of(unsure, JPEG)
    unsure.threshold = (inside + outside) / 2
    unsure.uncertain = tuple(sorted((inside + (inside - outside) / 100, unsure.threshold)))
    return unsure


@pytest.fixture(scope="module")
def release(trained, tmp_path_factory) -> Path:
    """What an endpoint downloads, as links into a cache, such as the Hub's client makes."""
    blobs, folder = (tmp_path_factory.mktemp(name) for name in ("blobs", "release"))
    trained.save_pretrained(blobs / "model")
    for number, (name, file) in enumerate(model_files(blobs / "model").items()):
        (blobs / str(number)).write_bytes(content_of(file))
        (folder / name).symlink_to(blobs / str(number))
    return folder


@pytest.fixture(scope="module")
def classifier(release) -> ElaClassifier:
    return ElaClassifier.from_pretrained(release)


def score_of(classifier: ElaClassifier, data: bytes) -> float:
    return next(iter(classifier.scores([data])))


@pytest.fixture(scope="module")
def handler(release) -> Iterator[Callable[[dict[str, Any]], Any]]:
    path = sys.path[:]
    yield load_handler(str(release))
    sys.path[:] = path


def test_a_model_with_onnx_needs_no_keras(trained, release, tmp_path) -> None:
    trained.save_pretrained(tmp_path / "model", onnx=False)
    without = model_files(tmp_path / "model")
    needed = content_of(without["requirements.txt"]).decode()
    assert {"keras", "jax"} <= {Requirement(line).name for line in needed.splitlines()}
    assert "model.onnx" not in without
    assert (release / "model.onnx").is_file()
    pinned = (release / "requirements.txt").read_text()
    assert "keras" not in pinned
    assert {str(Requirement(line).specifier)[:2] for line in pinned.splitlines()} == {"=="}


def plain(answer: Any) -> Any:
    """An answer, or several, without what stands beside the entries of Python."""
    if isinstance(answer, list):
        return [plain(one) for one in answer]
    return {name: value for name, value in answer.items() if name != "probability"}


def asked(**parameters: object) -> dict[str, Any]:
    return {"inputs": JPEG, "parameters": parameters}


class TestHandler:
    """The handler's answers; it is loaded here as the toolkit loads it, for speed."""

    @pytest.mark.parametrize("data", [JPEG, PNG], ids=["jpeg", "png"])
    def test_every_form_of_an_image_gives_its_score(self, handler, classifier, data) -> None:
        expected = classifier.predict(data)
        lines = base64.encodebytes(data).decode()  # as the `base64` command prints it
        pixels = Image.open(BytesIO(data)).convert("RGB")
        text = base64_of(data)
        for_addresses = base64.urlsafe_b64encode(data).decode().rstrip("=")
        uris = [f"{scheme}:image/x;base64,{text}" for scheme in ("data", "DATA")]
        forms = [data, pixels, text, lines, for_addresses, *uris]
        for form in forms:
            assert plain(handler({"inputs": form})) == expected
        assert plain(handler({"inputs": forms})) == [expected] * len(forms)
        assert handler({"inputs": data})[0]["probability"] == score_of(classifier, data)

    def test_a_list_of_one_gives_a_list(self, handler, classifier) -> None:
        assert plain(handler({"inputs": [JPEG]})) == [classifier.predict(JPEG)]

    def test_one_refused_image_leaves_the_others(self, handler, classifier) -> None:
        bad = ["%%%", base64_of(b"no image"), 7, base64_of(JPEG[:300])]
        good, *refused, last = plain(handler({"inputs": [JPEG, *bad, PNG]}))
        assert (good, last) == (classifier.predict(JPEG), classifier.predict(PNG))
        assert [list(answer) for answer in refused] == [["error"]] * 4
        reasons = ["as base64 text", "one of AVIF"]
        reasons += ["Received: int", "truncated"]
        for answer, reason in zip(refused, reasons, strict=True):
            assert reason in answer["error"]

    def test_what_the_file_says_stands_beside_the_score(self, handler, classifier) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Software] = "Midjourney"
        data = encode(picture(150, 90), "JPEG", quality=87, exif=exif)
        first, second = handler({"inputs": data})
        (claim,) = first.pop("claims")
        assert (claim["says"], claim["tool"], claim["verified"]) == ("ai", "Midjourney", None)
        assert [first, second] == handler({"inputs": JPEG})

    @pytest.mark.parametrize("value", [1, "1", 1.0])
    def test_top_k(self, handler, classifier, value) -> None:
        assert plain(handler(asked(top_k=value))) == classifier.predict(JPEG)[:1]
        # None is what some clients send for "not given".
        assert plain(handler(asked(top_k=9, threshold=None))) == classifier.predict(JPEG)

    def test_threshold(self, handler, classifier) -> None:
        score = score_of(classifier, JPEG)
        for threshold, label in ((0.001, "fake"), (score, "fake"), (str(score + 1e-6), "real")):
            answer = handler(asked(threshold=threshold))
            assert answer[0]["label"] == label
            assert plain(answer) == classifier.answer(score, threshold=float(threshold))

    def test_fewer_false_alarms(self, handler, monkeypatch) -> None:
        monkeypatch.setattr(handler.requests.classifier, "false_alarms", {"0.05": 1.0})
        assert [one["label"] for one in handler(asked(max_false_alarms=0.05))] == ["real", "fake"]
        with pytest.raises(
            ValueError, match=r"must be a share for which this model has a threshold: 0\.05\. Rec"
        ):
            handler(asked(max_false_alarms="0.01"))
        with pytest.raises(ValueError, match="Received: both"):
            handler(asked(max_false_alarms=0.05, threshold=0.5))

    def test_the_function_to_apply(self, handler, classifier) -> None:
        expected = classifier.predict(JPEG)
        for same in ("softmax", "sigmoid"):
            assert plain(handler(asked(function_to_apply=same))) == expected
        odds = [one["score"] for one in handler(asked(function_to_apply="none"))]
        assert odds == pytest.approx([logit(one["score"]) for one in expected])
        with pytest.raises(
            ValueError, match=r"must be one of softmax, sigmoid, none\. Received: 'x'"
        ):
            handler(asked(function_to_apply="x"))

    def test_abstains_when_asked(self, handler, classifier) -> None:
        parameters = {"abstain": True, "threshold": None}
        answers = handler({"inputs": [PNG, JPEG], "parameters": parameters})
        assert plain(answers) == classifier.predict([PNG, JPEG], abstain=True)
        assert [len(answer) for answer in answers] == [3, 2]
        assert plain(handler({"inputs": PNG})) == classifier.predict(PNG)
        best = handler({"inputs": PNG, "parameters": {"abstain": True, "top_k": 1}})
        assert [entry["label"] for entry in best] == ["uncertain"]

    @pytest.mark.parametrize(
        ("image", "why"),
        [
            (Image.new("RGB", (300, 200), "white"), "nothing to see: one colour, a gradient or"),
            (picture(9, 9), "too small: a side of fewer than "),
        ],
    )
    def test_an_image_that_allows_no_answer_gets_its_reason(
        self, handler, classifier, image, why
    ) -> None:
        data = encode(image, "PNG")
        for given in ({}, {"threshold": 0.9}, {"top_k": 1}, {"abstain": True}):
            first, *others = handler({"inputs": data, "parameters": given})
            assert first["reason"].startswith(why)
            assert (first["label"] == "uncertain") is ("abstain" in given)
            assert all({*entry} == {"label", "score"} for entry in others)
        for abstain in (False, True):
            answer = handler({"inputs": [data, JPEG], "parameters": {"abstain": abstain}})
            assert plain(answer) == classifier.predict([data, JPEG], abstain=abstain)
            json.dumps(answer)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({}, "must be an image"),
            ({"inputs": {"image": "x"}}, "must be an image.* Received: dict"),
            ({"inputs": []}, "list of 1 to 16. Received: a list of 0"),
            ({"inputs": [JPEG] * 17}, "list of 1 to 16. Received: a list of 17"),
            ({"inputs": "../etc/passwd"}, "a file as base64 text"),
            ({"inputs": "https://example.com/a.jpg"}, "a file as base64 text"),
            ({"inputs": bytes(20 * 2**20 + 1)}, "at most 20,971,520 bytes"),
            ({"inputs": "A" * 28 * 2**20}, "at most 20,971,520 bytes"),
            ({"inputs": b""}, "is empty"),
            ({"inputs": JPEG, "parameters": [1]}, "must be an object. Received: list"),
            (asked(topk=1), "may have top_k, threshold, abstain"),
            (asked(abstain="yes"), "must be true or false. Rec"),
            (asked(abstain=True, threshold=0.5), "Received: both, with threshold=0.5"),
            *(
                (asked(top_k=k), "`top_k` must be a whole number")
                for k in (0, -1, 1.5, True, "two", float("nan"), float("inf"), 10**400, [1])
            ),
            *(
                (asked(threshold=t), "`threshold` must be a number")
                for t in (-0.1, 1.1, float("nan"), "half", False)
            ),
        ],
    )
    def test_refusals_say_the_rule(self, handler, data, message) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            handler(data)
        assert type(caught.value).__name__ == "RequestError"
        assert len(str(caught.value)) < 300

    def test_a_model_trained_on_synthetic_samples_says_so(self, trained, tmp_path) -> None:
        trained.data = {"synthetic": True}
        trained.save_pretrained(tmp_path / "model", onnx=False)
        trained.data = None
        for name, file in model_files(tmp_path / "model").items():
            (tmp_path / name).write_bytes(content_of(file))
        path = sys.path[:]
        first, *rest = load_handler(str(tmp_path))({"inputs": JPEG})
        sys.path[:] = path
        assert first["notice"] == SYNTHETIC_NOTICE
        assert "notice" not in rest[0]

    def test_a_file_that_takes_too_long_is_refused(self, handler, monkeypatch) -> None:
        monkeypatch.setattr("hf_ela.serving.requests.SECONDS", 0.1)
        slow, over = Image.new("RGB", (64, 64)), Event()
        slow.load = over.wait
        with pytest.raises(ValueError, match=r"No answer within 0\.1 seconds"):
            handler({"inputs": slow})
        assert "No answer within" in handler({"inputs": [slow]})[0]["error"]
        over.set()

    def test_an_error_of_ours_tells_the_client_nothing(self, handler, monkeypatch, caplog) -> None:
        monkeypatch.setattr(handler.requests.classifier, "recipe", None)  # as if it were broken
        with pytest.raises(RuntimeError, match=r"^The request failed. See the log"):
            handler({"inputs": JPEG})
        assert "AttributeError" in caplog.text


def run_quietly(*command: object) -> None:
    """Run a command; what it printed is in the error."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")


@pytest.fixture(scope="module")
def clean(release, tmp_path_factory) -> Path:
    """The Python of an environment with nothing but what `requirements.txt` names."""
    folder = tmp_path_factory.mktemp("clean")
    run_quietly(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    try:
        run_quietly(python, "-m", "pip", "install", "--no-deps", "packaging")
    except RuntimeError as error:
        pytest.skip(f"nothing can be installed here: {error}")
    run_quietly(python, "-m", "pip", "install", "-r", release / "requirements.txt")
    without = (
        "import importlib.util as u; assert not any(map(u.find_spec, ['keras', 'jax', 'onnx']))"
    )
    run_quietly(python, "-c", without)
    return python


@contextmanager
def served(command: list[object], folder: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run a server, without anything of this environment."""
    process = subprocess.Popen(
        [*map(str, command)],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "HF_HUB_OFFLINE": "1"}
        | {name: os.environ[name] for name in ("PYTHONPATH", "CALLED_HOSTS")}
        | env,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def endpoint(clean, release, tmp_path_factory) -> Iterator[str]:
    command = [clean, REPOSITORY / "tests" / "toolkit.py", release]
    home = tmp_path_factory.mktemp("home")
    with served(command, home) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    assert [*home.iterdir()] == []  # ONNX Runtime would leave what it reports to its maker


@pytest.mark.second_lane
class TestEndpoint:
    def post(self, url: str, body: bytes, content_type: str) -> tuple[int, Any]:
        request = Request(url, body, {"Content-Type": content_type})
        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def test_gives_the_scores_of_this_environment(self, endpoint, classifier) -> None:
        jpeg, png = score_of(classifier, JPEG), score_of(classifier, PNG)
        assert abs(jpeg - png) > 0.01  # or it would show nothing
        status, answer = self.post(endpoint, JPEG, "image/jpeg")
        scores = {entry["label"]: entry["score"] for entry in answer}
        assert status == 200
        expected = {entry["label"]: entry["score"] for entry in classifier.answer(jpeg)}
        assert scores == pytest.approx(expected, abs=1e-4)
        batch = {"inputs": [base64_of(JPEG), base64_of(PNG)], "parameters": {"threshold": 0.5}}
        status, answer = self.post(endpoint, json.dumps(batch).encode(), "application/json")
        found = [{entry["label"]: entry["score"] for entry in one}["fake"] for one in answer]
        assert found == pytest.approx([jpeg, png], abs=1e-4)

    def test_parameters_in_the_address(self, endpoint) -> None:
        status, answer = self.post(f"{endpoint}?top_k=1&threshold=0.0", PNG, "image/png")
        assert (status, [entry["label"] for entry in answer]) == (200, ["fake"])
        status, answer = self.post(f"{endpoint}?abstain=true", PNG, "image/png")
        assert (status, answer[0]["label"]) == (200, "uncertain")

    def test_refusals_are_status_400_and_json(self, endpoint) -> None:
        status, answer = self.post(f"{endpoint}?top_p=1", PNG, "image/png")
        assert status == 400
        assert answer == {
            "error": "`parameters` may have top_k, threshold, abstain, function_to_apply, "
            "max_false_alarms. "
            "Received: 'top_p'."
        }
        body = json.dumps({"inputs": base64_of(b"GIF89a")}).encode()
        status, answer = self.post(endpoint, body, "application/json")
        assert status == 400
        assert answer["error"].startswith("The image is refused: ")

    def test_the_hubs_own_client_reads_it(self, endpoint, classifier, tmp_path) -> None:
        (tmp_path / "art.jpg").write_bytes(JPEG)
        client = InferenceClient(endpoint)
        for options in ({}, {"top_k": 1}):  # the file itself; with parameters, as base64
            answer = client.image_classification(str(tmp_path / "art.jpg"), **options)
            assert len(answer) == options.get("top_k", 2)
            best = classifier.predict(JPEG)[0]
            assert answer[0].label == best["label"]
            assert answer[0].score == pytest.approx(best["score"], abs=1e-4)


@pytest.fixture(scope="module")
def space(browser, clean, served_hub, release, tmp_path_factory) -> Iterator[str]:
    """The page of a Space, which loads its model from the Hub."""
    folder = tmp_path_factory.mktemp("space")
    model = served_hub.add_model(
        "user/model", {p.name: p.read_bytes() for p in release.iterdir() if p.is_file()}
    )
    for name, content in space_files("user/model", model.find("main").sha).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    version = SpaceCard.load(folder / "README.md").data["sdk_version"]
    needed = ["-r", folder / "requirements.txt"]
    run_quietly(clean, "-m", "pip", "install", f"gradio=={version}", *needed)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"GRADIO_SERVER_PORT": str(port)}
    env["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("uploads"))
    names = served_hub.environment(tmp_path_factory.mktemp("home"))
    env |= {key: value for key, value in names.items() if key.startswith("HF_")}
    env["HF_HUB_OFFLINE"] = "0"
    with served([clean, "app.py"], folder, **env) as process:

        def answers() -> bool:
            with socket.socket() as probe:
                return not probe.connect_ex(("127.0.0.1", port))

        wait_for(answers, process)
        yield f"http://127.0.0.1:{port}/"


def send(address: str, body: bytes, kind: str) -> Any:
    with urlopen(Request(address, body, {"Content-Type": kind}), timeout=300) as answer:
        return json.load(answer)


def call(space: str, name: str, *arguments: object) -> Any:
    """Call a function of the Space by its name, as its clients do; None for an error."""
    at = f"{space}gradio_api/call/{name}"
    asked = json.dumps({"data": arguments}).encode()
    event = send(at, asked, "application/json")["event_id"]
    with urlopen(f"{at}/{event}", timeout=300) as stream:
        last = stream.read().decode()
    return None if "event: error" in last else json.loads(last.rpartition("data: ")[2])


def answer_of(space: str, data: bytes) -> str:
    """Upload a file to the Space and wait for what it shows, as its page does."""
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    body += data + b"\r\n--x--\r\n"
    (path,) = send(f"{space}gradio_api/upload", body, "multipart/form-data; boundary=x")
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return str(call(space, "answer_upload", file)[1])


@pytest.mark.second_lane
class TestSpace:
    @pytest.fixture
    def page(self, browser, space, request) -> Iterator[Any]:
        """The page, in a browser that reaches nothing else."""
        width = getattr(request, "param", 1280)
        context = browser.new_context(viewport={"width": width, "height": 844})
        page, elsewhere = context.new_page(), []

        def guard(route: Any) -> None:
            if route.request.url.startswith((space, "data:", "blob:")):
                route.continue_()
            else:
                elsewhere.append(route.request.url)
                route.abort()

        page.route("**/*", guard)
        page.goto(space)
        page.wait_for_selector("input[type=file]", state="attached", timeout=60_000)
        yield page
        context.close()
        assert elsewhere == []

    def upload(self, page: Any, name: str, data: bytes) -> None:
        page.set_input_files(
            "input[type=file]", {"name": name, "mimeType": "image/jpeg", "buffer": data}
        )

    def shown(self, page: Any) -> float:
        return float(page.locator("#score").inner_text(timeout=60_000))

    @pytest.mark.parametrize("page", [1280, 390], indirect=True)
    @pytest.mark.parametrize(("name", "data"), [("a.jpg", JPEG), ("b.png", PNG)])
    def test_the_file_as_it_is_gets_its_answer(self, page, classifier, name, data) -> None:
        expected = score_of(classifier, data)
        again = encode(Image.open(BytesIO(data)), "JPEG", quality=75)
        assert abs(score_of(classifier, again) - expected) > 0.005  # a copy would be noticed
        self.upload(page, name, data)
        assert self.shown(page) == pytest.approx(expected, abs=6e-4)
        label = classifier.predict(data)[0]["label"]
        verdict = f"The model says: {LABEL_WORDS[label]}"
        if data is PNG:  # in the band
            verdict = f"The model is uncertain; it leans towards {LABEL_WORDS[label]}"
        assert page.get_by_role("heading", name=verdict).is_visible()
        assert page.locator("#answer .band").is_visible()
        assert f"from {classifier.threshold:.3f} (dashed" in page.inner_text("#answer")
        assert "Truth" not in page.inner_text("#answer")
        widths = page.eval_on_selector_all("#answer img", "all => all.map(i => i.naturalWidth)")
        assert len(widths) == 3
        assert min(widths) > 0
        # Nothing sticks out on a phone.
        right = "all => Math.max(...all.map(i => i.getBoundingClientRect().right))"
        edge = page.eval_on_selector_all("#answer *, #samples *", right)
        assert edge <= page.viewport_size["width"]

    def test_assistants_find_its_tool(self, space) -> None:
        with urlopen(f"{space}gradio_api/mcp/schema") as answer:
            (tool,) = json.load(answer)
        assert tool["name"].endswith("predict")
        assert {*tool["inputSchema"]["properties"]} == {"image", "max_false_alarms"}

    @pytest.mark.parametrize("pictures", [1, 50])
    def test_fifty_visitors_at_once_get_their_answers(self, space, classifier, pictures) -> None:
        """With one picture, which Gradio keeps in one file, and with fifty."""
        files = [encode(picture(90, 80, seed=i), "JPEG") for i in range(pictures)]
        with ThreadPoolExecutor(50) as pool:
            asked = [files[i % pictures] for i in range(50)]
            shown = list(pool.map(partial(answer_of, space), asked))
        scores = classifier.scores(asked)
        for page, score in zip(shown, scores, strict=True):
            assert f'<b id="score">{score:.3f}</b>' in page

    def test_what_the_file_says_is_shown(self, page) -> None:
        text = PngInfo()
        text.add_text("Software", "NovelAI <3")
        self.upload(page, "c.png", encode(picture(80, 120, seed=1), "PNG", pnginfo=text))
        self.shown(page)
        answer = page.inner_text("#answer")
        assert "The file itself says: AI-generated, by NovelAI" in answer
        assert "no claim" not in answer
        report = page.get_attribute("#answer a", "href")
        assert report.endswith("/discussions")

    def test_an_image_that_allows_no_answer_shows_no_evidence(self, space) -> None:
        shown = answer_of(space, encode(Image.new("RGB", (300, 200), "white"), "PNG"))
        assert "(nothing to see: one colour, a gradient or a blur)</h2>" in shown
        assert "<figcaption>This picture shows no evidence.</figcaption>" in shown
        assert "Where the evidence is" not in shown
        assert "The file: PNG, RGB, 300 x 200 pixels, " in shown
        assert "nothing to see" in shown.partition("The file: ")[2]
        assert "It makes no claim about how it was made. That proves nothing" in shown

    def test_what_is_no_image_gets_its_reason(self, page) -> None:
        bad = b"<img src=x onerror=document.title='run'>"
        self.upload(page, "a.jpg", bad)
        alert = page.locator("#answer [role=alert]")
        assert "cannot be read as an image" in alert.inner_text(timeout=60_000)
        assert "a.jpg: must be an image: one of AVIF" in alert.inner_text()
        assert page.title() != "run"
        self.upload(page, "b.jpg", JPEG)  # and the next one works
        self.shown(page)
        assert alert.count() == 0

    def test_another_kind_of_file_is_refused_at_once(self, page) -> None:
        page.set_input_files(
            "input[type=file]", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"}
        )
        refusal = page.get_by_text("Invalid file type: a.txt")
        refusal.wait_for(timeout=60_000)
        assert refusal.is_visible()
        assert page.locator("#score").count() == 0

    def test_samples_answer_by_mouse_and_by_key(self, page, classifier) -> None:
        names, pictures = zip(*sample_pictures().items(), strict=True)
        samples = [page.get_by_role("button", name=SAMPLES[name]) for name in names]
        for sample in samples:
            sample.wait_for(timeout=60_000)
        icons = page.eval_on_selector_all(
            "#samples img",
            "all => Promise.all(all.map(i => i.decode().then(() => [i.src, i.naturalWidth])))",
        )
        assert len(icons) == len(names)
        for (source, width), name in zip(icons, names, strict=True):
            assert source.endswith(f"/samples/{name}")  # not a copy among the uploads, which go
            assert width > 0
        samples[0].click(timeout=60_000)
        first, last = (score_of(classifier, pictures[at].read_bytes()) for at in (0, -1))
        assert abs(first - last) > 0.002
        assert self.shown(page) == pytest.approx(first, abs=6e-4)
        assert "Truth: AI-generated (A carved car" in page.inner_text("#answer")
        samples[-1].focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            f"document.querySelector('#score').innerText != '{first:.3f}'", timeout=60_000
        )
        assert self.shown(page) == pytest.approx(last, abs=6e-4)


def test_the_space_names_its_model() -> None:
    files = space_files("user/model", "a" * 40)
    card = SpaceCard(files["README.md"].decode())
    assert card.data["models"] == ["user/model"]
    assert (card.data["sdk"], card.data["app_file"]) == ("gradio", "app.py")
    assert len(card.data["short_description"]) <= 60
    shown = json.loads(files["model.json"])
    assert (shown["repo"], shown["revision"]) == ("user/model", "a" * 40)
    assert {sample["file"]: sample["title"] for sample in shown["samples"]} == SAMPLES
    assert "keras" not in files["requirements.txt"].decode()
    with_keras = space_files("user/model", "a" * 40, onnx=False)["requirements.txt"].decode()
    assert {"keras", "jax"} <= {Requirement(line).name for line in with_keras.splitlines()}
    assert {f"samples/{name}" for name in SAMPLES} <= {*files}


def of_all_kinds() -> dict[str, bytes]:
    """Forty files: real pictures, marks, formats, and what is doubted or refused."""
    paths = sorted((REPOSITORY / "tests/data").glob("*.[jw]*"))
    files = {path.name: path.read_bytes() for path in paths}
    files |= {f"marked-{number}": data for number, (data, _, _) in enumerate(MARKED[:10])}
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        files[f"kind.{kind.lower()}"] = encode(picture(130, 111), kind)
    noise = np.random.default_rng(0).integers(0, 256, (200, 180, 3), dtype=np.uint8)
    odd = {
        "blank": Image.new("RGB", (90, 90), "white"),
        "noise": Image.fromarray(noise),
        "ink": Image.fromarray(noise).convert("L").point(lambda tone: 20 if tone < 40 else 240),
        "grey": picture(150, 140).convert("L"),
        "tiny": picture(9, 9),
    }
    files |= {f"{name}.png": encode(image, "PNG") for name, image in odd.items()}
    files |= {f"{name}.jpg": encode(image, "JPEG") for name, image in odd.items()}
    return files | {"cut.jpg": JPEG[:300], "text.png": b"no picture", "empty.png": b""}


Answer = tuple[str, bool, str, list[str]] | None
"""Label, whether it is uncertain, why the picture is doubted, what the file says; or a refusal."""


def as_answer(entries: Any) -> Answer:
    """Read the entries of Python, the endpoint and the Space."""
    if not entries or "error" in entries:
        return None
    first, second, *_ = entries
    uncertain = first["label"] == "uncertain"
    label = (second if uncertain else first)["label"]
    return label, uncertain, first.get("reason", ""), in_words(first.get("claims", []))


def in_words(claims: list[dict[str, Any]]) -> list[str]:
    return [Claim(**claim).words for claim in claims]


@pytest.mark.second_lane
def test_five_ways_give_the_same_answers(
    space, browser, served_hub, release, classifier, handler, command, tmp_path
) -> None:
    files = of_all_kinds()
    assert len(files) == 40
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def by_python(data: bytes) -> Answer:
        try:
            return as_answer(classifier.predict(data, abstain=True))
        except ImageError:
            return None

    def by_command() -> Iterator[Answer]:
        paths = [tmp_path / name for name in files]
        lines = command("predict", *paths, "--model", release, "--json", status=1).out
        for one in map(json.loads, lines.splitlines()):
            told = one.get("label"), one.get("uncertain"), one.get("reason", "")
            yield None if "error" in one else (*told, in_words(one["claims"]))

    def by_endpoint(data: bytes) -> Answer:
        return as_answer(handler({"inputs": [data], "parameters": {"abstain": True}})[0])

    def by_space(data: bytes) -> Answer:
        return as_answer((call(space, "predict", base64_of(data), None) or [None])[0])

    def by_page() -> Iterator[Answer]:
        commit = served_hub.repositories["models", "user/model"].find("main").sha
        with served_page(widget_files("user/model", commit)) as url:
            page = WidgetPage(browser, url, served_hub.endpoint)
            page.open()
            yield from (page.answer(name, data) for name, data in files.items())
            page.context.close()

    expected = {name: by_python(data) for name, data in files.items()}
    ways = {
        "command line": by_command(),
        "endpoint": map(by_endpoint, files.values()),
        "Space": map(by_space, files.values()),
        "page": by_page(),
    }
    for way, answers in ways.items():
        assert dict(zip(files, answers, strict=True)) == expected, way
    kinds = {
        answer and (*answer[:2], bool(answer[2]), bool(answer[3])) for answer in expected.values()
    }
    assert len(kinds) >= 5  # or it would show nothing
