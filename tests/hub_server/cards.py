"""What the Hub checks in the YAML at the head of a README.md, and how it says what is wrong."""

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

BLOCK = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\r|\n|$))")
LANGUAGE = re.compile("[a-z]{2,3}(-[A-Za-z0-9-]+)?|code|multilingual|other|unknown")
REPO_ID = re.compile(r"([\w-]+/)?[\w.-]+")
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
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
    licenses = listed(card.get("license"))
    if any(name not in LICENSES for name in licenses):
        yield f'"license" must be one of [{", ".join([*LICENSES, "array"])}]'
    for where, value in items(card, "language"):
        if not isinstance(value, str) or not LANGUAGE.fullmatch(value):
            yield f'"{where}" with value "{value}" is not valid. It must be an ISO 639 code'
    for where, value in items(card, "datasets"):
        if not isinstance(value, str) or not REPO_ID.fullmatch(value):
            yield (
                f'"{where}" with value "{value}" is not valid. If possible, use a dataset id from '
                "https://hf.co/datasets."
            )
    for key in ("tags", "metrics"):
        if card.get(key) is not None and not isinstance(card[key], list):
            yield f'"{key}" must be an array'
        yield from (
            f'"{where}" must be a string'
            for where, value in items(card, key)
            if not isinstance(value, str)
        )
    for key in ("library_name", "pipeline_tag", "license_name", "license_link", "thumbnail"):
        if not isinstance(card.get(key, ""), str):
            yield f'"{key}" must be a string'
    if kind == "models":
        yield from model_errors(card)
    if kind == "spaces":
        yield from space_errors(card)


def model_errors(card: dict[str, Any]) -> Iterator[str]:
    for where, value in items(card, "widget"):
        if not isinstance(value, dict):
            yield f'"{where}" must be of type object'
    emissions = card.get("co2_eq_emissions")
    if isinstance(emissions, dict):
        if not is_number(emissions.get("emissions")):
            yield '"co2_eq_emissions.emissions" must be a number'
    elif emissions is not None and not is_number(emissions):
        yield '"co2_eq_emissions" must be one of [number, object]'
    if not isinstance(card.get("model-index", []), list):
        yield '"model-index" must be an array'
    for where, model in items(card, "model-index"):
        yield from missing(model, where, "name", "results")
        for at, result in items(model, "results", where):
            yield from missing(result, at, "task.type", "dataset.name", "dataset.type", "metrics")
            kind = (part(result, "dataset") or {}).get("type")
            if isinstance(kind, str) and not REPO_ID.fullmatch(kind):
                yield (
                    f'"{at}.dataset.type" with value "{kind}" fails to match the required pattern: '
                    r"/^(?:[\w-]+\/)?[\w-.]+$/"
                )
            for place, metric in items(result, "metrics", at):
                yield from missing(metric, place, "type", "value")
                value = part(metric, "value")
                if isinstance(value, float) and not math.isfinite(value):
                    yield f'"{place}.value" contains an invalid value'


def space_errors(card: dict[str, Any]) -> Iterator[str]:
    for key, values in (("sdk", SDKS), ("colorFrom", COLOURS), ("colorTo", COLOURS)):
        if card.get(key, values[0]) not in values:
            yield f'"{key}" must be one of [{", ".join(values)}]'
    if len(str(card.get("short_description", ""))) > 60:
        yield '"short_description" length must be less than or equal to 60 characters long'


def items(parent: Any, key: str, where: str = "") -> Iterator[tuple[str, Any]]:
    """(How the Hub calls it, value) of each member of a list."""
    value = part(parent, key)
    name = f"{where}.{key}" if where else key
    if isinstance(value, list):
        yield from ((f"{name}[{i}]", member) for i, member in enumerate(value))
    elif value is not None:
        yield name, value


def missing(parent: Any, where: str, *keys: str) -> Iterator[str]:
    for key in keys:
        value = parent
        for name in key.split("."):
            value = part(value, name)
        if value is None:
            yield f'"{where}.{key}" is required'


def part(parent: Any, key: str) -> Any:
    return parent.get(key) if isinstance(parent, dict) else None


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
