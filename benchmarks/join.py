"""Join pools of images into one imagefolder with one table of groups.

    python benchmarks/join.py --pool FOLDER CSV --pool FOLDER CSV --out joined

A pool is an imagefolder, `train/{fake,real}` and `test/{fake,real}`, with a table that has the
columns `file_name,source,group` and `generator` or `generator_or_kind`. Files are linked, not
copied, where the disk can. A group stays on one side: in test if the first pool tests it,
otherwise in train if any of its images is there. `joined.csv` gets what `sources.csv` beside this
script says of every source: its `part`, which `--set calibration.left_out=part` leaves out in turn,
whole sources of both classes; and its `family_part`, which leaves out whole families of generators,
and human digital art; and its licence, for the card. The names of generators are those of
`generators.csv`, which begin with the year.
"""

import argparse
import csv
import os
import shutil
from pathlib import Path

COLUMNS = ("file_name", "group", "source", "generator")
PLACES = ("part", "family", "family_part", "licence")


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def link(source: Path, copy: Path) -> None:
    """Link a file, or copy it to another disk."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, copy)
    except OSError:
        shutil.copyfile(source, copy)


def main() -> None:
    """Join the pools."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pool", nargs=2, type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"--out must not exist yet. Received: {options.out}.")
    beside = Path(__file__).parent
    places = {row["source"]: row for row in read(beside / "sources.csv")}
    shown = {row["generator"]: row["shown"] for row in read(beside / "generators.csv")}
    tables = [(folder, read(table)) for folder, table in options.pool]
    every = [row for _, rows in tables for row in rows]
    unknown = {row["source"] for row in every} - places.keys()
    if unknown:
        parser.error(f"sources.csv must list every source. Received: {', '.join(unknown)}.")
    # What is tested in the first pool stays so; otherwise a group with training images trains.
    first = {row["group"] for row in tables[0][1] if row["file_name"].startswith("test/")}
    training = {row["group"] for row in every if row["file_name"].startswith("train/")} - first
    files: dict[str, Path] = {}
    joined = []
    for folder, rows in tables:
        for row in rows:
            _, kind, name = row["file_name"].split("/")
            place = f"{'train' if row['group'] in training else 'test'}/{kind}/{name}"
            if place in files:
                parser.error(f"Names must differ. Received: {place} twice.")
            files[place] = folder / row["file_name"]
            source = places[row["source"]]
            made_by = row.get("generator") or row.get("generator_or_kind", "")
            values = row["group"], row["source"], shown.get(made_by, made_by)
            joined.append((place, *values, *(source[name] for name in PLACES)))
    for place, file in files.items():
        link(file, options.out / place)
    table = options.out.with_suffix(".csv")
    with table.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([COLUMNS + PLACES, *joined])
    print(f"{len(joined)} images in {options.out}, their table in {table}")


if __name__ == "__main__":
    main()
