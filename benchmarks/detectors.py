"""Compare detectors that were trained on the same images and tested on the same images.

    python benchmarks/detectors.py --data FOLDER --groups CSV
    python benchmarks/detectors.py --data FOLDER --groups CSV --recipes scratch --seeds 5

`reference` is the published recipe, trained as published; `reference-aligned` is trained on aligned
images. `features` and `features-aligned` are gradient boosting over hand-made statistics of error
levels, as in the leak audit. `scratch` sees ELA and pixels, `scratch-ela` and `scratch-pixels` one
of them; so do `transfer`, the recipe of the packaged model, `transfer-ela` and `transfer-pixels`.

All are tested as-is and aligned, at the calibration and threshold of their own validation images,
and compared with `reference`, `scratch` and `transfer` of the same seed by McNemar's exact test:
how many more images they get right, and p, from the lowest to the highest of the seeds. --set
changes every recipe alike. A training that is finished in --runs is kept.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import apart, over_seeds, save, seeded, trained, training_parser

from hf_ela.cli.options import data_options
from hf_ela.data.loading import DataOptions
from hf_ela.errors import HfElaError
from hf_ela.evaluation.intervals import mcnemar
from hf_ela.evaluation.metrics import ArtMetrics
from hf_ela.recipes.schema import Protocol, Recipe

REFERENCE = "reference"
AGAINST = (REFERENCE, "scratch", "transfer")
NETWORKS: dict[str, tuple[str, list[str]]] = {
    REFERENCE: ("reference", []),
    "reference-aligned": ("reference", ["input.training=aligned"]),
    "scratch-pixels": ("scratch", ["ela=none"]),
    "scratch-ela": ("scratch", ["ela.with_pixels=false"]),
    "scratch": ("scratch", []),
    "transfer-pixels": ("transfer", ["ela=none"]),
    "transfer-ela": ("ela", []),
    "transfer": ("transfer", []),
}
BOOSTED: dict[str, Protocol] = {"features": "as_is", "features-aligned": "aligned"}
DETECTORS = (*list(NETWORKS)[:2], *BOOSTED, *list(NETWORKS)[2:])
COLUMNS = {"as_is": "score", "aligned": "score_aligned"}
METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "AUC",
    "ece": "ECE",
}


@dataclass(frozen=True)
class Answers:
    """The scores of a trained detector on the test images.

    Attributes:
        data: Fingerprint of the dataset.
        files: Names of the test images, sorted.
        labels: int64, 1 for fake and 0 for real, in the order of `files`.
        scores: By protocol, probabilities of fake in the order of `files`.
        threshold: Lowest score that means fake.
        parameters: Number of weights of a network; None for gradient boosting.
    """

    data: str
    files: list[str]
    labels: np.ndarray
    scores: dict[str, np.ndarray]
    threshold: float
    parameters: int | None

    def right(self, protocol: str) -> np.ndarray:
        """Return whether the detector is right about each image: bool, shape (N,)."""
        return (self.scores[protocol] >= self.threshold) == (self.labels == 1)


def of_network(recipe: Recipe, options: DataOptions, folder: Path) -> Answers:
    """Train a network into a run folder, or find it there."""
    run = apart(partial(trained, whole=False), recipe, options, folder)
    table = pd.read_parquet(folder / "predictions.parquet").sort_values("file")
    return Answers(
        run["data"]["fingerprint"],
        table["file"].tolist(),
        (table["label"] == "fake").to_numpy(np.int64),
        {protocol: table[column].to_numpy() for protocol, column in COLUMNS.items()},
        run["calibration"]["threshold"],
        run["model"]["parameters"],
    )


def of_boosting(recipe: Recipe, options: DataOptions, protocol: Protocol) -> Answers:
    """Fit gradient boosting on the splits of a recipe; call it `apart`."""
    from hf_ela.data.groups import GroupTable
    from hf_ela.data.loading import open_for_training
    from hf_ela.data.preparation import Split, prepare, row_store
    from hf_ela.ela.statistics import CONDITIONS
    from hf_ela.evaluation.calibration import fit_calibration, fit_threshold
    from hf_ela.evaluation.leak_audit.audit import fact_settings
    from hf_ela.evaluation.leak_audit.leaks import boosting, one_thread
    from hf_ela.models.calibrated import sigmoid

    data = prepare(options, recipe)
    source = open_for_training(options, GroupTable.read(options.groups))
    stores = {
        name: row_store(options, source, fact_settings(name, source, statistics=True))
        for name in source.splits
    }

    def statistics(split: Split, name: str, condition: str) -> np.ndarray:
        store, number = stores[name], CONDITIONS.index(condition)
        return np.stack([store.statistics(int(row))[number] for row in split.rows])

    held = "validation" if "validation" in stores else "train"
    with one_thread():
        model = boosting(data.train.labels)
        model.fit(statistics(data.train, "train", protocol), data.train.labels)
        held_logits = model.decision_function(statistics(data.validation, held, protocol))
        logits = {
            name: model.decision_function(statistics(data.test, "test", name)) for name in COLUMNS
        }
    temperature, bias = fit_calibration(data.validation.labels, held_logits)
    names = [facts["file_name"] for facts in data.test.facts]
    order = np.argsort(names)
    return Answers(
        data.summary["fingerprint"],
        [names[number] for number in order],
        data.test.labels[order],
        {name: sigmoid(values[order] + bias, temperature) for name, values in logits.items()},
        fit_threshold(data.validation.labels, sigmoid(held_logits + bias, temperature)),
        None,
    )


def answers(name: str, args: argparse.Namespace) -> list[Answers]:
    """Return a detector's answers for each seed; boosting draws nothing: one fit for all seeds."""
    options = data_options(args.data, args)
    if name in BOOSTED:
        recipe = seeded("scratch", args.overrides, 0)
        return [apart(of_boosting, recipe, options, BOOSTED[name])] * args.seeds
    base, own = NETWORKS[name]
    return [
        of_network(
            seeded(base, [*args.overrides, *own, f"name={name}"], seed),
            options,
            args.runs / f"{name}-{seed}",
        )
        for seed in range(args.seeds)
    ]


def measured(name: str, protocol: str, found: dict[str, list[Answers]]) -> dict[str, Any]:
    """Return a row of the report: metrics over seeds, and each seed against the same of others."""
    own = found[name]
    values = [
        ArtMetrics().compute(
            references=one.labels, predictions=one.scores[protocol], threshold=one.threshold
        )
        for one in own
    ]
    return {
        "detector": name,
        "parameters": own[0].parameters,
        "tested": protocol,
        "images": len(own[0].files),
        **{metric: [of_seed[metric] for of_seed in values] for metric in METRICS},
        "against": {
            other: [
                mcnemar(theirs.right(protocol), ours.right(protocol))
                for theirs, ours in zip(found[other], own, strict=True)
            ]
            for other in AGAINST
            if other in found and other != name
        },
    }


def more_right(tests: Sequence[Mapping[str, Any]]) -> str:
    """Return what McNemar's test (`evaluation.intervals`) of each seed says, lowest to highest.

    First how many more images the second detector is right about, then p.
    """
    net = [test["only_b"] - test["only_a"] for test in tests]
    return f"{_span(net, '+d')}, p = {_span([test['p'] for test in tests], '.1g')}"


def _span(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def line(row: dict[str, Any], others: Sequence[str]) -> str:
    """Return a row of the table, with a comparison with each of the others."""
    cells = [
        f"`{row['detector']}`",
        f"{row['parameters']:,}" if row["parameters"] else "",
        row["tested"].replace("_", "-"),
        *(over_seeds(row[metric]) for metric in METRICS),
        *(more_right(tests) if (tests := row["against"].get(other)) else "" for other in others),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Train, test, print a table, write JSON."""
    parser = training_parser(__doc__, "detectors", seeds=3)
    parser.add_argument(
        "--recipes",
        nargs="+",
        choices=DETECTORS,
        default=DETECTORS,
        metavar="NAME",
        help=f"some of {', '.join(DETECTORS)}; reference is always added",
    )
    args = parser.parse_args()
    names = [name for name in DETECTORS if name in {REFERENCE, *args.recipes}]
    try:
        found = {name: answers(name, args) for name in names}
    except HfElaError as error:
        sys.exit(str(error))
    every = [one for of_name in found.values() for one in of_name]
    if any((one.data, one.files) != (every[0].data, every[0].files) for one in every):
        sys.exit(f"{args.runs} holds runs on other images. Choose another folder with --runs.")
    rows = [measured(name, protocol, found) for protocol in COLUMNS for name in names]
    others = [name for name in AGAINST if name in found]
    versus = " | ".join(f"more right than `{name}`" for name in others)
    print(f"\n| detector | parameters | tested | {' | '.join(METRICS.values())} | {versus} |")
    print("| --- " * (3 + len(METRICS) + len(others)) + "|")
    for row in rows:
        print(line(row, others))
    fake = int(every[0].labels.sum())
    images = {"data": every[0].data, "fake": fake, "real": len(every[0].files) - fake}
    settings = {"overrides": args.overrides, "seeds": args.seeds, "test": images}
    save(args.out, settings | {"rows": rows})


if __name__ == "__main__":
    main()
