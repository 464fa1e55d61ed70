"""The files of a demo Space of a release. No network."""

import json
import re
from importlib.resources import files
from urllib.parse import urlsplit

from huggingface_hub import SpaceCard, constants

from hf_ela.errors import ReleaseError
from hf_ela.hub.card import decode_card, has_text
from hf_ela.hub.release_files import BACKEND
from hf_ela.hub.samples import MODEL_CARD, sample_pictures
from hf_ela.hub.wheel import requirements, wheel

__all__ = ["space_files", "widget_files"]


def space_files(
    repo_id: str, revision: str, card_before: bytes | None = None, *, onnx: bool = True
) -> dict[str, bytes]:
    """Return path and contents of all files of a Gradio Space that shows a model.

    Args:
        repo_id: The model's repository, ``user/name``.
        revision: Its commit, 40 characters: the Space shows this one until it is pushed again.
        card_before: The README.md of the Space as it is: its text stays, and of its settings those
            that the page does not depend on.
        onnx: Whether the model was released with ONNX, and the Space needs no Keras.
    """
    assets = files("hf_ela.hub").joinpath("assets", "space")
    card = SpaceCard(assets.joinpath("README.md").read_text("utf-8"))
    if has_text(before := decode_card(card_before or b"")):
        ours, card = card.data, SpaceCard(before)
        for key in ("sdk", "sdk_version", "python_version", "app_file"):
            card.data[key] = ours[key]
    card.data["models"] = [repo_id]
    name, package = wheel()
    return {
        "README.md": str(card).encode(),
        "app.py": assets.joinpath("app.py").read_bytes(),
        "model.json": (json.dumps({"repo": repo_id, "revision": revision}) + "\n").encode(),
        "requirements.txt": requirements(*([] if onnx else [BACKEND])).encode(),
        name: package,
        "samples/README.md": (MODEL_CARD / "samples" / "README.md").read_bytes(),
        **{f"samples/{name}": path.read_bytes() for name, path in sample_pictures().items()},
    }


_PAGE = (".html", ".js", ".css", ".svg")
_HUB = "https://huggingface.co"
_STORAGE = "https://*.huggingface.co https://*.hf.co"
"""Where the Hub redirects a download to; its hosts have changed, and these cover them."""


def widget_files(repo_id: str, revision: str, card_before: bytes | None = None) -> dict[str, bytes]:
    """Return path and contents of all files of a static Space that runs a model.

    Args:
        repo_id: The model's repository, ``user/name``; it must be public and hold `model.onnx`.
        revision: Its commit, 40 characters: the page shows this one until it is pushed again.
        card_before: The README.md of the Space as it is: its text stays, and of its settings those
            that the page does not depend on.

    Raises:
        ReleaseError: The address of the Hub (HF_ENDPOINT) is none that a page can be bound to.
    """
    assets = files("hf_ela.hub").joinpath("assets", "widget")
    card = SpaceCard(assets.joinpath("README.md").read_text("utf-8"))
    if has_text(before := decode_card(card_before or b"")):
        ours, card = card.data, SpaceCard(before)
        for key in ("sdk", "app_file"):
            card.data[key] = ours[key]
    card.data["models"] = [repo_id]
    endpoint = constants.ENDPOINT.rstrip("/")
    place = {"endpoint": endpoint, "repo": repo_id, "revision": revision}
    samples = sample_pictures()
    page = {
        entry.name: entry.read_bytes() for entry in assets.iterdir() if entry.name.endswith(_PAGE)
    }
    page["index.html"] = page["index.html"].replace(b"{{model_hosts}}", _hosts(endpoint).encode())
    return {
        "README.md": str(card).encode(),
        "widget.json": (json.dumps(place | {"samples": list(samples)}) + "\n").encode(),
        **page,
        "samples/README.md": (MODEL_CARD / "samples" / "README.md").read_bytes(),
        **{f"samples/{name}": path.read_bytes() for name, path in samples.items()},
    }


def _hosts(endpoint: str) -> str:
    """Return what the page's security policy lets it fetch a model from."""
    parts = urlsplit(endpoint)
    origin = f"{parts.scheme}://{parts.netloc}"
    if not re.fullmatch(r"https?://[\w.-]+(:\d+)?", origin, re.ASCII):
        raise ReleaseError(
            "A widget is bound to the Hub's address, such as https://huggingface.co. "
            f"Received: HF_ENDPOINT={endpoint!r}. Set it to a plain http or https address."
        )
    return f"{origin} {_STORAGE}" if origin == _HUB else origin
