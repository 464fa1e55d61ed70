"""What do the input of a training and a second process cost?

    python benchmarks/feeding.py input --data FOLDER --groups CSV --limit 200
    python benchmarks/feeding.py processes --data FOLDER --groups CSV --limit 200

input: bytes that the cache takes for an image to train on; CPU and wall milliseconds of a batch by
one thread and by two, with nothing beside it; CPU seconds of an epoch with its validation.

processes: CPU seconds of such an epoch on JAX, by one process and by two that share each batch over
loopback, summed. Efficiency is the ratio.

An epoch is the mean of the second and the third: to compile does not count. Writes
benchmarks/feeding.json.
"""

import argparse
import os
import socket
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from common import HERE, apart, save

from hf_ela.cli.options import add_data_options, data_options
from hf_ela.data.loading import DataOptions
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe

Row = dict[str, Any]
EPOCHS = 4
"""The first compiles, and the last ends without the beginning of another."""


def of_batches(recipe: Recipe, options: DataOptions) -> list[Row]:
    """Return the size of the cache, and the time of a batch: of each the median of five epochs."""
    from statistics import median

    from hf_ela.data.preparation import prepare, training_view_set
    from hf_ela.training.batches import Batches

    train = prepare(options, recipe).train
    size = sum(file.stat().st_size for file in train.store.files) / len(train.store.facts)
    rows = [{"what": "cache, kB an image to train on", "value": size / 1000}]
    for threads in (1, 2):
        os.environ["OMP_NUM_THREADS"] = str(threads)
        batches = Batches(train, training_view_set(recipe), recipe, seed=0)
        taken = []
        for epoch in range(5):
            batches.draw(epoch)
            started = perf_counter(), process_time()
            for number in range(len(batches)):
                batches[number]
            ended = perf_counter(), process_time()
            taken.append(
                [1000 * (b - a) / len(batches) for a, b in zip(started, ended, strict=True)]
            )
        for place, clock in enumerate(("wall", "CPU")):
            value = median(one[place] for one in taken)
            rows.append({"what": f"batch, {threads} thread(s), {clock} ms", "value": value})
    return rows


def epoch(recipe: Recipe, options: DataOptions, address: str, number: int, rank: int) -> float:
    """Return the CPU seconds of an epoch in one of several processes."""
    from hf_ela.data.preparation import prepare
    from hf_ela.training.processes import Processes

    how = recipe.training.model_copy(update={"epochs": EPOCHS, "early_stopping": None})
    recipe = recipe.model_copy(update={"training": how})
    data = prepare(options, recipe)
    begun: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        if number > 1:
            Processes(address, number, rank).join(recipe, data, Path(folder))
        from hf_ela.training.fit import Batches, fit  # Keras starts after the others are met

        draw = Batches.draw

        def noted(batches: Batches, epoch: int) -> None:
            begun[epoch] = process_time()
            draw(batches, epoch)

        Batches.draw = noted
        fit(recipe, data.train, data.validation, Path(folder))
    return (begun[EPOCHS - 1] - begun[1]) / (EPOCHS - 2)


def feeding(recipe: Recipe, options: DataOptions) -> list[Row]:
    """Return the rows of `input`."""
    rows = apart(of_batches, recipe, options)
    value = apart(epoch, recipe, options, "", 1, 0)
    return [*rows, {"what": "epoch, CPU s", "value": value}]


def processes(recipe: Recipe, options: DataOptions) -> list[Row]:
    """Return the rows of `processes`."""
    os.environ["KERAS_BACKEND"] = "jax"
    sums = []
    for number in (1, 2):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
        with ProcessPoolExecutor(number, get_context("spawn"), max_tasks_per_child=1) as pool:
            ranks = [
                pool.submit(epoch, recipe, options, address, number, rank) for rank in range(number)
            ]
            sums.append(sum(rank.result() for rank in ranks))
    rows = [{"what": f"epoch, {n} process(es), CPU s", "value": v} for n, v in enumerate(sums, 1)]
    return [*rows, {"what": "efficiency of two processes", "value": sums[0] / sums[1]}]


PARTS = {"input": feeding, "processes": processes}


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--recipe", default="scratch", metavar="NAME|FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--out", type=Path, default=HERE / "feeding.json")
    add_data_options(parser)
    args = parser.parse_args()
    recipe = load_recipe(args.recipe, args.overrides)
    rows = PARTS[args.part](recipe, data_options(args.data, args))
    for row in rows:
        print(f"{row['what']:<36}{row['value']:10.4g}")
    report = {"recipe": args.recipe, "overrides": args.overrides, "limit": args.limit, "rows": rows}
    save(args.out, report)


if __name__ == "__main__":
    main()
