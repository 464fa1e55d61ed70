"""The leak audit in sentences. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from scipy.stats import fisher_exact

from hf_ela._text import in_words
from hf_ela.evaluation.leak_audit.leaks import FOLDS

# Bounds for the lower end of the 95 % interval of a held-out AUC; 0.5 is chance. Below `SLIGHT` a
# difference may be luck; at `STRONG` the fact alone orders nine of ten pairs of images.
STRONG, CLEAR, SLIGHT = 0.9, 0.7, 0.55
ENOUGH = 25
"""Images or groups of each class with which a fact whose AUC is `CLEAR` gets an interval above
`SLIGHT` (standard error of an AUC: Hanley and McNeil, Radiology 143, 1982). With fewer, finding
nothing says little."""
CARRIES_MOST = 0.5
"""Share of the AUC of all facts above chance from which a fact alone "carries most of it"."""
REJECTED_SIGNIFICANCE = 0.01
"""P-value below which unreadable images of one class alone reveal that class."""

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
"""Number of values that a sentence names."""


def verdict(found: Mapping[str, Any]) -> list[str]:
    """Return the findings of an audit, the gravest first, a sentence or two per line."""
    files = (_of_splits, _of_facts, _of_shape, _of_matrix)
    rows = (_of_rejected, _of_duplicates, _of_order, _of_groups)
    return [sentence for part in (*files, *rows) for sentence in part(found)]


def _of_splits(found: Mapping[str, Any]) -> Iterator[str]:
    for split, counts in found["images"].items():
        missing = [kind for kind, n in counts.items() if not n]
        if missing:
            yield (
                f"The split {split} has no readable {' or '.join(missing)} images: no score on it "
                "can show whether a model separates the classes."
            )


def _of_groups(found: Mapping[str, Any]) -> Iterator[str]:
    if groups := found["groups"]:
        images = sum(sum(counts.values()) for counts in found["images"].values())
        yield from ungrouped(groups["matched"], images)


def ungrouped(matched: int, images: int) -> Iterator[str]:
    """Yield a sentence if a groups file does not name all images."""
    if matched < images:
        yield (
            f"The groups file names {matched} of {images} images: each of the others counts as a "
            "group of its own."
        )


def _of_facts(found: Mapping[str, Any]) -> Iterator[str]:
    together = found["classifiers"]["file_facts"]
    if together is None:
        yield (
            f"{_images(found)} are too few to measure what file facts give away. It takes {FOLDS} "
            f"of each class, and {ENOUGH} to tell much; near-duplicates, and images of one group, "
            "count as one."
        )
    else:
        strength = _strength(together["roc_auc"])
        auc = in_words(together["roc_auc"], "–")
        if strength:
            best = found["facts"][0]
            alone = best["roc_auc"]["value"]
            most = alone - 0.5 >= CARRIES_MOST * (together["roc_auc"]["value"] - 0.5)
            role = "carries most of it" if most else "reveals most by itself, but not all"
            yield (
                f"File facts alone reveal {strength} of the class: AUC {auc}. "
                f"{_word(best['fact'])} {role} ({alone:.3f} alone). "
                "A detector's as-is score on this data may reflect file history."
            )
        elif too_few := _too_few(found, together["roc_auc"]["groups"]):
            yield (
                f"{too_few} are too few to tell whether file facts give the class away: AUC {auc}. "
                f"It takes about {ENOUGH} of each class."
            )
        else:
            yield f"File facts alone reveal nothing significant about the class: AUC {auc}."
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
        auc = in_words(level["roc_auc"], "–")
        yield f"The mean error level alone reveals {strength} of the class: AUC {auc}."


def _of_shape(found: Mapping[str, Any]) -> Iterator[str]:
    for row in found["facts"]:
        if row["fact"] == "aspect" and (strength := _strength(row["roc_auc"])):
            yield (
                "Aligning keeps the shape of an image, and the ratio of width to height alone "
                f"reveals {strength} of the class: AUC {in_words(row['roc_auc'], '–')}."
            )


def _of_matrix(found: Mapping[str, Any]) -> Iterator[str]:
    if "matrix" not in found:
        return
    if found["matrix"] is None:
        yield "Too few images, or groups of images, to measure what aligning removes."
        return
    cells = found["matrix"]["cells"]
    as_is = cells["as_is"]["as_is"]["roc_auc"]
    aligned = cells["aligned"]["aligned"]["roc_auc"]
    moved = cells["as_is"]["aligned"]["roc_auc"]
    sentence = (
        f"Statistics of error levels give AUC {in_words(as_is, '–')} as-is and "
        f"{in_words(aligned, '–')} trained and tested aligned"
    )
    if as_is["low"] > aligned["high"]:
        sentence += (
            f": aligning loses {as_is['value'] - aligned['value']:.3f}. It removes file history, "
            "and rescaling removes some traces of a generator"
        )
    yield f"{sentence}. Trained as-is and tested aligned they give {in_words(moved, '–')}."


def _of_rejected(found: Mapping[str, Any]) -> Iterator[str]:
    counts = Counter(bad["class"] for bad in found.get("rejected", ()))
    if not counts:
        return
    tables = found["tables"]
    shares = " and ".join(
        f"{counts[kind]:,} of {counts[kind] + table['n']:,} {kind}"
        for kind, table in tables.items()
    )
    sentence = f"{shares} images cannot be read and count nowhere else."
    against = [[counts[kind], table["n"]] for kind, table in tables.items()]
    if len(counts) == 1 and fisher_exact(against).pvalue < REJECTED_SIGNIFICANCE:
        sentence += f" All of them are {next(iter(counts))}: that alone reveals their class."
    yield sentence


def _of_duplicates(found: Mapping[str, Any]) -> Iterator[str]:
    for kind, name in (("exact", "exact copies"), ("near", "near-duplicates")):
        copies = found["duplicates"][kind]
        if copies["across_classes"]:
            yield (
                f"In both classes: {_pairs(copies['across_classes'])} of {name}. Unless they are "
                "meant to show the same picture, a label is wrong."
            )
        if copies["across_splits"]:
            yield f"In two splits: {_pairs(copies['across_splits'])} of {name}."


def _of_order(found: Mapping[str, Any]) -> Iterator[str]:
    ordered = [split for split, order in found["order"].items() if order["sorted"]]
    if ordered:
        yield (
            f"Rows are sorted by class ({', '.join(ordered)}): the first rows belong to one class, "
            "and so do batches without shuffling."
        )


def _strength(auc: Mapping[str, Any]) -> str | None:
    """Return how much of the class an AUC reveals; None for nothing significant."""
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


def _too_few(found: Mapping[str, Any], groups: int) -> str | None:
    """Return the images, where finding nothing in them says little."""
    counts = [table["n"] for table in found["tables"].values()]
    if min(groups / 2, *counts) >= ENOUGH:
        return None
    return f"{_images(found)}, in {groups} groups," if groups < sum(counts) else _images(found)


def _images(found: Mapping[str, Any]) -> str:
    """Return the images by class, as in "6 fake and 6 real images"."""
    counts = (f"{table['n']:,} {kind}" for kind, table in found["tables"].items())
    return f"{' and '.join(counts)} images"


def _share(found: Mapping[str, Any], row: Mapping[str, Any], kind: str) -> str:
    return f"{row[kind] / found['tables'][kind]['n']:.0%}"


def _pairs(n: int) -> str:
    return f"{n:,} pair" if n == 1 else f"{n:,} pairs"
