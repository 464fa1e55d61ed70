"""Runs of the same recipes with several seeds, side by side: mean, lowest and highest.

python benchmarks/seeds.py runs/default-* runs/reference-*
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

METRICS = ("accuracy", "balanced_accuracy", "recall", "specificity", "roc_auc", "ece")


def main(folders: list[str]) -> None:
    """Print a Markdown table: a row per recipe and protocol."""
    runs: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for folder in folders:
        run = json.loads(Path(folder, "run.json").read_text("utf-8"))
        recipe = run["recipe"]
        runs[recipe["name"], recipe["input"]["training"]].append(run)
    print(f"| recipe, seeds | tested | {' | '.join(METRICS)} |")
    print("| --- " * (len(METRICS) + 2) + "|")
    for (name, training), same in runs.items():
        for protocol in ("as_is", "aligned"):
            cells = []
            for metric in METRICS:
                values = [run["evaluation"]["test"][protocol][metric]["value"] for run in same]
                cells.append(f"{mean(values):.3f} ({min(values):.3f}-{max(values):.3f})")
            who = f"{name}, trained {training}, {len(same)}"
            print(f"| {who} | {protocol} | {' | '.join(cells)} |")
    for (name, training), same in runs.items():
        seconds = [run["timing"]["training_seconds"] for run in same]
        epochs = [run["training"]["epochs"] for run in same]
        n = {run["evaluation"]["test"]["as_is"]["accuracy"]["n"] for run in same}
        print(f"{name} ({training}): epochs {epochs}, training seconds {seconds}, test n {n}")


if __name__ == "__main__":
    main(sys.argv[1:])
