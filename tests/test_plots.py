"""The PNGs of a run: valid, legible in size, and showing the data that they were given."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from hf_ela.evaluation import figures, plots, score_plots
from hf_ela.evaluation.calibration import coverage_curve, measure_coverage
from hf_ela.evaluation.metrics import confusion
from hf_ela.evaluation.summary import by_source
from hf_ela.models.explain import BLUE as BLUE_
from hf_ela.models.explain import RED as RED_
from hf_ela.training import run_plots


def scores(seed: int, gap: float = 0.3, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return labels, np.clip(rng.normal(0.5 + gap * (labels - 0.5), 0.2), 0, 1)


def curves(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {"as_is": scores(seed), "aligned": scores(seed + 1, gap=0.1)}


def covered(labels, scores, band=(0.4, 0.55)):
    return {
        "shipped": measure_coverage(labels, scores, 0.5, band),
        "curve": coverage_curve(labels, scores, 0.5),
    }


def history(seed: int, epochs: int = 5) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return {name: rng.uniform(size=epochs).tolist() for name in names}


def flat(*colour: int, shape: tuple[int, int] = (40, 40)) -> np.ndarray:
    return np.full((*shape, 3), colour, np.uint8)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


IMAGES = "60 images, half of each class"
confusion_matrix, roc, coverage, reliability, score_histogram = (
    partial(draw, images=IMAGES)
    for draw in (
        plots.confusion_matrix,
        plots.roc,
        plots.coverage,
        score_plots.reliability,
        score_plots.score_histogram,
    )
)
per_source = partial(plots.per_source, title="Right answers by source")
DRAW = {
    "score_histogram": lambda seed, path: score_histogram(
        curves(seed), path, uncertain=(0.4, 0.55)
    ),
    "confusion_matrix": lambda seed, path: confusion_matrix(
        {name: confusion(*data, 0.5) for name, data in curves(seed).items()}, path
    ),
    "roc": lambda seed, path: roc(curves(seed), path),
    "reliability": lambda seed, path: reliability(curves(seed), path),
    "coverage": lambda seed, path: coverage(
        {name: covered(*data) for name, data in curves(seed).items()}, path
    ),
    "training_curves": lambda seed, path: run_plots.training_curves(history(seed), path),
    "ela_sheet": lambda seed, path: figures.ela_sheet(
        [("a", noise(seed), noise(seed + 1)), ("b", noise(seed + 2), noise(seed)[..., 0])], path
    ),
    "per_source": lambda seed, path: per_source(
        by_source(["a", "b", "c"] * 20, *scores(seed), 0.5), path
    ),
}


@pytest.mark.parametrize("name", DRAW)
def test_picture_shows_its_data(name, tmp_path):
    seeds = {"one": 1, "again": 1, "other": 50}
    for file, seed in seeds.items():
        DRAW[name](seed, tmp_path / "new folder" / f"{file}.png")
    one, again, other = (pixels(tmp_path / "new folder" / f"{file}.png") for file in seeds)
    assert 350 <= one.shape[0] <= 2000
    assert 700 <= one.shape[1] <= 2000
    np.testing.assert_array_equal(one, again)
    assert one.shape != other.shape or (one != other).any()
    assert len(list((tmp_path / "new folder").iterdir())) == len(seeds)
    # The page is white, and something is drawn on it.
    assert (one[0, 0] == 255).all()
    assert (one < 200).any(axis=2).mean() > 0.005


def has(page: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((page == colour).all(axis=2).sum() > 5000)  # more than a label


def test_a_colour_means_a_class_and_nothing_else(tmp_path):
    """As in the map of the evidence. Protocols, models and splits have other ways to differ."""
    for number, label in enumerate((1, 0)):
        one_class = {"as_is": ([label] * 20, np.linspace(0.1, 0.9, 20))}
        score_histogram(one_class, tmp_path / "scores.png")
        per_source(by_source(["a"] * 20, *one_class["as_is"], 0.5), tmp_path / "sources.png")
        for name in ("scores.png", "sources.png"):
            page = pixels(tmp_path / name)
            assert [has(page, RED_), has(page, BLUE_)] == [number == 0, number == 1], name
    for name in ("roc", "reliability", "coverage", "training_curves"):
        DRAW[name](1, tmp_path / "grey.png")
        assert np.ptp(pixels(tmp_path / "grey.png"), axis=2).max() == 0, name


def test_sources_with_few_images_are_one_bar(tmp_path):
    """One of 40 images, and ten with two: as tall a page as two sources."""
    heights = []
    for names in (["a"] * 40 + list("bcdefghijk") * 2, ["a"] * 30 + ["b"] * 30):
        per_source(by_source(names, *scores(1), 0.5), tmp_path / "sources.png")
        heights.append(pixels(tmp_path / "sources.png").shape[0])
    assert heights[0] == heights[1]


def test_coverage_goes_from_few_to_all(tmp_path):
    """The sure answers are right here and the others wrong: the curve falls to the right."""
    found = np.linspace(0.05, 0.95, 40)
    labels = ((found > 0.5) == (np.abs(found - 0.5) > 0.25)).astype(int)
    coverage({"as_is": covered(labels, found, band=None)}, tmp_path / "coverage.png")
    page = pixels(tmp_path / "coverage.png")
    rows, columns = (page.max(axis=2) < 60).nonzero()
    height, width = page.shape[:2]
    inside = (rows > 0.13 * height) & (rows < 0.7 * height)  # neither title nor legend
    left, right = (
        rows[inside & (columns > start * width) & (columns < (start + 0.3) * width)].mean()
        for start in (0.25, 0.65)
    )
    assert left < right


def test_a_failed_plot_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "roc.png"
    roc(curves(1), path)
    before = path.read_bytes()

    def full_disk(self, file, **_):
        file.write_bytes(b"half of a picture")
        raise OSError("No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_disk)
    with pytest.raises(OSError, match="No space left"):
        roc(curves(2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("draw", "data"),
    [
        (confusion_matrix, {"as_is": {"tp": 0, "fn": 0, "fp": 0, "tn": 0}}),
        (roc, {}),
        (roc, {"as_is": ([1, 1], [0.2, 0.9])}),
        (roc, dict.fromkeys("abcde", ([1, 0], [0.2, 0.9]))),
        (score_histogram, {}),
        (score_histogram, {"as_is": ([], [])}),
        (reliability, {}),
        (reliability, {"as_is": ([], [])}),
        (coverage, {}),
        (coverage, {"as_is": covered([], [])}),
        (coverage, {"as_is": covered([1, 0], [0.45, 0.5])}),
        (run_plots.training_curves, {}),
        (run_plots.training_curves, history(0, epochs=1)),
        (run_plots.training_curves, {"loss": [np.nan] * 3, "val_loss": [np.nan] * 3}),
        (run_plots.training_curves, {"loss": [1.0, np.inf], "val_loss": [1.0, np.nan]}),
        (figures.ela_sheet, []),
        (figures.ela_sheet, [("1x1", flat(9, 9, 9, shape=(1, 1)), flat(0, 0, 0, shape=(1, 1)))]),
        (figures.ela_sheet, [("long", flat(9, 9, 9, shape=(1, 5000)), flat(0, 0, 0))]),
        (per_source, []),
    ],
)
def test_odd_data_gives_a_page_too(draw, data, tmp_path):
    draw(data, tmp_path / "plot.png")
    assert pixels(tmp_path / "plot.png").std() > 1


@pytest.mark.parametrize("title", ["$x_{1$ 墨竹 رسم 🎨\nnext", "a" * 500, ""])
def test_any_file_name_can_be_a_title(title, tmp_path):
    figures.ela_sheet([(title, noise(1), noise(2))], tmp_path / "sheet.png", title=title)
    per_source(by_source([title] * 60, *scores(1), 0.5), tmp_path / "source.png")
    assert pixels(tmp_path / "sheet.png").shape[1] == figures.DPI * 7


def test_best_epoch_is_that_of_the_monitored_quantity(tmp_path):
    """Same curves, another monitor: only the mark moves."""
    data = {"loss": [3, 2, 1], "val_loss": [1.0, 2.0, 3.0], "val_accuracy": [0.5, 0.7, 0.6]}
    seen = {}
    for monitor in ("val_loss", "val_accuracy", "not there"):
        run_plots.training_curves(data, tmp_path / "plot.png", monitor=monitor)
        seen[monitor] = pixels(tmp_path / "plot.png")
    assert (seen["val_loss"] != seen["val_accuracy"]).any()
    assert (seen["val_loss"] != seen["not there"]).any()


RED, GREEN, YELLOW, BLACK = flat(255, 0, 0), flat(0, 255, 0), flat(255, 255, 0), flat(0, 0, 0)


def columns_of(page: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.flatnonzero((page == colour[0, 0]).all(axis=2).sum(axis=0) > 50)


def test_sheet_puts_each_ela_right_of_its_image(tmp_path):
    figures.ela_sheet([("a", RED, GREEN), ("b", YELLOW, BLACK)], tmp_path / "sheet.png")
    page = pixels(tmp_path / "sheet.png")
    edges = [columns_of(page, colour) for colour in (RED, GREEN, YELLOW, BLACK)]
    # An image is at least an inch wide, and the next begins after it.
    assert all(len(edge) > figures.DPI for edge in edges)
    assert all(left.max() < right.min() for left, right in pairwise(edges))


def test_mistakes_come_worst_first():
    """Above the threshold a mistake is real, below it fake: the true classes got .75, .15, .1."""
    labels, scores = np.array([1, 0, 1, 1]), np.array([0.75, 0.85, 0.1, 0.9])
    assert run_plots.worst_mistakes(labels, scores, 0.8).tolist() == [2, 1, 0]


def test_plots_touch_no_global_state(tmp_path, python):
    """pyplot would choose a backend, and with it perhaps a display, for the whole process."""
    code = (
        "import sys, hf_ela; assert 'matplotlib' not in sys.modules\n"
        "from pathlib import Path; from hf_ela.training import run_plots\n"
        f"run_plots.training_curves({{'loss': [1, 2]}}, Path({str(tmp_path / 'a.png')!r}))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = python(["-c", code])
    assert done.stdout.strip() == "False"
