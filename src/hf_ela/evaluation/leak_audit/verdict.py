"""The leak audit in sentences. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from scipy.stats import fisher_exact

__all__ = ["CLEAR", "SLIGHT", "STRONG", "ungrouped", "verdict"]

# By the lower end of the 95 % interval of a held-out AUC; .5 is chance. Below `SLIGHT` a difference
# may be the luck of the draw; at `STRONG` nine of ten pairs of images are told by the fact alone.
STRONG, CLEAR, SLIGHT = 0.9, 0.7, 0.55
MOST = 0.5
"""Share of what all facts give above chance from which on one fact alone carries most of it."""
CHANCE = 0.01
"""How often unreadable images would by chance be of one class alone."""

WORDS = {
    "shape": "The shape",
    "aspect": "The ratio of width to height",
    "bytes_per_pixel": "The number of bytes per pixel",
    "jpeg_quality": "The JPEG quality",
    "subsampling": "The chroma subsampling",
    "exif": "The presence of EXIF",
    "icc": "The presence of a colour profile",
    "mode": "The pixel layout",
}
NAMED = 5
"""Values of facts that one sentence names."""


def verdict(found: Mapping[str, Any]) -> list[str]:
    """Return what an audit found, the gravest first, a sentence or two to a line."""
    files = (_of_splits, _of_facts, _of_shape, _of_matrix)
    rows = (_of_rejected, _of_duplicates, _of_order, _of_groups)
    return [sentence for part in (*files, *rows) for sentence in part(found)]


def _of_splits(found: Mapping[str, Any]) -> Iterator[str]:
    for split, counts in found["images"].items():
        missing = [kind for kind, n in counts.items() if not n]
        if missing:
            yield (
                f"The split {split} has no readable {' or '.join(missing)} images: no score there "
                "says whether the classes are told apart."
            )


def _of_groups(found: Mapping[str, Any]) -> Iterator[str]:
    if groups := found["groups"]:
        images = sum(sum(counts.values()) for counts in found["images"].values())
        yield from ungrouped(groups["matched"], images)


def ungrouped(matched: int, images: int) -> Iterator[str]:
    """Yield a sentence where a groups file does not name all images."""
    if matched < images:
        yield (
            f"The groups file names {matched} of {images} images: every other one counts as a "
            "group of its own."
        )


def _of_facts(found: Mapping[str, Any]) -> Iterator[str]:
    measured = found["classifiers"]["file_facts"]
    if measured is None:
        yield "Too few images, or groups of images, to say what a classifier learns from files."
    else:
        strength = _strength(measured["roc_auc"])
        auc = _interval(measured["roc_auc"])
        if strength:
            best = found["facts"][0]
            alone = best["roc_auc"]["value"]
            most = alone - 0.5 >= MOST * (measured["roc_auc"]["value"] - 0.5)
            role = "carries most of it" if most else "tells most by itself, not all of it"
            yield (
                f"File facts alone tell {strength} about the class: AUC {auc}. "
                f"{_word(best['fact'])} {role} ({_figure(alone)} alone). "
                "A detector's as-is score on this data may be file history."
            )
        else:
            yield f"File facts alone tell nothing certain about the class: AUC {auc}."
    only = [row for row in found["values"] if 0 in (row["fake"], row["real"])]
    for kind in ("fake", "real"):
        named = [f"{_value(row)} ({row[kind]:,} images)" for row in only if row[kind]]
        if named:
            more = len(named) - NAMED
            rest = f" and {more} more value{'s' * (more > 1)}" if more > 0 else ""
            yield f"Only {kind} images have {', '.join(named[:NAMED])}{rest}."
    for row in found["values"]:
        if row not in only:
            yield (
                f"{_share(found, row, 'fake')} of the fake and {_share(found, row, 'real')} of the "
                f"real images have {_value(row)}."
            )
    level = found["classifiers"]["mean_error_level"]
    if level and (strength := _strength(level["roc_auc"])):
        auc = _interval(level["roc_auc"])
        yield f"The mean error level alone tells {strength} about the class: AUC {auc}."


def _of_shape(found: Mapping[str, Any]) -> Iterator[str]:
    for row in found["facts"]:
        if row["fact"] == "aspect" and (strength := _strength(row["roc_auc"])):
            yield (
                "Aligning leaves the shape of an image as it is, and the ratio of width to height "
                f"alone tells {strength} about the class: AUC {_interval(row['roc_auc'])}."
            )


def _of_matrix(found: Mapping[str, Any]) -> Iterator[str]:
    if "matrix" not in found:
        return
    if found["matrix"] is None:
        yield "Too few images, or groups of images, to say what aligning takes of error levels."
        return
    cells = found["matrix"]["cells"]
    as_is = cells["as_is"]["as_is"]["roc_auc"]
    aligned = cells["aligned"]["aligned"]["roc_auc"]
    moved = cells["as_is"]["aligned"]["roc_auc"]
    sentence = (
        f"Statistics of error levels give AUC {_interval(as_is)} as-is and "
        f"{_interval(aligned)} trained and tested aligned"
    )
    if as_is["low"] > aligned["high"]:
        lost = _figure(as_is["value"] - aligned["value"])
        sentence += (
            f": {lost} is lost by aligning, which takes file history, and what rescaling takes of "
            "a generator's traces"
        )
    yield f"{sentence}. Trained as-is and tested aligned they give {_interval(moved)}."


def _of_rejected(found: Mapping[str, Any]) -> Iterator[str]:
    counts = Counter(bad["class"] for bad in found.get("rejected", ()))
    if not counts:
        return
    tables = found["tables"]
    shares = " and ".join(
        f"{counts[kind]:,} of {counts[kind] + table['n']:,} {kind}"
        for kind, table in tables.items()
    )
    sentence = f"{shares} images cannot be read, and are in no other figure."
    against = [[counts[kind], table["n"]] for kind, table in tables.items()]
    if len(counts) == 1 and fisher_exact(against).pvalue < CHANCE:
        sentence += f" All of them are {next(iter(counts))}: that alone tells their class."
    yield sentence


def _of_duplicates(found: Mapping[str, Any]) -> Iterator[str]:
    for kind, name in (("exact", "exact copies"), ("near", "near-duplicates")):
        copies = found["duplicates"][kind]
        if copies["across_classes"]:
            yield f"Different labels: {_pairs(copies['across_classes'])} of {name}."
        if copies["across_splits"]:
            yield f"In two splits: {_pairs(copies['across_splits'])} of {name}."


def _of_order(found: Mapping[str, Any]) -> Iterator[str]:
    ordered = [split for split, order in found["order"].items() if order["sorted"]]
    if ordered:
        yield (
            f"Rows are sorted by class ({', '.join(ordered)}): the first rows are of one class, "
            "and so are batches without shuffling."
        )


def _strength(auc: Mapping[str, Any]) -> str | None:
    """Return how much is told of the class; None where nothing is certain."""
    low = auc["low"]
    if low >= STRONG:
        return "nearly all"
    if low >= CLEAR:
        return "much"
    return "something" if low >= SLIGHT else None


def _word(fact: str) -> str:
    return WORDS.get(fact, f"The {fact}")


def _value(row: Mapping[str, Any]) -> str:
    """Name a value, as in "JPEG quality 75" or "no EXIF"."""
    if row["fact"] in ("exif", "icc"):
        name = {"exif": "EXIF", "icc": "colour profile"}[row["fact"]]
        return name if row["value"] == "yes" else f"no {name}"
    return f"{_word(row['fact']).removeprefix('The ')} {row['value']}"


def _share(found: Mapping[str, Any], row: Mapping[str, Any], kind: str) -> str:
    return f"{row[kind] / found['tables'][kind]['n']:.0%}"


def _pairs(n: int) -> str:
    return f"{n:,} pair" if n == 1 else f"{n:,} pairs"


def _figure(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def _interval(cell: Mapping[str, Any]) -> str:
    return f"{_figure(cell['value'])} ({_figure(cell['low'])}–{_figure(cell['high'])})"
