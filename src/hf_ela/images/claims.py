"""What a file says of how it was made: marks of generators, cameras and editors, and C2PA.

Anybody can write such a mark, and anybody can remove it. So a claim stands beside the score and
never moves it, and a file without claims says nothing. A mark counts only in the place where its
writer puts it; prompts are not kept. Nothing in a file is run, and nothing is fetched.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

from hf_ela.images.c2pa_manifest import read_manifest
from hf_ela.images.png import png_chunks

Says = Literal["ai", "human", "edited"]
SAYS_WORDS: dict[Says, str] = {"ai": "AI-generated", "human": "human-made", "edited": "edited"}

_SOURCE_TYPES: dict[str, Says] = {
    "trainedAlgorithmicMedia": "ai",
    "compositeWithTrainedAlgorithmicMedia": "ai",
    "algorithmicMedia": "ai",
    "compositeSynthetic": "ai",
    "digitalCapture": "human",
    "computationalCapture": "human",
    "negativeFilm": "human",
    "positiveFilm": "human",
    "print": "human",
    "digitalArt": "human",
    "digitalCreation": "human",
    "humanEdits": "edited",
    "minorHumanEdits": "edited",
    "algorithmicallyEnhanced": "edited",
    "compositeCapture": "edited",
    "composite": "edited",
}
"""Codes of https://cv.iptc.org/newscodes/digitalsourcetype/ that tell people from generators."""
_SOURCE_TYPE = re.compile(r"(?:^|/)(\w+)$")

_GENERATOR = re.compile(
    r"(?i)\b(Stable[ -]?Diffusion|NovelAI|Midjourney|DALL[-·. ]?E|ComfyUI|InvokeAI|Fooocus"
    r"|Adobe Firefly|Imagen|Draw Things|Leonardo\.?AI)\b"
)
"""Names that generators write where the program is named."""
_PARAMETERS = re.compile(r"\bSteps: \d{1,6}, [^\n]{0,300}?\b(Sampler|CFG scale|Seed): ")
_JOB = re.compile(r"\bJob ID: [0-9a-f]{8}-[0-9a-f-]{27}")
_WEB_UI = "Stable Diffusion web UI, or a program like it"

_TEXTS: dict[str, tuple[str, Callable[[str], object]]] = {
    "parameters": (_WEB_UI, lambda text: _PARAMETERS.search(text) or text.startswith("{")),
    "prompt": ("ComfyUI", lambda text: text.startswith("{") and '"class_type"' in text),
    "workflow": ("ComfyUI", lambda text: text.startswith("{") and '"nodes"' in text),
    "Dream": ("InvokeAI", bool),
    "sd-metadata": ("InvokeAI", bool),
    "invokeai_metadata": ("InvokeAI", bool),
    "Description": ("Midjourney", _JOB.search),
}
"""Keys of PNG texts: who writes them, and how their values are known."""
_KEYS = frozenset({*_TEXTS, "Software", "AIGC"})

_IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
_AIGC = "{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC"  # GB 45438-2025, mandatory in China
_CREDIT = "{http://ns.adobe.com/photoshop/1.0/}Credit"
_TOOL = "{http://ns.adobe.com/xap/1.0/}CreatorTool"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"

_MOST_TEXT = 2**20
"""Bytes that are read of a text or of XMP, compressed or not."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A mark in a file.

    Attributes:
        what: The kind of mark, with its signer if it is a signed one.
        where: Its place in the file.
        says: Whether it says that AI (``ai``) or people (``human``) made the picture, or that one
            was ``edited``; None if it says nothing of that.
        verified: Whether the signature is valid and the file unchanged since; None for a mark
            without a signature, or where the extra `c2pa` is not installed.
        tool: The program that it names, or "".
    """

    what: str
    where: str
    says: Says | None
    verified: bool | None = None
    tool: str = ""

    @property
    def words(self) -> str:
        """What the file says, such as ``AI-generated, by ComfyUI``."""
        said = SAYS_WORDS[self.says] if self.says else "nothing of who made it"
        return f"{said}, by {self.tool}" if self.tool else said


def read_claims(image: Image.Image, data: bytes) -> tuple[Claim, ...]:
    """Return the claims of a file, each once, C2PA first.

    Args:
        image: The file as Pillow opened and loaded it.
        data: Its bytes.
    """
    found: dict[Claim, None] = {}
    for reader in (_from_manifest, _from_texts, _from_exif, _from_xmp):
        try:
            found.update(dict.fromkeys(reader(image, data)))
        except Warning:
            raise
        except Exception:  # noqa: S112  (corrupt metadata raises any kind, and makes no claim)
            continue
    return tuple(found)


def _from_manifest(image: Image.Image, data: bytes) -> Iterator[Claim]:
    if not (manifest := read_manifest(image, data)):
        return
    said = {_source_type(address) for address in manifest.sources}
    order: tuple[Says, ...] = ("ai", "edited", "human")
    says = next((one for one in order if one in said), "edited" if manifest.edited else None)
    what = f"C2PA manifest, {manifest.signed}"
    yield Claim(what, manifest.where, says, manifest.verified, manifest.tool)


def _source_type(address: str) -> Says | None:
    code = _SOURCE_TYPE.search(address)
    return _SOURCE_TYPES.get(code[1]) if code else None


def _from_texts(image: Image.Image, data: bytes) -> Iterator[Claim]:
    texts = _texts(data) if image.format == "PNG" else {}
    for key, (tool, is_mark) in _TEXTS.items():
        if key in texts and is_mark(texts[key]):
            yield Claim("settings of a generator", f"PNG text {key}", "ai", tool=tool)
    if generator := _GENERATOR.search(texts.get("Software", "")):
        yield Claim("name of a generator", "PNG text Software", "ai", tool=generator[1])
    if "AIGC" in texts:
        yield from _label(texts["AIGC"], "PNG text AIGC")


def _texts(data: bytes) -> dict[str, str]:
    """Return the first text of each key that a claim can be made by; no other is inflated."""
    texts: dict[str, str] = {}
    for kind, start, end in png_chunks(data):
        name, _, value = data[start + 8 : end - 4].partition(b"\0")
        key = name.decode("latin-1")
        if kind not in (b"tEXt", b"zTXt", b"iTXt") or key not in _KEYS or key in texts:
            continue
        packed = kind == b"zTXt"
        if kind == b"iTXt":
            packed, value = value[:1] == b"\1", b"\0" + value[2:].split(b"\0", 2)[-1]
        if kind != b"tEXt":
            value = value[1:]
        value = _inflated(value) if packed else value[:_MOST_TEXT]
        texts[key] = value.decode("utf-8", "replace")
    return texts


def _inflated(compressed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(compressed, _MOST_TEXT)
    except zlib.error:
        return b""


def _from_exif(image: Image.Image, data: bytes) -> Iterator[Claim]:
    exif = image.getexif()
    if generator := _GENERATOR.search(str(exif.get(ExifTags.Base.Software, ""))):
        yield Claim("name of a generator", "EXIF Software", "ai", tool=generator[1])
    if _JOB.search(str(exif.get(ExifTags.Base.ImageDescription, ""))):
        yield Claim("settings of a generator", "EXIF ImageDescription", "ai", tool="Midjourney")
    for tag, beginning in ((ExifTags.Base.Make, "workflow:{"), (ExifTags.Base.Model, "prompt:{")):
        if str(exif.get(tag, "")).startswith(beginning):
            yield Claim("settings of a generator", f"EXIF {tag.name}", "ai", tool="ComfyUI")
    comment = _comment(exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b""))
    if _PARAMETERS.search(comment):
        yield Claim("settings of a generator", "EXIF UserComment", "ai", tool=_WEB_UI)
    yield from _label(comment, "EXIF UserComment")


def _comment(value: bytes | str) -> str:
    """Return the text of a UserComment, whose first eight bytes should name its characters."""
    if isinstance(value, str):
        return value
    kind, text = value[:8], value[8 : 8 + _MOST_TEXT]
    if kind == b"UNICODE\0":
        big = text[:1] == b"\0" or text[:2] == b"\xfe\xff"  # the standard leaves the order open
        return text.decode("utf-16-be" if big else "utf-16-le", "replace")
    known = kind.rstrip(b"\0") in (b"ASCII", b"JIS", b"")
    return (text if known else value[:_MOST_TEXT]).decode("utf-8", "replace")


def _label(text: str, place: str) -> Iterator[Claim]:
    """Yield the claim of a label of GB 45438-2025, a JSON object."""
    if not text.startswith("{"):
        return
    found = json.loads(text)
    found = found.get("AIGC", found)
    if isinstance(found, Mapping) and str(found.get("Label")) in ("1", "2", "3"):
        yield Claim("AIGC label", place, "ai", tool=str(found.get("ContentProducer", ""))[:100])


def _from_xmp(image: Image.Image, data: bytes) -> Iterator[Claim]:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(image, TiffImageFile):
        packet = packet or image.tag_v2.get(ExifTags.Base.XMLPacket, b"")
    packet = packet.encode() if isinstance(packet, str) else packet
    if not isinstance(packet, bytes) or not 0 < len(packet) <= _MOST_TEXT:  # a tag can be a number
        return
    properties = dict(_properties(packet.strip(b"\0 \n")))
    if says := _source_type(properties.get(_IPTC, "")):
        yield Claim(f"IPTC digital source type {properties[_IPTC].rpartition('/')[2]}", "XMP", says)
    if (credit := properties.get(_CREDIT, "")) == "Made with Google AI":
        yield Claim("credit", "XMP photoshop:Credit", "ai", tool=credit.removeprefix("Made with "))
    if generator := _GENERATOR.search(properties.get(_TOOL, "")):
        yield Claim("name of a generator", "XMP xmp:CreatorTool", "ai", tool=generator[1])
    yield from _label(properties.get(_AIGC, ""), "XMP TC260:AIGC")


def _properties(packet: bytes) -> Iterator[tuple[str, str]]:
    """Yield the properties of the picture itself, not those of what it was made from."""
    from defusedxml import ElementTree

    for described in ElementTree.fromstring(packet).findall(f"{_RDF}RDF/{_RDF}Description"):
        yield from described.attrib.items()
        yield from ((child.tag, (child.text or "").strip()) for child in described)
