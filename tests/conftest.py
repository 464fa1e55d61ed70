"""Fixtures that several test files share."""

import copy
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from children import sitecustomize  # noqa: F401  (notes what this process calls)
from hub_server import LocalHub

# Before anything imports the clients, which read their environment once: the only Hub is on
# loopback, and no bar fills a log.
LIVE = {key: value for key, value in os.environ.items() if key.startswith("HF_")}
HUB, _HOME = LocalHub(), TemporaryDirectory()
for name in LIVE:
    del os.environ[name]
os.environ.update(HUB.environment(Path(_HOME.name)))
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
# Of libraries that test files import before hf_ela, which sets both.
os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}

CALLED = Path(_HOME.name) / "called"
"""Hosts other than this one that this process and all that it starts look up or connect to."""
os.environ["CALLED_HOSTS"] = str(CALLED)


def python_path(*folders: object) -> str:
    """Return a PYTHONPATH with which a process notes the hosts that it calls."""
    return os.pathsep.join(map(str, (Path(__file__).parent / "children", *folders)))


os.environ["PYTHONPATH"] = python_path(*filter(None, [os.environ.get("PYTHONPATH")]))

# Untimed: other work may slow a test.
hypothesis.settings.register_profile("ci", deadline=None, max_examples=20)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"

COMMAND = [sys.executable, "-m", "hf_ela"]
"""The command `hf-ela` in a process of its own, for start-up, signals and pipes."""

TINY = [
    "input.size=32", "input.grid=1", "ela.qualities=[80]", "augmentation.views=2",
    "network.widths=[8]", "network.blocks=1", "training.epochs=2", "training.batch_size=8",
    "training.seed=0", "training.order_seed=0", "validation.fraction=0.25",
]  # fmt: skip
"""Overrides of the recipe `scratch` that make a training take a second."""

CHEAP = {"plots": False, "export": False, "resamples": 20, "perturbations": ["jpeg_50"]}
"""Options of `train` and `reproduce` that leave little beside the fit."""


@pytest.fixture(autouse=True)
def nothing_calls_home(request) -> Iterator[None]:
    """Whatever a test or a fixture does, here or in other processes, no other host hears of it."""
    yield
    called = CALLED.read_text() if CALLED.exists() else ""
    CALLED.unlink(missing_ok=True)
    assert not called or request.node.get_closest_marker("network")


@pytest.fixture(scope="session")
def pictures() -> list[Path]:
    """The twelve real pictures; the name of each begins with the truth about it."""
    return sorted((REPOSITORY / "tests" / "data").glob("*-*.*"))


@pytest.fixture
def real_folder(pictures, tmp_path) -> Path:
    """The real pictures as an imagefolder: four of each class to train on, two to test."""
    for label in ("fake", "real"):
        for number, path in enumerate(p for p in pictures if p.name.startswith(label)):
            place = tmp_path / "real" / ("train" if number < 4 else "test") / label
            place.mkdir(parents=True, exist_ok=True)
            (place / path.name).symlink_to(path)
    return tmp_path / "real"


@pytest.fixture(scope="session")
def pool() -> Path:
    """The pool of real images, where a checkout has it beside it."""
    folder = SHARED / "art"
    if not folder.is_dir():
        pytest.skip("the pool of real images (../shared/data/art) is not here")
    return folder


@pytest.fixture(scope="session")
def pool_csv(pool) -> Path:
    """Groups and sources of the pool's images."""
    return pool.parent / "art_provenance.csv"


def picture(seed: int, fake: bool, side: int = 64) -> Image.Image:
    """Colour noise for real; the same noise blown up from half the size for fake."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    image = Image.fromarray(noise)
    if fake:
        image = image.resize((side // 2, side // 2)).resize((side, side))
    return image


def write_folder(folder: Path, train: int = 16, test: int = 6) -> Path:
    """Write an imagefolder with so many images of each class; rows come sorted by class."""
    for split, n in (("train", train), ("test", test)):
        for kind in ("fake", "real"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                seed = i + 1000 * (split == "test") + 5000 * (kind == "fake")
                name = f"{split}{i:03d}.{'jpg' if i % 2 else 'png'}"
                picture(seed, kind == "fake").save(folder / split / kind / name, quality=90)
    return folder


def write_flat(folder: Path, n: int) -> Path:
    """Write an imagefolder without splits, with so many images of each class."""
    write_folder(folder, train=n, test=0)
    shutil.rmtree(folder / "test")
    for kind in ("fake", "real"):
        (folder / "train" / kind).rename(folder / kind)
    (folder / "train").rmdir()
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """The images of an imagefolder by their names in it, in the order of `datasets`."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.*g"))}


def parquet(files: Mapping[str, bytes], split: str) -> bytes:
    """What the Hub's bot, or push_to_hub, writes for a split of an imagefolder."""
    import datasets

    names = ["fake", "real"]
    chosen = {path: data for path, data in sorted(files.items()) if path.startswith(split)}
    label = datasets.ClassLabel(names=names)
    images = [{"bytes": data, "path": Path(path).name} for path, data in chosen.items()]
    labels = [names.index(path.split("/")[1]) for path in chosen]
    rows = datasets.Dataset.from_dict(
        {"image": images, "label": labels},
        features=datasets.Features({"image": datasets.Image(), "label": label}),
    )
    file = BytesIO()
    rows.to_parquet(file)
    return file.getvalue()


def write_groups(
    path: Path, folder: Path, columns: str, row: Callable[[str], Sequence[object]]
) -> Path:
    """Write a groups file: of each image of an imagefolder its name there, and what `row` says."""
    lines = [",".join(map(str, (name, *row(name)))) for name in files_of(folder)]
    path.write_text("\n".join([f"file_name,{columns}", *lines]) + "\n")
    return path


def with_test_classes_exchanged(data: Path, copy: Path) -> Path:
    """Copy an imagefolder; what is fake in its test split is called real there, and the reverse."""
    shutil.copytree(data, copy)
    (copy / "test" / "fake").rename(copy / "fakes")
    (copy / "test" / "real").rename(copy / "test" / "fake")
    (copy / "fakes").rename(copy / "test" / "real")
    return copy


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Return a folder that the first worker to ask makes for all of them. Not to be changed."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = root / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(folder)
    return folder


def linked_copy(folder: Path, to: Path) -> Path:
    """Copy a folder by hard links: unlink a file before you write another in its place."""
    shutil.copytree(folder, to, copy_function=os.link)
    return to


def changed(content: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Copy a JSON object with other values; two underscores join the parts of a key."""
    content = copy.deepcopy(content)
    for key, value in values.items():
        *sections, last = key.split("__")
        target = content
        for section in sections:
            target = target[section]
        target[last] = value
    return content


def ctrl_c_is_heard() -> None:
    """Undo that a process in the background ignores SIGINT, as do all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(there: Callable[[], object], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait until something is there, which a process that still runs is to bring about."""
    deadline = time.monotonic() + 120
    while not there():
        assert process is None or process.poll() is None, "the process ended first"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_gone(group: int) -> None:
    """Wait until no process of a group is left."""

    def gone() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(gone)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """An imagefolder of 32 + 12 images that a small network tells apart. Not to be changed."""
    return made_once(tmp_path_factory, "tiny", write_folder)


@pytest.fixture(scope="session")
def tiny_groups(tiny, tmp_path_factory) -> Path:
    """A CSV with a group, a source and a generator for each image of `tiny`."""

    def row(name: str) -> tuple[str, str, str]:
        kind = name.split("/")[1]
        return name, f"{kind}s", f"g-{kind}"

    def write(folder: Path) -> None:
        folder.mkdir()
        write_groups(folder / "groups.csv", tiny, "group,source,generator", row)

    return made_once(tmp_path_factory, "tiny-groups", write) / "groups.csv"


@pytest.fixture(scope="session")
def tiny_run(tiny, tiny_groups, tmp_path_factory) -> Path:
    """A finished run on `tiny`, with ONNX and plots: trained once for all workers."""

    def make(out: Path) -> None:
        from hf_ela.data.loading import DataOptions
        from hf_ela.recipes.loading import load_recipe
        from hf_ela.training.trainer import train

        cache = tmp_path_factory.mktemp("cache")
        options = DataOptions(str(tiny), groups=str(tiny_groups), num_proc=1, cache_dir=str(cache))
        train(load_recipe("scratch", TINY), options, out, track=True, say=lambda line: None)

    return made_once(tmp_path_factory, "tiny-run", make)


@pytest.fixture(scope="session")
def saved_crops(tmp_path_factory) -> Path:
    """A saved model of `networks.CROPS`, with ONNX. Not to be changed."""
    from networks import crops_classifier

    return made_once(tmp_path_factory, "saved-crops", crops_classifier().save_pretrained)


@pytest.fixture(scope="session")
def saved_resized(tmp_path_factory) -> Path:
    """A saved model of `networks.RESIZED`, with ONNX. Not to be changed."""
    from networks import resized_classifier

    return made_once(tmp_path_factory, "saved-resized", resized_classifier().save_pretrained)


@pytest.fixture(scope="session")
def served_hub() -> Iterator[LocalHub]:
    with HUB as hub:
        yield hub


@pytest.fixture
def briefly(monkeypatch) -> None:
    """For evaluations whose intervals and robustness are not what is tested."""
    from hf_ela.evaluation.evaluator import evaluate

    found = partial(evaluate, resamples=20, perturbations=["jpeg_50"])
    monkeypatch.setattr("hf_ela.evaluation.evaluator.evaluate", found)


@pytest.fixture
def hub(served_hub, tmp_path, monkeypatch) -> LocalHub:
    """An empty Hub over loopback, for this process and its children, with an empty cache.

    Nobody is logged in: set HF_TOKEN to `hub.token` to write.
    """
    served_hub.reset()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return served_hub


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache for `datasets` in this process and its children."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bars(monkeypatch) -> list[str]:
    """Titles of the bars that are shown while robustness is measured."""
    from hf_ela.evaluation import robustness

    titles: list[str] = []

    def bar(items: Any, title: str, total: int, *, shown: bool) -> Any:
        titles.extend([title] * shown)
        return progress_bar(items, title, total, shown=shown)

    progress_bar = robustness.progress_bar
    monkeypatch.setattr(robustness, "progress_bar", bar)
    return titles


class Printed(NamedTuple):
    """What a command wrote."""

    out: str
    err: str


@pytest.fixture
def command(capsys) -> Callable[..., Printed]:
    """Run `hf-ela` in this process: what a person types, and more words."""
    from hf_ela.cli import main

    def run(typed: str, *words: object, status: int = 0) -> Printed:
        capsys.readouterr()
        try:
            found = main([*shlex.split(typed), *map(str, words)])
        except SystemExit as wrong_usage:
            found = wrong_usage.code
        printed = Printed(*capsys.readouterr())
        assert found == status, printed.err
        return printed

    return run


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python with arguments in the repository, as a user would; the output comes back."""

    def run(args: Sequence[object], **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONWARNINGS": "ignore"} | env,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    return run


def chromium() -> str:
    """Path of a Chromium; without one, the test is skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROME") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.skip("no Chromium is here (CHROME can name one)")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as started:
        chrome = started.chromium.launch(
            executable_path=chromium(), args=[*options, "--disable-sync"]
        )
        yield chrome
        chrome.close()
