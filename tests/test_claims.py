"""What a file says of how it was made, in files of the writers that people use."""

import json
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from zlib import compress

import pytest
from PIL import ExifTags, Image, TiffTags
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from bad_files import encode, picture, png_chunk
from hf_ela import ElaClassifier, load_image
from hf_ela.images.claims import Claim

PARAMETERS = "a secret prompt\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"text": "a secret prompt"}}})
AIGC = json.dumps({"AIGC": {"Label": "1", "ContentProducer": "001191", "ProduceID": "x"}})
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = f"{SOURCE}trainedAlgorithmicMedia"
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF")


def claims(data: bytes) -> tuple[Claim, ...]:
    return load_image(data).info.claims


def with_text(key: str, value: str, **how: Any) -> bytes:
    info = PngInfo()
    info.add_itxt(key, value, **how) if how else info.add_text(key, value, zip=len(value) > 1000)
    return encode(picture(64, 64), "PNG", pnginfo=info)


def with_exif(kind: str, **tags: object) -> bytes:
    exif = Image.Exif()
    for name, value in tags.items():
        if name == "UserComment":
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base[name]] = value
        else:
            exif[ExifTags.Base[name]] = value
    return encode(picture(64, 64), kind, exif=exif.tobytes())


def packet(inner: str, attributes: str = "") -> bytes:
    return f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">
<rdf:Description rdf:about="" {attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def with_xmp(kind: str, xmp: bytes) -> bytes:
    if kind == "PNG":
        return with_text("XML:com.adobe.xmp", xmp.decode(), lang="")
    if kind == "TIFF":
        return encode(picture(64, 64), kind, tiffinfo={700: xmp})
    return encode(picture(64, 64), kind, xmp=xmp)


MARKED = [
    (with_text("parameters", PARAMETERS), "PNG text parameters", "Stable Diffusion web UI"),
    (with_text("prompt", GRAPH), "PNG text prompt", "ComfyUI"),
    (with_text("prompt", GRAPH + " " * 2**21), "PNG text prompt", "ComfyUI"),
    (with_text("workflow", '{"nodes": []}'), "PNG text workflow", "ComfyUI"),
    (with_text("invokeai_metadata", "{}", zip=True), "PNG text invokeai_metadata", "InvokeAI"),
    (with_text("Software", "NovelAI"), "PNG text Software", "NovelAI"),
    (with_text("AIGC", AIGC), "PNG text AIGC", "001191"),
    (
        with_text("Description", f"x --v 6 Job ID: {'0' * 8}-{'1' * 27}"),
        "PNG text Description",
        "Midjourney",
    ),
    (with_exif("JPEG", Software="Adobe Firefly 2"), "EXIF Software", "Adobe Firefly"),
    (with_exif("WEBP", Make=f"workflow:{GRAPH}"), "EXIF Make", "ComfyUI"),
    (
        with_exif("JPEG", UserComment=b"UNICODE\0" + PARAMETERS.encode("utf-16-be")),
        "EXIF UserComment",
        "Stable Diffusion web UI",
    ),
    (
        with_exif("WEBP", UserComment=b"ASCII\0\0\0" + PARAMETERS.encode()),
        "EXIF UserComment",
        "Stable Diffusion web UI",
    ),
    (with_exif("PNG", UserComment=AIGC), "EXIF UserComment", "001191"),
    (with_xmp("JPEG", packet(f"<TC260:AIGC>{AIGC}</TC260:AIGC>")), "XMP TC260:AIGC", "001191"),
    (
        with_xmp("PNG", packet("<photoshop:Credit>Made with Google AI</photoshop:Credit>")),
        "XMP photoshop:Credit",
        "Google AI",
    ),
    (
        with_xmp("WEBP", packet("", 'xmp:CreatorTool="Midjourney 7"')),
        "XMP xmp:CreatorTool",
        "Midjourney",
    ),
]
"""A file for each mark of a generator, its place, and how its tool begins."""


@pytest.mark.parametrize(("data", "where", "tool"), MARKED)
def test_marks_of_generators_are_found(data, where, tool) -> None:
    (claim,) = claims(data)
    assert (claim.where, claim.says, claim.verified) == (where, "ai", None)
    assert claim.tool.startswith(tool)
    assert "secret prompt" not in repr(claim)
    assert claim.words.startswith(f"AI-generated, by {tool}")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("trainedAlgorithmicMedia", "ai"),
        ("compositeWithTrainedAlgorithmicMedia", "ai"),
        ("digitalCapture", "human"),
        ("digitalArt", "human"),
        ("humanEdits", "edited"),
    ],
)
def test_the_digital_source_type_is_read(kind, code, says) -> None:
    inner = f"<Iptc4xmpExt:DigitalSourceType>{SOURCE}{code}</Iptc4xmpExt:DigitalSourceType>"
    as_element = claims(with_xmp(kind, packet(inner)))
    as_attribute = packet("", f'Iptc4xmpExt:DigitalSourceType="{SOURCE}{code}"')
    assert claims(with_xmp(kind, as_attribute)) == as_element
    assert as_element == (Claim(f"IPTC digital source type {code}", "XMP", says),)


UNMARKED = [
    encode(picture(64, 64), "PNG"),
    with_text("Comment", PARAMETERS),  # not where a generator writes it
    with_text("parameters", "of my oil paints"),
    with_text("prompt", "paint what you see"),
    with_text("Software", "GIMP 3.0"),
    with_exif("JPEG", Software="Adobe Photoshop 26", ImageDescription="Midjourney, I do not use"),
    with_xmp("JPEG", packet(f"<dc:source>{GENERATED}</dc:source>")),
    with_xmp(
        "PNG",
        packet(
            "<dc:relation><rdf:Description>"
            f"<Iptc4xmpExt:DigitalSourceType>{GENERATED}</Iptc4xmpExt:DigitalSourceType>"
            "</rdf:Description></dc:relation>"
        ),
    ),
    with_xmp("JPEG", packet(f"&lt;Iptc4xmpExt:DigitalSourceType&gt;{GENERATED}")),
    with_text("prompt", "{", lang="").replace(b"IEND\xaeB`\x82", b"IEND\xaeB`\x82" * 2),
    encode(picture(64, 64), "PNG") + with_text("parameters", PARAMETERS)[8:],
    encode(picture(64, 64), "JPEG") + b"c2pa" + GENERATED.encode(),
]
"""Files whose marks are not where a generator writes them."""


@pytest.mark.parametrize("data", UNMARKED)
def test_nothing_is_claimed_elsewhere(data) -> None:
    assert claims(data) == ()


HOSTILE_XMP = [
    b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>"
    + b"".join(b"<!ENTITY a%d '&a;&a;&a;&a;'>" % n for n in range(9))
    + b"]>"
    + packet("&a8;", f'Iptc4xmpExt:DigitalSourceType="{GENERATED}"'),
    packet("<a>" * 5000, f'Iptc4xmpExt:DigitalSourceType="{GENERATED}"'),
    packet(" " * 2**21, f'Iptc4xmpExt:DigitalSourceType="{GENERATED}"'),
    b"\xff\xfe<",
]


@pytest.mark.parametrize("xmp", HOSTILE_XMP)
def test_hostile_xmp_claims_nothing_and_loses_nothing(xmp) -> None:
    data = with_text("XML:com.adobe.xmp", xmp.decode("latin-1"), lang="")
    assert load_image(data).pixels == load_image(encode(picture(64, 64), "PNG")).pixels
    assert claims(data) == ()


def test_what_asks_for_memory_or_time_gets_neither() -> None:
    """Tags that are numbers, texts that inflate, and settings that begin again and again."""
    tags = ImageFileDirectory_v2()
    tags.tagtype[0xCD41], tags[0xCD41] = TiffTags.LONG, 2**31
    tiff = encode(picture(8, 8), "TIFF", tiffinfo=tags)
    tracemalloc.start()
    assert claims(tiff) == ()
    bomb = compress(bytes(2**20))
    texts = b"".join(png_chunk(b"zTXt", b"k%d\0\0" % n + bomb) for n in range(4000))
    plain = encode(picture(8, 8), "PNG")
    assert claims(plain[:33] + texts + plain[33:]) == ()
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    assert claims(with_text("parameters", "Steps: 1, " * 100_000)) == ()


def test_exiftool_writes_what_is_read(tmp_path) -> None:
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed (package libimage-exiftool-perl)")
    for kind in ("png", "jpg", "webp", "tif"):
        path = tmp_path / f"a.{kind}"
        picture(64, 64).save(path)
        tags = [f"-XMP-iptcExt:DigitalSourceType={GENERATED}", "-EXIF:Software=Midjourney"]
        subprocess.run(["exiftool", "-q", *tags, path], check=True)
        found = {claim.where: claim.says for claim in claims(path.read_bytes())}
        assert found == {"XMP": "ai", "EXIF Software": "ai"}, kind


def test_a_mark_moves_no_score(pictures, command, tmp_path) -> None:
    """The command line, Python and its copies say it beside the score."""
    plain, marked = tmp_path / "plain.png", tmp_path / "marked.png"
    image, info = Image.open(pictures[0]).convert("RGB"), PngInfo()
    info.add_text("parameters", PARAMETERS)
    image.save(plain)
    image.save(marked, pnginfo=info)
    first, second = map(json.loads, command("predict --json", plain, marked).out.splitlines())
    assert first.pop("claims") == []
    (claim,) = second.pop("claims")
    assert claim == {
        "what": "settings of a generator",
        "where": "PNG text parameters",
        "says": "ai",
        "verified": None,
        "tool": "Stable Diffusion web UI, or a program like it",
    }
    assert second["facts"].pop("size_bytes") > first["facts"].pop("size_bytes")
    assert first | {"file": 0} == second | {"file": 0}
    shown = command("predict", plain, marked).out
    assert shown.count("AI-generated,") == 1
    assert "2 pictures: " in shown
    (score,) = ElaClassifier.from_pretrained().scores([marked])
    assert score.info.claims == (Claim(**claim),)
    assert ElaClassifier.from_pretrained().explain(marked).score.info == score.info


# ------------------------------------------------------------------------------------------- C2PA


@pytest.fixture(scope="module")
def signed() -> Callable[..., bytes]:
    """Sign a picture as a generator does, with a certificate that nobody trusts."""
    c2pa = pytest.importorskip("c2pa")
    certificates, key = _certificates()
    info = c2pa.C2paSignerInfo(b"es256", certificates, key, None)

    def sign(kind: str, source: str = GENERATED, *more: dict[str, object]) -> bytes:
        created = {"action": "c2pa.created", "digitalSourceType": source}
        manifest = {
            "claim_generator_info": [{"name": "Test Generator", "version": "1"}],
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [created, *more]}}],
        }
        file = BytesIO()
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest) as builder:
            mime, plain = f"image/{kind.lower()}", encode(picture(64, 64), kind)
            builder.sign(signer, mime, BytesIO(plain), file)
        return file.getvalue()

    return sign


def _certificates() -> tuple[bytes, bytes]:
    """A certificate with that of its authority, and its key, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now, pem = datetime.now(UTC), serialization.Encoding.PEM

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, text)])

    def certificate(name: str, key: Any, *, authority: bool) -> bytes:
        use = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("Test Root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
                    content_commitment=False, key_encipherment=False, data_encipherment=False,
                    key_agreement=False, encipher_only=False, decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()),
                critical=False,
            )
        )  # fmt: skip
        builder = builder if authority else builder.add_extension(use, critical=False)
        return builder.sign(root, hashes.SHA256()).public_bytes(pem)

    chain = certificate("Test Signer", leaf, authority=False)
    chain += certificate("Test Root", root, authority=True)
    no_password = serialization.NoEncryption()
    return chain, leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_manifest_is_verified(kind, signed) -> None:
    (claim,) = claims(signed(kind))
    assert claim.what == "C2PA manifest, signed by Test Signer, who is on no trust list"
    assert (claim.says, claim.verified, claim.tool) == ("ai", True, "Test Generator")
    (claim,) = claims(signed(kind, f"{SOURCE}digitalCapture", {"action": "c2pa.color_adjustments"}))
    assert (claim.says, claim.verified) == ("human", True)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_manifest_is_found_without_the_extra(kind, signed, monkeypatch) -> None:
    monkeypatch.setattr("hf_ela.images.c2pa_manifest.find_spec", lambda name: None)
    (claim,) = claims(signed(kind))
    assert (claim.what, claim.says, claim.verified) == ("C2PA manifest, not verified", "ai", None)
    assert claim.where.startswith({"JPEG": "JPEG", "WEBP": "WebP"}.get(kind, kind))


def test_a_manifest_of_another_picture_is_broken(signed) -> None:
    data = signed("PNG")
    start = data.index(b"caBX") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    other = encode(picture(64, 64, seed=9), "PNG")
    (claim,) = claims(other[:33] + data[start:end] + other[33:])
    assert (claim.says, claim.verified) == ("ai", False)
    assert "does not belong to this picture" in claim.what
    (claim,) = claims(other[:33] + png_chunk(b"caBX", b"c2pa" * 9) + other[33:])
    assert claim.verified is False


def test_a_file_of_camera_or_editor_is_told_apart(signed) -> None:
    edited = {"action": "c2pa.edited", "digitalSourceType": f"{SOURCE}humanEdits"}
    assert claims(signed("JPEG", "", edited))[0].says == "edited"
    assert claims(signed("JPEG", f"{SOURCE}digitalArt", edited))[0].says == "edited"
