"""The widget in headless Chromium, against Pillow and Python's scores."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from bad_files import encode, picture, png_bomb
from conftest import TINY
from hf_ela import ElaClassifier
from hf_ela._text import LABEL_WORDS, SYNTHETIC_NOTICE
from hf_ela.cli import main
from hf_ela.cli.predict import meaning
from hf_ela.ela.views import view_boxes
from hf_ela.hub.package import SAMPLES, sample_label, sample_pictures
from hf_ela.hub.release_files import widget_files
from hf_ela.images.jpeg import reencode
from hf_ela.models.half_precision import round_kernels
from hf_ela.recipes.loading import load_recipe
from networks import network_of
from widget_page import TIMEOUT, WidgetPage, base64_of, served

RECIPES = {
    "default": [*TINY, "input.grid=2", "ela.qualities=[75, 90]"],
    "reference": ["input.before=40", "input.size=32"],
    "whole": [
        *TINY,
        "input.grid=2",
        "input.longest_side=none",
        "input.shortest_side=300",
        "ela.qualities=[1, 60]",
    ],
}
TOLERANCE = 1e-4
pytestmark = pytest.mark.second_lane
Visit = Callable[..., WidgetPage]


@pytest.fixture(scope="module", params=RECIPES)
def kind(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def models() -> dict[str, ElaClassifier]:
    """A model of each recipe."""
    made = {}
    for name, overrides in RECIPES.items():
        recipe = load_recipe("reference" if name == "reference" else "scratch", overrides)
        network = network_of(recipe, seed=2)
        if name == "reference":
            round_kernels(network)  # stored in half precision, as a published backbone is
        # A low temperature, so that images differ for an untrained network too.
        made[name] = ElaClassifier(network, recipe, temperature=0.6, threshold=0.65)
    return made


@pytest.fixture(scope="module")
def saved(models, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of each model."""
    found = {}
    for name, model in models.items():
        folder = tmp_path_factory.mktemp("models") / name
        model.save_pretrained(folder)
        found[name] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found


@pytest.fixture
def visit(browser, hub, saved) -> Iterator[Visit]:
    """Open the page of a model, ``user/NAME``; keyword arguments go to the browser's context."""
    for name, files in saved.items():
        hub.add_model(f"user/{name}", files)
    opened, servers = [], []

    def open_page(name: str = "default", *, start: bool = True, **options: Any) -> WidgetPage:
        commit = hub.repositories["models", f"user/{name}"].find("main").sha
        servers.append(served(widget_files(f"user/{name}", commit)))
        page = WidgetPage(browser, servers[-1].__enter__(), hub.endpoint, **options)
        opened.append(page)
        if start:
            page.open()
        return page

    yield open_page
    for page in opened:
        page.context.close()
    for server in servers:
        server.__exit__(None, None, None)
    for page in opened:
        assert page.foreign == []


def pictures() -> dict[str, bytes]:
    """Files that try a different part of the way to the score each."""
    rng = np.random.default_rng(3)
    transparent = picture(90, 70, seed=1).convert("RGBA")
    transparent.putalpha(Image.fromarray(rng.integers(0, 256, (70, 90), np.uint8)))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        **{name: path.read_bytes() for name, path in sample_pictures().items()},
        "small.png": encode(picture(19, 7, seed=2), "PNG"),
        "narrow.jpg": encode(picture(13, 91, seed=3), "JPEG", quality=70),
        "odd.jpg": encode(picture(101, 67, seed=4), "JPEG", quality=93, subsampling=0),
        "grey.jpg": encode(picture(64, 80, seed=5).convert("L"), "JPEG"),
        "transparent.png": encode(transparent, "PNG"),
        "transparent.webp": encode(transparent, "WEBP", lossless=True, exact=True),
        "palette.gif": encode(picture(77, 50, seed=6), "GIF"),
        "turned.jpg": encode(picture(99, 60, seed=7), "JPEG", exif=turned.tobytes()),
        "large.png": encode(picture(701, 433, seed=8), "PNG"),
        "tall.jpg": encode(picture(90, 1203, seed=9), "JPEG"),
    }


def test_the_score_is_that_of_python(visit, models, kind) -> None:
    widget, found = visit(kind), {}
    for name, data in pictures().items():
        expected = next(iter(models[kind].scores([data])))
        doubt = expected.doubt
        widget.choose(name, data)
        found[name] = widget.score(name)
        assert found[name] == pytest.approx(expected, abs=TOLERANCE), name
        says = LABEL_WORDS[models[kind].label(expected)]
        lead = "The model is uncertain; it leans towards" if doubt else "The model says:"
        heading = widget.page.get_by_role("heading", name=f"{lead} {says}")
        assert heading.is_visible()
        assert widget.page.inner_text("#score") == f"{expected:.3f}"
    assert np.ptp([*found.values()]) > 0.05  # or equal scores would show nothing


def test_the_meaning_of_the_answer_is_that_of_the_command_line(visit, models) -> None:
    widget = visit()
    widget.choose("a.png", pictures()["small.png"])
    widget.score("a.png")
    shown = " ".join(widget.page.inner_text(".meaning.soft").split())
    assert shown == meaning(models["default"])
    label = widget.page.get_attribute("#scale", "aria-label")
    assert "the threshold is 0.650" in label
    place = "all => all.map(one => one.style.getPropertyValue('--at'))"
    assert widget.page.eval_on_selector_all("i.threshold", place) == ["0.65"]


def test_an_uncertain_answer_says_so(visit, hub, models) -> None:
    """At the end of the band and beside it, by the same model."""
    model, data = models["default"], pictures()["odd.jpg"]
    widget = visit()
    widget.choose("a.jpg", data)
    score = widget.score("a.jpg")  # of the browser, which differs from Python's in the last digits
    assert widget.page.locator("#band").is_hidden()
    widget.page.close()
    files = dict(hub.repositories["models", "user/default"].find("main").files)
    settings = json.loads(files["hf_ela.json"])
    leans = LABEL_WORDS[model.label(score)]
    away = 1e-6 if model.label(score) == "fake" else -1e-6
    for end, verdict in (
        (score, f"The model is uncertain; it leans towards {leans}"),
        (score - away, f"The model says: {leans}"),
    ):
        band = sorted((end, model.threshold))
        files["hf_ela.json"] = json.dumps(settings | {"uncertain": band}).encode()
        hub.add_model("user/unsure", files)
        widget = visit("unsure")
        widget.choose("a.jpg", data)
        assert widget.score("a.jpg") == score
        assert widget.page.get_by_role("heading", name=verdict).is_visible()
        shown = " ".join(widget.page.inner_text(".meaning.soft").split())
        unsure = ElaClassifier(model.model, model.recipe, 1.0, model.threshold, tuple(band))
        assert shown == meaning(unsure)
        edges = "one => { const { left, right } = one.getBoundingClientRect();"
        edges += "return [left, right]; }"
        left, right = widget.page.eval_on_selector("#band", edges)
        start, stop = widget.page.eval_on_selector(".track", edges)
        places = [(edge - start) / (stop - start) for edge in (left, right)]
        assert places == pytest.approx(band, abs=0.01)


# ---------------------------------------------------------------------------- the parts, to the bit


def array_of(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8)


DECODED = """
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const text = (all) => {
  let result = "";
  for (let i = 0; i < all.length; i += 8192)
    result += String.fromCharCode(...all.subarray(i, i + 8192));
  return btoa(result);
};
const part = ({ rgb, width }) => async (x, y, wide, high) => {
  const found = [];
  for (let row = y; row < y + high; row++)
    found.push(...rgb.subarray((row * width + x) * 3, (row * width + x + wide) * 3));
  return Uint8Array.from(found);
};
"""


def as_argument(image: Image.Image, **more: Any) -> dict[str, Any]:
    rgb = base64_of(image.tobytes())
    return {"rgb": rgb, "width": image.width, "height": image.height, **more}


def contents(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Noise, a gradient, or extremes."""
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    match rng.integers(3):
        case 0:
            return Image.fromarray(noise)
        case 1:
            return Image.fromarray(noise[:4, :4]).resize((width, height))
        case _:
            return Image.fromarray(np.where(noise > 127, 255, 0).astype(np.uint8))


def test_the_round_trip_is_pillows(visit) -> None:
    rng, cases, expected = np.random.default_rng(0), [], []
    for quality in range(1, 101):
        sides = [1 + quality % 6, int(rng.integers(1, 70))]  # narrow planes are a case of their own
        for width, height in (sides, sides[::-1], rng.integers(1, 70, 2).tolist()):
            image = contents(rng, width, height)
            cases.append(as_argument(image, quality=quality))
            expected.append(np.asarray(reencode(image, quality)).ravel())
    found = visit().module(
        "jpeg.js",
        "({ roundTrip }, cases) => {"
        + DECODED
        + """return cases.map(({ rgb, width, height, quality }) =>
             text(roundTrip(bytes(rgb), width, height, quality))); }""",
        cases,
    )
    differing = [
        (case["width"], case["height"], case["quality"])
        for case, text, pixels in zip(cases, found, expected, strict=True)
        if not np.array_equal(array_of(text), pixels)
    ]
    assert len(found) == 300
    assert differing == []


def test_the_resize_is_pillows(visit) -> None:
    rng, cases, expected = np.random.default_rng(1), [], []
    sizes = [(5, 7), (40, 40), (40, 90), (90, 40), (301, 289), (600, 3), (1, 1), (41, 600)]
    sizes += [(50, 60), (50, 61), (13, 39), (13, 41)]  # where Pillow begins to go down first
    sizes += rng.integers(1, 130, (40, 2)).tolist()
    for width, height in sizes:
        image = contents(rng, width, height)
        for across, down in ((40, 40), (61, 23), (17, 40)):
            cases.append(as_argument(image, across=across, down=down))
            expected.append(np.asarray(image.resize((across, down))).ravel())
    found = visit().module(
        "resample.js",
        "async ({ resized }, cases) => {"
        + DECODED
        + """const one = ({ rgb, width, height, across, down }) => {
               const picture = { rgb: bytes(rgb), width, height };
               return resized({ width, height, rgb: part(picture) }, across, down).then(text);
             };
             return Promise.all(cases.map(one)); }""",
        cases,
    )
    for text, pixels, case in zip(found, expected, cases, strict=True):
        said = {name: case[name] for name in ("width", "height", "across", "down")}
        assert np.array_equal(array_of(text), pixels), said


def test_the_frequency_is_pythons(visit, models) -> None:
    model, shares, page = models["default"], (0, 0.005, 0.015, 0.125, 0.87, 1), visit()
    rows = [
        {"up_to": (at + 1) / len(shares), "fake": share, "n": 50} for at, share in enumerate(shares)
    ]
    scores = [0, 0.2, 0.4, 0.5, 0.77, 0.9, 1]
    for frequencies in ({}, {"known": rows}, {"known": rows, "unseen": rows[::2]}):
        model.frequencies = frequencies
        expected = [model.frequency(score) for score in scores]
        found = page.module(
            "frequency.js",
            "({ frequency }, { rows, scores }) => scores.map((score) => frequency(rows, score))",
            {"rows": frequencies, "scores": scores},
        )
        assert found == expected
    model.frequencies = {}


def test_the_doubt_is_pythons(visit, models) -> None:
    model, data = models["whole"], encode(Image.linear_gradient("L").convert("RGB"), "PNG")
    assert next(model.scores([data])).doubt.startswith("nothing to see")
    widget = visit("whole")
    widget.choose("gradient.png", data)
    widget.score("gradient.png")
    assert "uncertain" in widget.page.inner_text("#verdict")
    assert "nothing to see" in widget.page.inner_text("#verdict")
    assert widget.page.inner_text("#where") == "This picture shows no evidence."
    assert not widget.page.locator("#legend").is_visible()
    assert widget.page.get_attribute("#evidence", "aria-label") == "No evidence"
    rng = np.random.default_rng(3)
    images = [contents(rng, width, height) for width, height in ((200, 90), (301, 289), (2, 400))]
    images += [Image.new("RGB", (250, 300), "teal"), picture(300, 280), picture(2100, 130)]
    images += [picture(300, 280).filter(ImageFilter.GaussianBlur(sigma)) for sigma in (1, 3, 9)]
    noise = rng.integers(0, 256, (270, 611, 3), dtype=np.uint8)
    luma = np.asarray(Image.fromarray(noise).convert("L"))
    for third in (0.06, 0.1, 0.14):  # the share of a third tone, some of it too much
        tones = np.where(luma < 80, 20, np.where(luma < np.quantile(luma, 1 - third), 240, 128))
        images.append(Image.fromarray(tones.astype(np.uint8)).convert("RGB"))
    grey = picture(301, 270).convert("L")
    images += [
        Image.fromarray(noise),
        grey.convert("RGB"),
        ImageOps.colorize(grey, "#201408", "tan"),
    ]
    grain = rng.normal(0, 2, (410, 333, 3))  # on one colour
    images.append(Image.fromarray((120 + grain).astype(np.uint8)))
    board = 255 * (np.indices((300, 310)).sum(axis=0) % 2).astype(np.uint8)  # a fine pattern
    images.append(Image.fromarray(board).convert("RGB"))
    images += [Image.blend(images[6], images[6].filter(ImageFilter.SHARPEN), 2)]
    found = widget.module(
        "doubt.js",
        "async ({ doubt }, cases) => {"
        + DECODED
        + """const one = ({ rgb, width, height, input }) => {
               const picture = { rgb: bytes(rgb), width };
               return doubt({ width, height, rgb: part(picture) }, input);
             };
             return Promise.all(cases.map(one)); }""",
        [as_argument(image, input=model.recipe.input.model_dump()) for image in images],
    )
    assert found == [score.doubt for score in model.scores(images)]
    assert len(set(found)) == 6


def test_the_error_levels_are_those_of_explain(visit, models) -> None:
    rng = np.random.default_rng(2)
    # More rows than are worked on at a time, and an odd rest.
    images = [
        Image.fromarray(rng.integers(0, 256, (30, 4, 3), np.uint8)).resize((53, 701)),
        picture(61, 47),
    ]
    quality = min(models["default"].recipe.ela.qualities)
    found = visit().module(
        "ela.js",
        "async ({ errorLevels }, cases) => {"
        + DECODED
        + """const all = [];
             for (const { rgb, width, height, quality } of cases) {
               const picture = { width, height, rgb: part({ rgb: bytes(rgb), width }) };
               const goOn = async () => true;
               const data = await errorLevels(picture, quality, 2000, goOn);
               all.push(text(new Uint8Array(data.data.buffer)));
             }
             return all; }""",
        [as_argument(image, quality=quality) for image in images],
    )
    for text, image in zip(found, images, strict=True):
        expected = np.asarray(models["default"].explain(image).ela)
        shown = array_of(text).reshape(*expected.shape[:2], 4)
        assert np.array_equal(shown[..., :3], expected)
        assert (shown[..., 3] == 255).all()


def test_the_evidence_is_the_mean_of_the_views_of_explain(visit, models) -> None:
    found = models["default"].explain(picture(101, 67, seed=4))
    height, width = found.map.shape
    boxes = [box._asdict() for box in found.boxes]
    cells = visit().module(
        "evidence.js",
        "({ cells }, [width, height, boxes, scores]) => cells(width, height, boxes, scores)",
        [width, height, boxes, found.scores],
    )
    shown, total, count = (np.zeros_like(found.map) for _ in range(3))
    for cell in cells:
        rows = slice(cell["y"], cell["y"] + cell["height"])
        columns = slice(cell["x"], cell["x"] + cell["width"])
        shown[rows, columns] = np.nan if cell["score"] is None else cell["score"]
    for box, score in zip(found.boxes, found.scores, strict=True):
        part = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
        total[part] += score
        count[part] += 1
    expected = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    assert np.isnan(shown).any()
    np.testing.assert_allclose(shown, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["default", "whole"])
def test_the_parts_of_a_picture_in_another_size_are_those_of_explain(visit, name) -> None:
    recipe = load_recipe("scratch", RECIPES[name])
    sizes = [(701, 433), (90, 1203), (384, 384), (385, 12), (3000, 7), (1999, 2001)]
    expected = [[box._asdict() for box in view_boxes(size, recipe)] for size in sizes]
    found = visit().module(
        "views.js",
        """async ({ enlarged, fitted, viewBoxes }, [sizes, input]) => {
             const boxes = async ([width, height]) => {
               const rgb = async (x, y, wide, high) => new Uint8Array(wide * high * 3);
               const large = { width, height, rgb };
               const small = await fitted(large, input);
               const parts = viewBoxes(small.width, small.height, input);
               return parts.map((part) => enlarged(part, small, large));
             };
             return Promise.all(sizes.map(boxes)); }""",
        [sizes, recipe.input.model_dump()],
    )
    assert found == expected


# --------------------------------------------------------------------------------- what is kept out


def test_nothing_leaves_the_browser(visit, hub) -> None:
    widget = visit()
    data = pictures()["odd.jpg"]
    widget.choose("secret-name.jpg", data)
    widget.score("secret-name.jpg")
    widget.expect(widget.page.locator("#ela")).to_be_visible(timeout=TIMEOUT)
    for request in widget.requests:
        assert (request.method, request.post_data_buffer) == ("GET", None)
        assert "secret" not in request.url
        assert "authorization" not in request.headers
    commit = hub.repositories["models", "user/default"].find("main").sha
    at_hub = [request.url for request in widget.requests if request.url.startswith(hub.endpoint)]
    at = f"{hub.endpoint}/user/default/resolve/{commit}/"
    assert sorted(at_hub) == [f"{at}hf_ela.json", f"{at}model.onnx"]
    # The page's policy, and not its good will: in the page, and in the worker that has the picture.
    (worker,) = widget.page.workers
    for place in (widget.page, worker):
        for url in ("https://example.com/", "http://127.0.0.1:1/"):
            fetched = place.evaluate(f"fetch('{url}').then(() => 'reached', (error) => error.name)")
            assert fetched == "TypeError"
    assert "Nothing leaves your browser" in widget.page.inner_text("main")


@pytest.mark.parametrize("damaged", [".mjs", ".wasm"])
def test_a_wrong_byte_of_the_runtime_is_refused(visit, damaged) -> None:
    widget = visit(start=False)
    (url,) = [url for url in widget.runtime if url.endswith(damaged)]
    sound = widget.runtime[url]
    widget.runtime[url] = sound[:-1] + bytes([sound[-1] ^ 1])
    widget.open()
    widget.assert_problem("is not the file that this page expects, so it was not used")
    widget.runtime[url] = sound
    widget.choose("a.png", pictures()["small.png"])  # the next picture tries again
    widget.score("a.png")


def test_a_wrong_byte_of_the_model_is_refused(visit, hub) -> None:
    repository = hub.repositories["models", "user/default"]
    files = dict(repository.find("main").files)
    sound = files["model.onnx"]
    hub.add_model("user/damaged", files | {"model.onnx": sound[:-1] + bytes([sound[-1] ^ 1])})
    widget = visit("damaged")
    widget.assert_problem("model.onnx is not the file that this page expects")
    assert widget.page.get_by_role("button", name="Try again").is_visible()


def test_what_cannot_be_fetched_is_named_and_tried_again(visit, hub) -> None:
    hub.fault("GET", "model.onnx", times=1, drop="half")
    widget = visit()
    widget.assert_problem("The download of model.onnx was interrupted")
    widget.page.get_by_role("button", name="Try again").press("Enter")
    widget.choose("a.png", pictures()["small.png"])
    widget.score("a.png")


def test_settings_of_another_version_are_refused(visit, hub) -> None:
    files = dict(hub.repositories["models", "user/default"].find("main").files)
    settings = json.loads(files["hf_ela.json"])
    for change in ({"schema": 99}, {"sha256": {}}):
        files["hf_ela.json"] = json.dumps(settings | change).encode()
        hub.add_model("user/other", files)
        visit("other").assert_problem("it comes from another version of hf-ela")


def test_what_is_no_picture_gets_its_reason(visit) -> None:
    widget, sound = visit(), pictures()["odd.jpg"]
    bomb, limit = png_bomb(30_000, 30_000), "30000 × 30000 pixels; the limit is 64 million"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    for name, data, reason in (
        ("a.txt", b"hello", "it is not a JPEG, PNG, WebP, AVIF, GIF or BMP file"),
        ("a.svg", svg, "it is not a JPEG"),
        ("empty.png", b"", "the file is empty"),
        ("cut.jpg", sound[: len(sound) // 2], "it is corrupt or truncated"),
        ("bomb.png", bomb, f"it has {limit}"),
        ("<img src=x onerror=alert(1)>.png", b"\x89PNG", "it is not a JPEG"),
    ):
        widget.choose(name, data)
        widget.assert_problem(f"{name} cannot be read: {reason}")
    widget.choose("next.jpg", sound)  # and the next one works
    widget.score("next.jpg")


def test_sizes_are_read_from_every_format(visit) -> None:
    image = picture(61, 47)
    files = {name: encode(image, name) for name in ("PNG", "GIF", "BMP", "AVIF", "WEBP")}
    files["JPEG"] = encode(image, "JPEG", exif=b"Exif\0\0" + bytes(3000))
    files["WEBP lossless"] = encode(image, "WEBP", lossless=True)
    files["WEBP extended"] = encode(image, "WEBP", icc_profile=b"a profile")
    found = visit().module(
        "header.js",
        "({ readHeader }, files) => {"
        + DECODED
        + "return files.map((f) => readHeader(bytes(f))); }",
        [base64_of(data) for data in files.values()],
    )
    assert [(one["width"], one["height"]) for one in found] == [(61, 47)] * len(files)
    assert not any(one.get("unlike") for one in found)


def test_what_a_browser_decodes_in_its_own_way_is_told(visit) -> None:
    """Neither Pillow's CMYK nor its 16 bits can be had from a browser."""
    widget = visit()
    deep = np.random.default_rng(0).integers(0, 2**16, (47, 61), np.uint16)
    for name, data, kind in (
        ("ink.jpg", encode(picture().convert("CMYK"), "JPEG"), "a JPEG file in CMYK"),
        ("grey.jpg", encode(picture().convert("L"), "JPEG"), None),
        ("deep.png", encode(Image.fromarray(deep), "PNG"), "a PNG file of 16 bits"),
        ("plain.png", encode(picture(), "PNG"), None),
    ):
        widget.choose(name, data)
        widget.score(name)
        note = widget.page.get_by_text("the score there may differ")
        assert note.is_visible() == (kind is not None), name
        assert kind is None or f"This is {kind}, " in note.inner_text()


def test_altered_pixels_are_noticed(visit) -> None:
    alter = """const real = OffscreenCanvasRenderingContext2D.prototype.getImageData;
      OffscreenCanvasRenderingContext2D.prototype.getImageData = function (...where) {
        const found = real.apply(this, where);
        found.data[40] ^= 1;
        return found;
      };"""
    widget = visit()
    call = "async ({ pixelsAreTrue }) => { %s return pixelsAreTrue(); }"
    assert widget.module("picture.js", call % "")
    assert not widget.module("picture.js", call % alter)


# -------------------------------------------------------------------------------------- in the hand


def test_a_large_picture_leaves_the_page_alive(visit) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
    large = encode(image.resize((8000, 6000), Image.Resampling.NEAREST), "JPEG", quality=85)
    widget = visit()
    widget.choose("large.jpg", large)
    widget.score("large.jpg")
    # The error levels are still being worked out, and the page answers.
    widget.page.get_by_label("Slide between").press("End")
    assert widget.page.get_attribute("#split", "aria-valuetext") == "100 % picture, 0 % map"
    assert widget.page.locator("#levelling").is_visible()
    # A newer picture does not wait for the old one, whose work ends.
    (worker,) = widget.page.workers
    worker.evaluate(
        """() => {
          const real = self.postMessage;
          self.said = [];
          self.postMessage = (message, ...more) => {
            said.push(message.number);
            real.call(self, message, ...more);
          };
        }"""
    )
    widget.choose("small.png", pictures()["small.png"])
    widget.score("small.png")
    widget.expect(widget.page.locator("#ela")).to_be_visible(timeout=TIMEOUT)
    size = widget.page.eval_on_selector("#ela", "one => [one.width, one.height]")
    assert size == [19, 7]
    said = worker.evaluate("said")
    assert said == sorted(said)
    assert said[-1] == 2


DELIVER = """([kind, name, text]) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  const options = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent(kind, { ...options, clipboardData: data })
    : new DragEvent(kind, { ...options, dataTransfer: data });
  document.querySelector("main").dispatchEvent(event);
  return event.defaultPrevented;
}"""


def test_pictures_come_by_drop_paste_button_and_sample(visit, models) -> None:
    widget, data = visit(), pictures()["odd.jpg"]
    page, expected = widget.page, next(iter(models["default"].scores([data])))
    page.evaluate(DELIVER, ["dragover", "x.jpg", ""])
    assert "over" in page.get_attribute("#drop", "class")
    for kind in ("drop", "paste"):
        prevented = page.evaluate(DELIVER, [kind, f"{kind}.jpg", base64_of(data)])
        assert prevented == (kind == "drop")  # or the browser would leave the page for the file
        assert widget.score(f"{kind}.jpg") == pytest.approx(expected, abs=TOLERANCE)
    assert "over" not in page.get_attribute("#drop", "class")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").press("Enter")
    chooser.value.set_files({"name": "chosen.jpg", "mimeType": "image/jpeg", "buffer": data})
    assert widget.score("chosen.jpg") == pytest.approx(expected, abs=TOLERANCE)
    for name, path in sample_pictures().items():
        page.get_by_role("button", name=SAMPLES[name]).press("Space")
        expected = next(iter(models["default"].scores([path])))
        assert widget.score(SAMPLES[name]) == pytest.approx(expected, abs=TOLERANCE)
        truth, answer = sample_label(name), models["default"].label(expected)
        outcome = "right" if answer == truth else "wrong"
        shown = f"Truth: {LABEL_WORDS[truth]}. The model is {outcome}."
        assert page.inner_text("#truth") == shown
    widget.choose("mine.jpg", data)  # of which nobody knows the truth
    widget.score("mine.jpg")
    assert page.locator("#truth").is_hidden()
    assert page.locator("#synthetic").is_hidden()


def test_a_model_trained_on_synthetic_samples_says_so(visit, hub, saved) -> None:
    files = dict(saved["default"])
    settings = json.loads(files["hf_ela.json"]) | {"data": {"synthetic": True}}
    hub.add_model("user/demo", files | {"hf_ela.json": json.dumps(settings).encode()})
    notice = visit("demo").page.locator("#synthetic")
    notice.wait_for(timeout=TIMEOUT)
    assert notice.inner_text() == SYNTHETIC_NOTICE


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (color) => {
    const [r, g, b] = [...rgba(color)].map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (rgba(color)[3] === 255) return color;
    }
  };
  const own = (one) => [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    if (!own(one) || !one.checkVisibility()) continue;
    const both = [light(getComputedStyle(one).color), light(ground(one))].sort((a, b) => b - a);
    found.push([one.textContent.trim().slice(0, 40), (both[0] + 0.05) / (both[1] + 0.05)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(visit, scheme) -> None:
    widget = visit(color_scheme=scheme)
    widget.choose("a.txt", b"hello")
    widget.assert_problem("a.txt")
    refused = widget.page.evaluate(CONTRAST)
    widget.choose("a.jpg", pictures()["odd.jpg"])
    widget.score("a.jpg")
    found = [*refused, *widget.page.evaluate(CONTRAST)]
    assert len(found) > 40
    assert [(text, ratio) for text, ratio in found if ratio < 4.5] == []  # WCAG 2.2, 1.4.3
    ground = "getComputedStyle(document.body).backgroundColor"
    red = int(re.findall(r"\d+", widget.page.evaluate(ground))[0])
    assert (red < 60) == (scheme == "dark")


def test_axe_finds_nothing(visit) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    widget = visit(reduced_motion="reduce")
    widget.choose("a.txt", b"hello")
    widget.assert_problem("a.txt")
    refused = axe.run(widget.page)
    widget.choose("a.jpg", pictures()["odd.jpg"])
    widget.score("a.jpg")
    widget.expect(widget.page.get_by_label("JPEG quality")).to_be_visible(timeout=TIMEOUT)
    for found in (refused, axe.run(widget.page)):
        assert len(found.response["passes"]) > 30
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [1280, 360, 320])
def test_nothing_sticks_out(visit, width) -> None:
    widget = visit(viewport={"width": width, "height": 800})
    name = "a" * 200  # nowhere a place to break a line
    files = {f"{name}.txt": b"hello", f"{name}.jpg": pictures()["odd.jpg"]}
    for side, other in ((5000, 1), (3000, 10), (10, 3000)):
        files[f"{side}.png"] = encode(picture(side, other), "PNG")
    for file, data in files.items():
        widget.choose(file, data)
        if data == b"hello":
            widget.assert_problem("cannot be read")
        else:
            widget.score(file)
            widget.expect(widget.page.locator("#ela")).to_be_visible(timeout=TIMEOUT)
        assert widget.page.evaluate("document.documentElement.scrollWidth") <= width
        right = "all => Math.max(...all.map((one) => one.getBoundingClientRect().right))"
        assert widget.page.eval_on_selector_all("body *:not(.said)", right) <= width
    sizes = "all => all.map((b) => Math.min(b.offsetWidth, b.offsetHeight))"
    assert min(widget.page.eval_on_selector_all("button:not([hidden])", sizes)) >= 24


def test_keys_and_screen_readers(visit) -> None:
    widget = visit(reduced_motion="reduce")
    page = widget.page
    widget.choose("a.jpg", pictures()["odd.jpg"])
    widget.score("a.jpg")
    widget.expect(page.get_by_label("JPEG quality")).to_be_visible(timeout=TIMEOUT)
    page.focus("#another")
    page.keyboard.press("Shift+Tab")
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
              const one = document.activeElement;
              const style = getComputedStyle(one);
              const name = one.labels?.[0]?.textContent ?? one.textContent;
              return [name.trim().replace(/\\s+/g, " "), style.outlineStyle];
            }"""
        )
        if reached and focused == reached[0]:
            break
        reached.append(focused)
    samples = [*SAMPLES.values()]
    names = [name for name, _ in reached if name]
    order = ["Another picture", "Slide between the picture and the map", "Report a wrong answer"]
    order += ["JPEG quality", "Choose a file", *samples]
    assert names[: len(order)] == order
    assert names[len(order)].startswith("user/default at ")
    assert names[len(order) + 1 :][:2] == ["Model card and licence", "Files and code"]
    outlines = {name: outline for name, outline in reached if name in order}
    assert outlines.pop(order[1]) == "none"  # the frame around it has one
    assert {*outlines.values()} == {"solid"}
    page.focus("#split")
    page.keyboard.press("ArrowRight")
    frame = "one => getComputedStyle(one).outlineStyle"
    assert page.eval_on_selector("#picture-frame", frame) == "solid"
    tree = page.locator("body").aria_snapshot()
    for expected in (
        'heading "Human-made or AI-generated?" [level=1]'.replace("AI-", "AI‑"),
        'heading "The model says:',
        'img "P(fake) is',
        'img "The evidence, in colour',
        'slider "Slide between the picture and the map"',
        'slider "JPEG quality"',
        "status: ",
    ):
        assert expected in tree
    levels = page.eval_on_selector_all(
        "h1, h2, h3", "all => all.filter((h) => h.checkVisibility()).map((h) => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.get_attribute("html", "lang") == "en"
    moving = "all => all.filter((one) => getComputedStyle(one).transitionDuration !== '0s').length"
    assert page.eval_on_selector_all("body *", moving) == 0


def test_sliders_divide_the_picture_and_set_the_quality(visit, models) -> None:
    widget, data = visit(), pictures()["odd.jpg"]
    page, frame = widget.page, widget.page.locator("#picture-frame")
    widget.choose("a.jpg", data)
    widget.score("a.jpg")
    box, clip = frame.bounding_box(), "one => getComputedStyle(one).clipPath"
    for share in (0.25, 0.8):
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        shown = page.eval_on_selector("#evidence", clip)
        assert float(re.findall(r"([\d.]+)%?\)$", shown)[0]) == pytest.approx(share * 100, abs=1.5)
    assert page.get_attribute("#split", "aria-valuetext") == "80 % picture, 20 % map"
    quality = page.get_by_label("JPEG quality")
    widget.expect(quality).to_have_value(str(min(models["default"].recipe.ela.qualities)))
    quality.fill("37")
    widget.expect(page.locator("#ela-text")).to_contain_text(
        "at quality 37 changes", timeout=TIMEOUT
    )
    red = """one => {
      const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
      return [...data.filter((_, i) => i % 4 === 0)];
    }"""
    expected = brightened(Image.open(io.BytesIO(data)), 37)
    assert np.array_equal(page.eval_on_selector("#ela", red), expected[..., 0].ravel())


def brightened(image: Image.Image, quality: int) -> np.ndarray:
    """The error levels of an image at a quality, as `explain` brightens them."""
    pixels = np.asarray(image, np.int16)
    levels = np.abs(np.asarray(reencode(image, quality), np.int16) - pixels)
    counts = np.bincount(levels.ravel(), minlength=256).cumsum()
    most = max(int(np.searchsorted(counts, 0.995 * levels.size)), 1)
    return np.clip(np.rint(levels * (255 / most)), 0, 255)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
def test_the_answer_is_above_the_fold(visit, width, height) -> None:
    widget = visit(viewport={"width": width, "height": height}, reduced_motion="reduce")
    widget.choose("a.jpg", encode(picture(300, 280, seed=4), "JPEG"))
    widget.score("a.jpg")
    for name in ("#another", "#verdict", "#scale", "#picture-frame"):
        box = widget.page.locator(name).bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] <= height, name
    with widget.page.expect_file_chooser() as chooser:
        widget.page.get_by_role("button", name="Another picture").press("Enter")
    chooser.value.set_files({"name": "b.png", "mimeType": "image/png", "buffer": b"no picture"})
    widget.assert_problem("b.png cannot be read")
    assert 0 <= widget.page.get_by_role("alert").bounding_box()["y"] < height - 60


COUNT_THREADS = """() => {
  Object.defineProperty(navigator, "hardwareConcurrency", { value: 8 });
  const Real = Worker;
  self.started = 0;
  self.Worker = class extends Real {
    constructor(...options) {
      super(...options);
      self.started += 1;
    }
  };
}"""


def test_threads_are_used_where_they_may_be(visit, hub, browser, models) -> None:
    """Where a browser does not isolate the page, there is one thread and the same score."""
    visit(start=False)
    commit = hub.repositories["models", "user/default"].find("main").sha
    files, data = dict(widget_files("user/default", commit)), pictures()["odd.jpg"]
    expected = next(iter(models["default"].scores([data])))
    card = files["README.md"]
    for headers, threads in ((b"custom_headers", 3), (b"other_headers", 0)):
        files["README.md"] = card.replace(b"custom_headers", headers)
        with served(files) as url:
            widget = WidgetPage(browser, url, hub.endpoint)
            saving = "Object.defineProperty(navigator, 'connection', { value: { saveData: true } })"
            widget.page.add_init_script(saving)  # or the model would be loaded at once
            with widget.page.expect_worker() as starting:
                widget.open()
            worker = starting.value
            worker.evaluate(COUNT_THREADS)
            widget.choose("a.jpg", data)
            assert widget.score("a.jpg") == pytest.approx(expected, abs=TOLERANCE)
            assert worker.evaluate("crossOriginIsolated") == (threads > 0)
            assert worker.evaluate("started") == threads  # beside the worker itself
            widget.context.close()
            assert widget.foreign == []


def test_an_old_browser_is_told(visit) -> None:
    for options in ({"java_script_enabled": False}, {}):
        widget = visit(start=False, **options)
        if not options:
            widget.page.add_init_script("delete window.OffscreenCanvas")
        widget.page.goto(widget.url)
        widget.page.wait_for_load_state("networkidle")
        assert widget.page.locator("#unsupported").is_visible()
        assert not any("jsdelivr" in request.url for request in widget.requests)


# ------------------------------------------------------------------------------------- all together


def test_a_release_with_a_widget_runs_in_the_browser(browser, hub, tiny_run, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert main(["push", str(tiny_run), "tester/art", "--widget", "tester/page"]) == 0
    files = hub.repositories["spaces", "tester/page"].find("main").files
    with served(files) as url:
        widget = WidgetPage(browser, url, hub.endpoint)
        widget.open()
        for sample in json.loads((tiny_run / "run.json").read_text("utf-8"))["samples"]:
            widget.page.get_by_role("button", name=sample["title"]).click()
            shown = widget.score(sample["title"])
            assert shown == pytest.approx(sample["score"], abs=1e-3)
        widget.context.close()
        assert widget.foreign == []
