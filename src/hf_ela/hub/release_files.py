"""The files of a release and of the Spaces that show it, from a run folder. No network.

Only the files named in `release_files` and `model_files` ever leave the machine.
"""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import SpaceCard, constants

from hf_ela._text import SYNTHETIC_NOTICE
from hf_ela.errors import ReleaseError
from hf_ela.hub.card import CAPTIONS, make_card
from hf_ela.hub.card_metadata import decode_card, has_text, parse_card
from hf_ela.hub.notebook import NOTEBOOK, make_notebook
from hf_ela.hub.package import requirements, wheel
from hf_ela.hub.private import Files, check_private, content_of
from hf_ela.hub.samples import Samples, package_samples, recorded_samples
from hf_ela.models.folder import saved_files
from hf_ela.models.settings import ONNX_FILE
from hf_ela.run_record import EVENTS, GROUPS_TABLE, read_run

ASSETS = files("hf_ela.hub") / "assets"
CARD = "README.md"
RECORD = "run.json"
EVENT_FILE = f"{EVENTS}/events.out.tfevents.0"
"""A name by which the Hub, and TensorBoard, know what it is."""
_PAGE = (".html", ".js", ".css", ".svg")
_HUB = "https://huggingface.co"
_STORAGE = "https://*.huggingface.co https://*.hf.co"
"""Where the Hub redirects a download to; its hosts have changed, and these cover them."""
KERAS = "keras"
"""The extra that endpoints and Spaces install for a model without ONNX."""


def release_files(
    run_folder: Path,
    repo_id: str,
    *,
    revision: str | None = None,
    card_before: bytes | None = None,
    replace_card: bool = False,
    samples: Samples | None = None,
) -> Files:
    """Return the files of a release.

    Args:
        run_folder: A finished run folder.
        repo_id: ``user/name``, for the snippets of the card.
        revision: Tag of the release, for the same.
        card_before: The card of the repository: text that a person wrote stays. If it has no text,
            the card in the run folder is used.
        replace_card: Use the card in the run folder in any case.
        samples: In place of those that the training scored.

    Raises:
        RunError: The run has not finished.
        ModelError: Its record is not valid.
        ReleaseError: A file of the run is missing, or must not be published.
        CardError: The card cannot be made.
    """
    run = read_run(run_folder).content()
    record: bytes | Path = run_folder / RECORD
    if samples:
        run["samples"] = samples.records
        record = _as_json(run)
    else:
        samples = recorded_samples(run, run_folder)
    local = run_folder / CARD
    previous = None if replace_card or card_before is None else decode_card(card_before)
    if local.is_file() and not has_text(previous):
        previous = decode_card(local.read_bytes())
    card = make_card(run, repo_id=repo_id, revision=revision, previous=previous)
    result = {key: run[key] for key in ("calibration", "evaluation")}
    files = {
        CARD: card.encode(),
        RECORD: record,
        NOTEBOOK: make_notebook(run, repo_id=repo_id, revision=revision),
        "metrics.json": _as_json(result),
        **model_files(run_folder / "weights"),
        **{f"plots/{name}": run_folder / "plots" / name for name in _plots(run)},
        **_groups(run, run_folder),
        **_events(run_folder),
        **{f"samples/{name}": file for name, file in samples.files.items()},
    }
    check_private(files)
    return files


def _plots(run: Mapping[str, Any]) -> list[str]:
    """Return the plots that a card shows; others may show images of the dataset."""
    plots = run.get("plots")
    if not isinstance(plots, list) or not set(plots) <= set(CAPTIONS):
        raise ReleaseError(
            f"`plots` of {RECORD} must be a list of {', '.join(CAPTIONS)}. Received: {plots!r}. "
            "Train again with this version."
        )
    return plots


def _groups(run: Mapping[str, Any], folder: Path) -> Files:
    """Return the table of groups, if the training had groups: it names no file."""
    digest, path = (run["data"].get("groups") or {}).get("table"), folder / GROUPS_TABLE
    if digest and path.is_file() and sha256(path.read_bytes()).hexdigest() != digest:
        raise ReleaseError(f"{path} is not the table that the training wrote. Train again.")
    return {GROUPS_TABLE: path} if digest else {}


def _events(folder: Path) -> Files:
    """Return the event file of a training that was tracked; its own name has that of a machine."""
    found = (folder / EVENTS).glob("*tfevents*")
    return dict(zip((EVENT_FILE,), found, strict=False))


def model_files(folder: Path) -> Files:
    """Return a saved model with the files that deploy it as an Inference Endpoint.

    Raises:
        ModelError: The settings of the model are not valid.
    """
    name, package = wheel()
    model = saved_files(folder)
    return {
        **{name: folder / name for name in model},
        "handler.py": (ASSETS / "handler.py").read_bytes(),
        # The versions that verify the release: next year's may decode or compute otherwise.
        "requirements.txt": _requirements(ONNX_FILE in model, pinned=True),
        name: package,
    }


def space_files(
    repo_id: str,
    revision: str,
    card_before: bytes | None = None,
    *,
    onnx: bool = True,
    samples: Samples | None = None,
) -> dict[str, bytes]:
    """Return path and contents of all files of a Gradio Space that shows a model.

    Args:
        repo_id: The repository of the model, ``user/name``.
        revision: Its commit, 40 characters: the Space shows this one until it is pushed again.
        card_before: The current README.md of the Space: its text stays, and so do its settings
            except those that the page depends on.
        onnx: Whether the model was released with ONNX, so that the Space needs no Keras.
        samples: The pictures that it shows; those of the package by default.

    Raises:
        CardError: The current card cannot be read.
        ReleaseError: The installed package is of another version than the code.
    """
    assets = ASSETS / "space"
    kept = ("sdk", "sdk_version", "python_version", "app_file")
    name, package = wheel()
    samples = samples or package_samples()
    return {
        "README.md": _space_card(assets, repo_id, card_before, kept),
        "app.py": (assets / "app.py").read_bytes(),
        "model.json": _as_json({"repo": repo_id, "revision": revision, "samples": _shown(samples)}),
        "requirements.txt": _requirements(onnx, "space"),  # not pinned: Gradio holds Pillow back
        name: package,
        **_sample_files(samples),
    }


def widget_files(
    repo_id: str,
    revision: str,
    card_before: bytes | None = None,
    *,
    samples: Samples | None = None,
) -> dict[str, bytes]:
    """Return path and contents of all files of a static Space that runs a model.

    Args:
        repo_id: The repository of the model, ``user/name``; it must be public and hold
            `model.onnx`.
        revision: As for `space_files`.
        card_before: As for `space_files`.
        samples: As for `space_files`.

    Raises:
        CardError: The current card cannot be read.
        ReleaseError: A page cannot be bound to the address of the Hub (HF_ENDPOINT).
    """
    assets = ASSETS / "widget"
    endpoint = constants.ENDPOINT.rstrip("/")
    settings: dict[str, Any] = {"endpoint": endpoint, "repo": repo_id, "revision": revision}
    samples = samples or package_samples()
    # The page shows the notice where the settings of the model call for it.
    settings |= {"samples": _shown(samples), "synthetic_notice": SYNTHETIC_NOTICE}
    page = {
        entry.name: entry.read_bytes() for entry in assets.iterdir() if entry.name.endswith(_PAGE)
    }
    page["index.html"] = page["index.html"].replace(b"{{model_hosts}}", _hosts(endpoint).encode())
    return {
        "README.md": _space_card(
            assets, repo_id, card_before, ("sdk", "app_file", "custom_headers")
        ),
        "widget.json": _as_json(settings),
        **page,
        **_sample_files(samples),
    }


def _space_card(
    assets: Traversable, repo_id: str, card_before: bytes | None, ours: tuple[str, ...]
) -> bytes:
    card = SpaceCard((assets / "README.md").read_text("utf-8"))
    if has_text(before := decode_card(card_before or b"")):
        settings, card = card.data, parse_card(before, SpaceCard)
        for key in ours:
            card.data[key] = settings[key]
    card.data["models"] = [repo_id]
    return str(card).encode()


def _shown(samples: Samples) -> list[dict[str, str]]:
    """Return what a Space is told of each picture: the model says its score there."""
    return [{key: sample[key] for key in ("file", "title", "label")} for sample in samples.records]


def _sample_files(samples: Samples) -> dict[str, bytes]:
    return {f"samples/{name}": content_of(file) for name, file in samples.files.items()}


def _requirements(onnx: bool, *extras: str, pinned: bool = False) -> bytes:
    return requirements(*extras, *([] if onnx else [KERAS]), pinned=pinned).encode()


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


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
