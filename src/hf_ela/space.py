"""The files of a demo Space of a release. No network."""

import json
from importlib.resources import files

from huggingface_hub import SpaceCard

from hf_ela.card import decode_card, has_text
from hf_ela.package import requirements, wheel
from hf_ela.release import BACKEND
from hf_ela.samples import MODEL_CARD, sample_pictures

__all__ = ["space_files"]


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
    assets = files("hf_ela").joinpath("assets", "space")
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
