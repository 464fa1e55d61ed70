"""What the page reads of a file beside its pixels, against Python, in one visit of it."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bad_files import encode, picture, png_chunk
from hf_ela import load_image
from hf_ela.hub.package import sample_pictures
from hf_ela.hub.release_files import widget_files
from test_claims import (
    AIGC,
    GENERATED,
    GRAPH,
    HOSTILE_XMP,
    MARKED,
    PARAMETERS,
    SOURCE,
    UNMARKED,
    packet,
    signed,
    with_exif,
    with_text,
    with_xmp,
)
from widget_page import WidgetPage, base64_of, served

pytestmark = pytest.mark.second_lane
__all__ = ["signed"]
FORMATS = ("PNG", "JPEG", "WEBP")
CODES = ("trainedAlgorithmicMedia", "digitalCapture", "humanEdits", "virtualRecording")
FACTS = ("format", "width", "height", "size_bytes", "jpeg_quality", "jpeg_quality_exact")

READ = """async ({ readClaims, wordsOf }, files) => {
  const at = (name) => import(new URL(name, document.baseURI));
  const [{ readMarks }, { readHeader }, { readFacts }] =
    await Promise.all(["marks.js", "header.js", "facts.js"].map(at));
  const one = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const header = readHeader(bytes);
    if (!header) return null;
    const claims = readClaims(await readMarks(bytes, header.format));
    return { claims, words: claims.map(wordsOf), facts: readFacts(bytes, header) };
  };
  return Promise.all(files.map(one));
}"""


@pytest.fixture(scope="module")
def read(browser) -> Iterator[Any]:
    """A function that lets the page read files; no model is needed for that."""
    with served(widget_files("user/none", "a" * 40)) as url:
        widget = WidgetPage(browser, url, "http://127.0.0.1:1")
        widget.page.goto(url)
        yield lambda files: widget.module("claims.js", READ, [*map(base64_of, files)])
        widget.context.close()


@pytest.fixture
def unverified(monkeypatch) -> None:
    """Let Python find manifests and verify none, as the page does."""
    monkeypatch.setattr("hf_ela.images.c2pa_manifest.find_spec", lambda name: None)


def with_source_type(kind: str, code: str) -> list[bytes]:
    inner = f"<Iptc4xmpExt:DigitalSourceType> {SOURCE}{code}\n</Iptc4xmpExt:DigitalSourceType>"
    attribute = f'Iptc4xmpExt:DigitalSourceType="{SOURCE}{code}"'
    return [with_xmp(kind, packet(inner)), with_xmp(kind, packet("", attribute))]


def old_exif() -> bytes:
    """A PNG with EXIF as ImageMagick wrote it."""
    exif = Image.Exif()
    exif[0x0131] = "Fooocus 2"
    digits = exif.tobytes().hex()
    info = PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n {len(digits) // 2}\n{digits}\n", zip=True)
    return encode(picture(64, 64), "PNG", pnginfo=info)


def in_scan(data: bytes) -> bytes:
    """A JPEG with a segment of XMP between the start of its scan and its end."""
    body = b"http://ns.adobe.com/xap/1.0/\0" + packet("", 'xmp:CreatorTool="Midjourney"')
    segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body
    return data[:-2] + segment + data[-2:]


def test_the_claims_are_those_of_python(read, signed, unverified) -> None:
    first, second = with_text("Software", "NovelAI"), with_text("Software", "Draw Things")
    unclaimed = with_exif("WEBP", Software="Midjourney")
    files = [
        *(data for data, _, _ in MARKED),
        *UNMARKED,
        *(with_text("XML:com.adobe.xmp", xmp.decode("latin-1"), lang="") for xmp in HOSTILE_XMP),
        *(data for kind in FORMATS for code in CODES for data in with_source_type(kind, code)),
        *(signed(kind) for kind in (*FORMATS, "AVIF")),
        signed("JPEG", f"{SOURCE}digitalCapture"),
        with_xmp("JPEG", packet("", f'TC260:AIGC="{AIGC.replace(chr(34), "&quot;")}"')),
        with_exif("WEBP", Software="DALL·E 3", Model=f"prompt:{GRAPH}", UserComment=PARAMETERS),
        with_exif("JPEG", UserComment=b"UNICODE\0" + PARAMETERS.encode("utf-16-le")),
        with_exif("JPEG", UserComment=PARAMETERS.encode()),
        with_exif("PNG", ImageDescription=f"x Job ID: {'0' * 8}-{'1' * 27}"),
        with_text("Software", "unImagend"),
        with_text("parameters", '{"a": 1}', zip=True),
        with_text("AIGC", '{"AIGC": {"Label": "4"}}'),
        with_text("AIGC", "{broken"),
        with_text("sd-metadata", ""),
        first[:33] + second[33 : second.index(b"IDAT") - 4] + first[33:],
        old_exif(),
        in_scan(encode(picture(64, 64), "JPEG")),
        unclaimed.replace(b"VP8X\n\0\0\0\x08", b"VP8X\n\0\0\0\0"),
        *(path.read_bytes() for path in sample_pictures().values()),
    ]
    expected = [load_image(data).info.claims for data in files]
    assert sum(len(claims) for claims in expected) > 40
    for data, claims, found in zip(files, expected, read(files), strict=True):
        assert found["claims"] == [asdict(claim) for claim in claims], data[:2000]
        assert found["words"] == [claim.words for claim in claims]


def test_what_exiftool_writes_is_read_as_python_reads_it(read, tmp_path) -> None:
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed (package libimage-exiftool-perl)")
    job, files = f"é Job ID: {'0' * 8}-{'1' * 27}", []
    tags = [f"-XMP-iptcExt:DigitalSourceType={GENERATED}", "-EXIF:Software=Midjourney"]
    tags += [f"-EXIF:UserComment={PARAMETERS}", "-XMP-xmp:CreatorTool=Adobe Firefly"]
    tags += ["-XMP-photoshop:Credit=Made with Google AI", f"-EXIF:ImageDescription={job}"]
    for kind in ("png", "jpg", "webp"):
        path = tmp_path / f"a.{kind}"
        picture(64, 64).save(path)
        subprocess.run(["exiftool", "-q", *tags, path], check=True)
        files.append(path.read_bytes())
    for data, found in zip(files, read(files), strict=True):
        expected = [asdict(claim) for claim in load_image(data).info.claims]
        assert found["claims"] == expected
        assert len(expected) == len(tags)


def test_the_facts_are_those_of_python(read) -> None:
    image = picture(61, 47)
    files = [encode(image, "JPEG", quality=quality) for quality in (1, 30, 49, 50, 75, 92, 100)]
    files += [encode(image.convert(mode), "JPEG", quality=60) for mode in ("L", "CMYK")]
    own = [[8 + i // 4 for i in range(64)], [9 + i // 3 for i in range(64)]]
    files += [encode(image, "JPEG", qtables=tables) for tables in (own, own[:1])]
    files += [encode(image, "JPEG", quality=80, progressive=True)]
    files += [encode(image, kind) for kind in ("PNG", "WEBP", "AVIF", "GIF", "BMP")]
    turned = Image.Exif()
    turned[0x0112] = 6
    files += [encode(image, "JPEG", exif=turned.tobytes())]
    for data, found in zip(files, read(files), strict=True):
        info = asdict(load_image(data).info)
        assert found["facts"] == {name: info[name] for name in FACTS}


def test_damaged_and_hostile_files_are_read_in_bounds(read) -> None:
    """Nothing is thrown, and nothing that inflates or repeats takes long."""
    rng, damaged = random.Random(0), []
    for data, _, _ in MARKED:
        for _ in range(10 if len(data) < 50_000 else 0):
            wrong = bytearray(data[: rng.randrange(40, len(data))])
            for _ in range(5):
                wrong[rng.randrange(12, len(wrong))] = rng.randrange(256)
            damaged.append(bytes(wrong))
    assert len(read(damaged)) == len(damaged) > 100
    plain, zeros = encode(picture(8, 8), "PNG"), bytes(2**26)
    bomb = with_text("parameters", zeros.decode(), zip=True)
    many = b"".join(png_chunk(b"tEXt", b"parameters\0x") for _ in range(20_000))
    again = with_text("parameters", "Steps: 1, " * 100_000)
    found = read([bomb, plain[:33] + many + plain[33:], again])
    assert [one["claims"] for one in found] == [[], [], []]


def test_a_claim_is_shown_beside_the_answer(browser, hub) -> None:
    """The packaged model's page shows the words of Python, and no prompt."""
    from hf_ela.hub.locate import packaged_model

    names = ("hf_ela.json", "model.onnx")
    files = {name: (packaged_model() / name).read_bytes() for name in names}
    commit = hub.add_model("user/art", files).find("main").sha
    data = with_text("parameters", PARAMETERS)
    (claim,) = load_image(data).info.claims
    with served(widget_files("user/art", commit)) as url:
        widget = WidgetPage(browser, url, hub.endpoint)
        widget.open()
        widget.choose("plain.jpg", encode(picture(300, 280), "JPEG", quality=85))
        before = widget.score("plain.jpg")
        assert widget.page.locator("#claims").is_hidden()
        assert widget.page.inner_text("#facts").split("\n")[-1] == "85"
        widget.choose("marked.png", data)
        widget.score("marked.png")
        shown = widget.page.inner_text("#claim-list")
        assert shown == f"The file itself says: {claim.words} ({claim.what}; {claim.where})."
        assert "secret" not in widget.page.content()
        marked = with_xmp("JPEG", packet("", f'Iptc4xmpExt:DigitalSourceType="{GENERATED}"'))
        assert "plain" not in widget.page.inner_text("#name")
        widget.choose("again.jpg", encode(picture(300, 280), "JPEG", quality=85))
        assert widget.score("again.jpg") == before
        assert widget.page.locator("#claims").is_hidden()
        widget.choose("typed.jpg", marked)
        widget.score("typed.jpg")
        assert "AI-generated (IPTC" in widget.page.inner_text("#claim-list")
        widget.context.close()
        assert widget.foreign == []
