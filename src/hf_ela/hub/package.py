"""What the installed package gives a release: its wheel, its samples and the card's text."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from hf_ela._version import __version__
from hf_ela.errors import CardError, ReleaseError
from hf_ela.hub.locate import PACKAGED

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parents[1]
# A checkout has it at the top, where people look for it; a wheel has it inside the package.
_PLACES = (_PACKAGE / "model_card", _CHECKOUT / "model_card")
MODEL_CARD = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
"""Folder with `template.md`, `prose.md` and `samples/`."""

SAMPLES = {
    "fake-carved-car.webp": "A carved car, by Stable Diffusion",
    "fake-dark-fantasy.webp": "A dark fantasy, by Stable Diffusion",
    "real-durer-great-piece-of-turf.jpg": "Great Piece of Turf, by Albrecht Dürer",
    "real-hokusai-asakusa-honganji.jpg": "Hongan-ji at Asakusa, by Katsushika Hokusai",
}
"""File name -> title. `model_card/samples/README.md` says why these, and names their sources."""

WHEEL = f"hf_ela-{__version__}-py3-none-any.whl"
"""Name of the wheel in a release."""
ANY_WHEEL = re.compile(r"hf_ela-[^/]+\.whl")
"""Its name in any version."""
PARTS = (".py", ".typed", ".toml", ".md", ".jpg", ".png", ".webp", ".html", ".js", ".css", ".svg")
"""Endings of files of the package; backups of an editor or an .env are not part of it."""

_WHEEL_METADATA = """\
Wheel-Version: 1.0
Generator: hf_ela
Root-Is-Purelib: true
Tag: py3-none-any
"""


def sample_pictures() -> dict[str, Path]:
    """Return the sample pictures by file name."""
    folder = MODEL_CARD / "samples"
    # A checkout holds them once, with the other pictures of its tests.
    if not (folder / next(iter(SAMPLES))).is_file():
        folder = _CHECKOUT / "tests" / "data"
    return {name: folder / name for name in SAMPLES}


def sample_files() -> dict[str, Path]:
    """Return all files of a release's `samples/` by name: the pictures and their description."""
    folder = MODEL_CARD / "samples"
    return {**sample_pictures(), **{name: folder / name for name in ("README.md", "ela.png")}}


def sample_label(name: str) -> str:
    """Return the true label of a sample picture, ``fake`` or ``real``: its name begins with it."""
    return name.partition("-")[0]


def wheel() -> tuple[str, bytes]:
    """Return file name and content of a wheel of the installed package.

    Works from a checkout and from an installation. The same files give the same bytes: the wheel
    has no times, and no compression, since compressors differ. Python can import from it with its
    path in `sys.path`; pip can install it.

    Raises:
        ReleaseError: The installation has another version than the code.
    """
    installed = distribution("hf-ela")
    if installed.version != __version__:
        raise ReleaseError(
            f"The installed hf-ela has version {installed.version}, but the code has "
            f"{__version__}. Install it again: pip install -e ."
        )
    stem = f"hf_ela-{__version__}"
    package = dict(_contents(files("hf_ela"), "hf_ela"))
    # A release has its own model.
    package = {name: data for name, data in package.items() if f"/{PACKAGED}/" not in name}
    # A checkout has these outside the package, an installation inside: the same order for both.
    package |= _contents(MODEL_CARD, "hf_ela/model_card")
    for sample, path in sample_pictures().items():
        package[f"hf_ela/model_card/samples/{sample}"] = path.read_bytes()
    contents = dict(sorted(package.items()))
    for name in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        contents[f"{stem}.dist-info/{name}"] = (installed.read_text(name) or "").encode()
    contents[f"{stem}.dist-info/WHEEL"] = _WHEEL_METADATA.encode()
    record = f"{stem}.dist-info/RECORD"
    lines = [
        f"{name},sha256={urlsafe_b64encode(sha256(content).digest()).decode().rstrip('=')},"
        f"{len(content)}\n"
        for name, content in contents.items()
    ]
    contents[record] = "".join([*lines, f"{record},,\n"]).encode()

    file = BytesIO()
    with ZipFile(file, "w", ZIP_STORED) as archive:
        for name, content in contents.items():
            entry = ZipInfo(name)  # of 1980
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return WHEEL, file.getvalue()


REPOSITORY = r"[\w.-]+/[\w.-]+"


def check_names(repo_id: str | None, revision: str | None) -> None:
    """Refuse names that would not be read as such in a command, an address or code.

    Raises:
        CardError: One is not ``user/name``, or not a tag or a branch.
    """
    if repo_id is not None and not re.fullmatch(REPOSITORY, repo_id, re.ASCII):
        raise CardError(f"`repo_id` must be user/name. Received: {repo_id!r}.")
    if revision is not None and not re.fullmatch(r"[\w./-]+", revision, re.ASCII):
        raise CardError(f"`revision` must be a tag or a branch. Received: {revision!r}.")


def install_release(repo_id: str, revision: str | None, extras: str = "") -> str:
    """Return the command that installs this package from a release.

    Args:
        repo_id: ``user/name`` of the release.
        revision: Its tag or branch; main by default.
        extras: Names of extras, such as ``train,jax``.
    """
    return f'pip install "{release_requirement(repo_id, revision, extras)}"'


def release_requirement(repo_id: str, revision: str | None, extras: str) -> str:
    """Return the wheel of a release as a requirement; arguments as for `install_release`."""
    name = f"hf-ela[{extras}]" if extras else "hf-ela"
    return f"{name} @ https://huggingface.co/{repo_id}/resolve/{revision or 'main'}/{WHEEL}"


def requirements(*extras: str, pinned: bool = False) -> str:
    """Return the requirements of this package, one a line, for pip.

    Args:
        extras: Names of extras, such as ``keras``, to include.
        pinned: Name the very version that is installed here, of those that are.
    """
    lines = []
    for line in distribution("hf-ela").requires or []:
        requirement = Requirement(line)
        marker, requirement.marker = requirement.marker, None
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            if pinned:
                with suppress(PackageNotFoundError):
                    here = Version(version(requirement.name)).public
                    requirement.specifier = SpecifierSet(f"=={here}")
            lines.append(f"{requirement}\n")
    return "".join(lines)


def _contents(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            yield from _contents(entry, path)
        elif entry.name.endswith(PARTS) and not entry.name.startswith("."):
            yield path, entry.read_bytes()
