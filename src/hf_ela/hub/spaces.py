"""The files of a demo Space of a release. No network."""

import json
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import SpaceCard, constants

from hf_ela._text import SYNTHETIC_NOTICE
from hf_ela.errors import ReleaseError
from hf_ela.hub.card import decode_card, has_text
from hf_ela.hub.card_metadata import parse_card
from hf_ela.hub.release_files import BACKEND
from hf_ela.hub.samples import SAMPLES, sample_files, sample_label
from hf_ela.hub.wheel import requirements, wheel

__all__ = ["space_files", "widget_files"]

_PAGE = (".html", ".js", ".css", ".svg")
_HUB = "https://huggingface.co"
_STORAGE = "https://*.huggingface.co https://*.hf.co"
"""Where the Hub redirects a download to; its hosts have changed, and these cover them."""


def space_files(
    repo_id: str, revision: str, card_before: bytes | None = None, *, onnx: bool = True
) -> dict[str, bytes]:
    """Return path and contents of all files of a Gradio Space that shows a model.

    Args:
        repo_id: The repository of the model, ``user/name``.
        revision: Its commit, 40 characters: the Space shows this one until it is pushed again.
        card_before: The current README.md of the Space: its text stays, and so do its settings
            except those that the page depends on.
        onnx: Whether the model was released with ONNX, so that the Space needs no Keras.

    Raises:
        CardError: The current card cannot be read.
        ReleaseError: The installed package is of another version than the code.
    """
    assets = files("hf_ela.hub").joinpath("assets", "space")
    kept = ("sdk", "sdk_version", "python_version", "app_file")
    name, package = wheel()
    return {
        "README.md": _card(assets, repo_id, card_before, kept),
        "app.py": assets.joinpath("app.py").read_bytes(),
        "model.json": _as_json({"repo": repo_id, "revision": revision, "samples": _samples()}),
        "requirements.txt": requirements(*([] if onnx else [BACKEND])).encode(),
        name: package,
        **_sample_contents(),
    }


def widget_files(repo_id: str, revision: str, card_before: bytes | None = None) -> dict[str, bytes]:
    """Return path and contents of all files of a static Space that runs a model.

    Args:
        repo_id: The repository of the model, ``user/name``; it must be public and hold
            `model.onnx`.
        revision: Its commit, 40 characters: the page shows this one until it is pushed again.
        card_before: The current README.md of the Space: its text stays, and so do its settings
            except those that the page depends on.

    Raises:
        CardError: The current card cannot be read.
        ReleaseError: A page cannot be bound to the address of the Hub (HF_ENDPOINT).
    """
    assets = files("hf_ela.hub").joinpath("assets", "widget")
    endpoint = constants.ENDPOINT.rstrip("/")
    place = {"endpoint": endpoint, "repo": repo_id, "revision": revision}
    page = {
        entry.name: entry.read_bytes() for entry in assets.iterdir() if entry.name.endswith(_PAGE)
    }
    page["index.html"] = page["index.html"].replace(b"{{model_hosts}}", _hosts(endpoint).encode())
    # The page shows the notice where the settings of the model call for it.
    return {
        "README.md": _card(assets, repo_id, card_before, ("sdk", "app_file")),
        "widget.json": _as_json(
            {**place, "samples": _samples(), "synthetic_notice": SYNTHETIC_NOTICE}
        ),
        **page,
        **_sample_contents(),
    }


def _card(
    assets: Traversable, repo_id: str, card_before: bytes | None, ours: tuple[str, ...]
) -> bytes:
    card = SpaceCard(assets.joinpath("README.md").read_text("utf-8"))
    if has_text(before := decode_card(card_before or b"")):
        settings, card = card.data, parse_card(before, SpaceCard)
        for key in ours:
            card.data[key] = settings[key]
    card.data["models"] = [repo_id]
    return str(card).encode()


def _samples() -> list[dict[str, str]]:
    return [
        {"file": name, "title": title, "label": sample_label(name)}
        for name, title in SAMPLES.items()
    ]


def _sample_contents() -> dict[str, bytes]:
    return {f"samples/{name}": path.read_bytes() for name, path in sample_files().items()}


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _hosts(endpoint: str) -> str:
    """Return the hosts from which the security policy of the page lets it fetch a model."""
    parts = urlsplit(endpoint)
    origin = f"{parts.scheme}://{parts.netloc}"
    if not re.fullmatch(r"https?://[\w.-]+(:\d+)?", origin, re.ASCII):
        raise ReleaseError(
            "A widget needs a plain http or https address of the Hub, such as "
            f"https://huggingface.co. Received: HF_ENDPOINT={endpoint!r}. Change HF_ENDPOINT."
        )
    return f"{origin} {_STORAGE}" if origin == _HUB else origin
