"""The files of the widget, and how it is pushed; `test_widget_page` runs it in a browser."""

import json
import re

import pytest
from huggingface_hub import SpaceCard, constants

from hf_ela._text import SYNTHETIC_NOTICE
from hf_ela.errors import ReleaseError
from hf_ela.hub.package import SAMPLES
from hf_ela.hub.release_files import widget_files
from widget_page import WIDGET


def test_the_files_say_what_they_show() -> None:
    files = widget_files("user/model", "a" * 40)
    card = SpaceCard(files["README.md"].decode())
    assert (card.data["sdk"], card.data["app_file"]) == ("static", "index.html")
    assert card.data["models"] == ["user/model"]
    assert len(card.data["short_description"]) <= 60
    place = json.loads(files["widget.json"])
    samples = {sample["file"]: sample["title"] for sample in place.pop("samples")}
    assert samples == SAMPLES
    assert {f"samples/{name}" for name in samples} <= {*files}
    assert place.pop("synthetic_notice") == SYNTHETIC_NOTICE
    assert place == {"endpoint": constants.ENDPOINT, "repo": "user/model", "revision": "a" * 40}
    assert {path.name for path in WIDGET.iterdir()} <= {*files}


def test_the_text_of_a_card_stays_and_its_sdk_does_not() -> None:
    before = b"---\nsdk: gradio\nsdk_version: 6.0\npinned: true\n---\nHello.\n"
    card = SpaceCard(widget_files("user/model", "a" * 40, before)["README.md"].decode())
    assert (card.data["sdk"], card.data["app_file"], card.data["pinned"]) == (
        *("static", "index.html"),
        True,
    )
    assert card.data["custom_headers"]["cross-origin-embedder-policy"] == "require-corp"
    assert card.text.strip() == "Hello."


def policy(page: bytes) -> dict[str, list[str]]:
    (text,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page.decode())
    return {rule.split()[0]: rule.split()[1:] for rule in text.split(";")}


def test_the_page_may_reach_the_hub_that_it_was_made_for(monkeypatch) -> None:
    cdn = ["'self'", "https://cdn.jsdelivr.net"]
    for endpoint, hosts in {
        "https://huggingface.co": [
            *("https://huggingface.co", "https://*.huggingface.co", "https://*.hf.co"),
        ],
        "https://hub.example.org:8443/hf": ["https://hub.example.org:8443"],
    }.items():
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        rules = policy(widget_files("user/model", "a" * 40)["index.html"])
        assert rules["connect-src"] == [*cdn, *hosts]
        assert rules["default-src"] == rules["form-action"] == ["'none'"]
        assert "unsafe-inline" not in str(rules)
    monkeypatch.setattr(constants, "ENDPOINT", "https://a.b; script-src *")
    with pytest.raises(ReleaseError, match="HF_ENDPOINT="):
        widget_files("user/model", "a" * 40)
