"""What the Hub checks in the YAML at the head of a README.md, and how it says what is wrong."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

BLOCK = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\r|\n|$))")
LANGUAGE = re.compile("[a-z]{2,3}(-[A-Za-z0-9-]+)?|code|multilingual|other|unknown")
SDKS = ("docker", "gradio", "static", "streamlit")
LICENSES = ["apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "gpl-3.0", "unknown", "other"]
"""Some of those that the Hub knows."""


def metadata(text: str) -> dict[str, Any] | None:
    """The YAML of a card; None where there is none, or none that holds keys."""
    try:
        found = yaml.safe_load(match[2]) if (match := BLOCK.search(text)) else None
    except yaml.YAMLError:
        return None
    return found if isinstance(found, dict) else None


def check(text: str, kind: str = "models") -> tuple[list[str], list[str]]:
    """The errors and the warnings of a card."""
    match = BLOCK.search(text)
    try:
        found = yaml.safe_load(match[2]) if match else None
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"], []
    if not found:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(found, dict):
        return ['"value" must be of type object'], []
    return list(errors(found, kind)), []


def errors(card: dict[str, Any], kind: str) -> Iterator[str]:
    """What is wrong with the keys."""
    if any(name not in LICENSES for name in listed(card.get("license"))):
        yield f'"license" must be one of [{", ".join([*LICENSES, "array"])}]'
    for value in listed(card.get("language")):
        if not isinstance(value, str) or not LANGUAGE.fullmatch(value):
            yield f'"language" with value "{value}" is not valid. It must be an ISO 639 code'
    for key in ("tags", "metrics", "datasets"):
        for number, value in enumerate(listed(card.get(key))):
            if not isinstance(value, str):
                yield f'"{key}[{number}]" must be a string'
    for number, model in enumerate(listed(card.get("model-index"))):
        for key in {"name", "results"} - model.keys():
            yield f'"model-index[{number}].{key}" is required'
        for at, result in enumerate(model.get("results") or ()):
            for key in {"task", "dataset", "metrics"} - result.keys():
                yield f'"model-index[{number}].results[{at}].{key}" is required'
    if kind == "spaces":
        if card.get("sdk") not in SDKS:
            yield f'"sdk" must be one of [{", ".join(SDKS)}]'
        if len(str(card.get("short_description", ""))) > 60:
            yield '"short_description" length must be less than or equal to 60 characters long'


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
