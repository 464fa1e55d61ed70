"""The C2PA manifest of a file, signed by who made or edited it: found, and verified offline.

The extra `c2pa` verifies; without it a manifest is found, and what it says is not verified. See
https://spec.c2pa.org for where each format keeps it. Nothing is fetched.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import Any, NamedTuple

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from hf_ela.images.png import png_chunks

_SOURCE_TYPE = re.compile(rb"http://cv\.iptc\.org/newscodes/digitalsourcetype/\w+")
_TAG = 0xCD41  # of a TIFF
_WRONG = ", but it does not belong to this picture, or was changed"
_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # of an AVIF


class Manifest(NamedTuple):
    """What a manifest says.

    Attributes:
        where: Its place in the file.
        signed: By whom, and what that is worth, in words.
        sources: Addresses of the digital source types of what was done.
        edited: Whether something was done beyond creating the picture.
        verified: Whether the signature is valid and the file unchanged since; None if not verified.
        tool: The program that wrote it, or "".
    """

    where: str
    signed: str
    sources: frozenset[str] = frozenset()
    edited: bool = False
    verified: bool | None = None
    tool: str = ""


def read_manifest(image: Image.Image, data: bytes) -> Manifest | None:
    """Return the manifest of a file that Pillow opened, or None."""
    where, found = _find(image, data)
    if b"c2pa" not in found:
        return None
    if find_spec("c2pa"):
        return _verified(str(image.format), where, data)
    sources = frozenset(address.decode() for address in _SOURCE_TYPE.findall(found))
    return Manifest(where, "not verified", sources)


def _find(image: Image.Image, data: bytes) -> tuple[str, bytes]:
    """Return the place and the bytes of a manifest, or no bytes."""
    match image.format:
        case "JPEG" if isinstance(image, JpegImageFile):
            parts = (body for name, body in image.applist if name == "APP11")
            return "JPEG APP11", b"".join(parts)
        case "PNG":
            chunks = (
                data[at + 8 : end - 4] for kind, at, end in png_chunks(data) if kind == b"caBX"
            )
            return "PNG caBX", b"".join(chunks)
        case "WEBP":
            return "WebP C2PA", b"".join(_riff_chunks(data, b"C2PA"))
        case "AVIF":
            return "AVIF uuid", b"".join(_boxes(data))
        case "TIFF" if isinstance(image, TiffImageFile):
            value = image.tag_v2.get(_TAG)
            return f"TIFF tag {_TAG}", value if isinstance(value, bytes) else b""  # or a number
    return "", b""


def _riff_chunks(data: bytes, kind: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == kind:
            yield data[at + 8 : end]
        at = end + end % 2


def _boxes(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4]) or len(data) - at
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        if data[at + 4 : at + 8] == b"uuid" and data[at + 8 : at + 24] == _BOX:
            yield data[at + 24 : at + size]
        at += max(size, 8)


def _verified(image_format: str, where: str, data: bytes) -> Manifest:
    import c2pa

    try:
        with c2pa.Reader(
            f"image/{image_format.lower()}", BytesIO(data), context=_offline()
        ) as reader:
            store = json.loads(reader.json())
    except c2pa.C2paError:
        return Manifest(where, "cannot be read", verified=False)
    manifest = store["manifests"][store["active_manifest"]]
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    state = store["validation_state"]
    worth = {"Trusted": "", "Valid": ", who is on no trust list"}.get(state, _WRONG)
    signer = manifest.get("signature_info", {}).get("issuer", "somebody")
    tools = manifest.get("claim_generator_info") or [{}]
    return Manifest(
        where,
        f"signed by {signer}{worth}",
        frozenset(
            action["digitalSourceType"] for action in actions if "digitalSourceType" in action
        ),
        edited=any(action["action"] != "c2pa.created" for action in actions),
        verified=state in ("Trusted", "Valid"),
        tool=str(tools[0].get("name", "")),
    )


@cache
def _offline() -> Any:
    import c2pa

    fetch_nothing = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    return c2pa.Context(c2pa.Settings.from_dict(fetch_nothing))
