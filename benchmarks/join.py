"""Join pools of images into one imagefolder with one table of groups.

    python benchmarks/join.py --pool FOLDER CSV --pool FOLDER CSV --out joined

A pool is an imagefolder, `train/{fake,real}` and `test/{fake,real}`, with a table that has the
columns `file_name,source,group` and `generator` or `generator_or_kind`. Files are linked, not
copied, where the disk can. A group stays on one side: test images of a later pool whose group is in
the train split of an earlier one go to train. `joined.csv` gets the `part` of every source, of
`sources.csv` beside this script: whole sources of both classes, which
`--set calibration.left_out=part` leaves out in turn.
"""

import argparse
import csv
import os
import shutil
from pathlib import Path

COLUMNS = ("file_name", "group", "source", "generator", "part", "family")


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def link(source: Path, copy: Path) -> None:
    """Link a file, or copy it to another disk."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.unlink(missing_ok=True)
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
    sources = {row["source"]: row for row in read(Path(__file__).with_name("sources.csv"))}
    known: set[str] = set()
    rows = []
    for folder, table in options.pool:
        learned = set()
        for row in read(table):
            split, kind, name = row["file_name"].split("/")
            if split == "test" and row["group"] in known:
                split = "train"
            if split == "train":
                learned.add(row["group"])
            link(folder / row["file_name"], options.out / split / kind / name)
            generator = row.get("generator") or row.get("generator_or_kind", "")
            place = sources[row["source"]]
            rows.append(
                (
                    f"{split}/{kind}/{name}",
                    row["group"],
                    row["source"],
                    generator,
                    place["part"],
                    place["family"],
                )
            )
        known |= learned
    with options.out.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    print(f"{len(rows)} images in {options.out}, their table in {options.out.with_suffix('.csv')}")


if __name__ == "__main__":
    main()
