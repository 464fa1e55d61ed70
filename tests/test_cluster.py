"""A Ray cluster: the scores and the ELA of one process, whatever becomes of the nodes, and nothing
twice."""

import os
import pickle
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bad_files import encode, picture
from conftest import CALLED, TINY, files_of, parquet, wait_for
from hf_ela import ElaClassifier
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import Prepared, prepare
from hf_ela.errors import ImageError, RunError
from hf_ela.recipes.loading import load_recipe
from hf_ela.scoring.job import Job, Worker
from hf_ela.scoring.pictures import Pictures, in_parts
from hf_ela.scoring.results import Results

# Before Ray is imported, as `hf_ela._cluster` does: on loopback, and nobody hears of it. Its
# workers do not give way to other tests.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",  # a head tells that they are off
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
}
ray = pytest.importorskip("ray", reason="the `scale` extra is not installed")

pytestmark = [
    pytest.mark.second_lane,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:ray"
    ),  # Ray sets its old settings itself
]


@pytest.fixture(autouse=True)
def nothing_calls_home() -> Iterator[None]:
    """But for Ray, which asks what cloud it is in, for statistics that are switched off."""
    yield
    called = CALLED.read_text().splitlines() if CALLED.exists() else []
    CALLED.unlink(missing_ok=True)
    cloud = ("169.254.169.254, by", "metadata.google.internal, by")
    assert not [line for line in called if not line.startswith(cloud)]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Seventeen pictures at two depths, and three bad files."""
    folder = tmp_path / "pictures"
    (folder / "deep" / "er").mkdir(parents=True)
    for number in range(16):
        kind, name = ("JPEG", "jpg") if number % 2 else ("PNG", "png")
        place = folder / ("deep/er" if number % 3 else "")
        (place / f"{number:02d}.{name}").write_bytes(encode(picture(130, 120, number), kind))
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.jpg").write_bytes(encode(picture(130, 120), "JPEG")[:900])
    (folder / "deep" / os.fsdecode(b"name\xff.png")).write_bytes(
        encode(picture(130, 120, 99), "PNG")
    )
    return folder


def expected(folder: Path) -> dict[str, tuple]:
    """The rows that one process gives, by path."""
    classifier = ElaClassifier.from_pretrained()
    files = sorted(path for path in folder.rglob("*.*g"))
    rows = {}
    for file, score in zip(files, classifier.scores([*map(str, files)]), strict=True):
        path = os.fsencode(file.relative_to(folder)).decode(errors="backslashreplace")
        if isinstance(score, ImageError):
            rows[path] = (None, None, None, score.reason)
        else:
            uncertain = classifier.is_uncertain(score)
            rows[path] = (float(score).hex(), classifier.label(score), uncertain, None)
    return rows


def results(out: Path) -> dict[str, tuple]:
    """The rows of a folder of results, none twice."""
    table = pq.read_table(out)
    assert table.schema.field("error").type == "string"
    rows = table.to_pylist()
    found = {row["path"]: (row["fake"] and row["fake"].hex(), *[*row.values()][2:]) for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    noticing = {"health_check_period_ms": 300}  # a lost node, in 2 seconds in place of 15
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": noticing}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    started.shutdown()


@contextmanager
def losing_a_node(cluster: Any, soon: Callable[[], bool]) -> Iterator[None]:
    """Add a node, and lose it when it is time."""
    second = cluster.add_node(num_cpus=1)

    def lose() -> None:
        wait_for(soon)
        cluster.remove_node(second, allow_graceful=False)

    losing = Thread(target=lose)
    losing.start()
    yield
    losing.join()


def test_an_interrupted_command_goes_on_and_a_lost_node_changes_no_score(
    cluster, folder, tmp_path, command
) -> None:
    out = tmp_path / "out"
    rows = expected(folder)
    classifier, pictures = ElaClassifier.from_pretrained(), Pictures.find(str(folder))
    assert Job(classifier, pictures, str(out), address=None).left == 20
    worker = Worker(pickle.dumps(classifier), pictures, Results(str(out)))
    records = [part.record() for part in in_parts(pictures.listed()[0], 5)]
    worker(pa.Table.from_pylist(records[:2]))  # and no further
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}

    named = [name for name in sorted(rows) if "\\" not in name]  # with names in UTF-8
    contents = [(folder / name).read_bytes() for name in named]
    cells = [{"bytes": content, "path": "/etc/passwd"} for content in contents]
    cells.append({"bytes": None, "path": str(folder / named[-1])})
    tables = folder / "tables"
    tables.mkdir()
    pq.write_table(pa.table({"image": cells}), tables / "t.parquet", row_group_size=5)
    damaged = bytearray((tables / "t.parquet").read_bytes())
    damaged[4:3000] = bytes(2996)
    (tables / "damaged.parquet").write_bytes(damaged)
    coded = pa.array([contents[0], None, contents[0]]).dictionary_encode()
    pq.write_table(pa.table({"image": coded}), tables / "coded.parquet")
    pq.write_table(pa.table({"image": pa.nulls(1)}), tables / "nulls.parquet")
    pq.write_table(pa.table({"image": [{"bytes": "/a.png"}]}), tables / "texts.parquet")
    (tables / "no.parquet").write_bytes(b"PAR1 and no more")
    typed = f"score {folder} --out {out} --address {cluster.address}"
    with losing_a_node(cluster, lambda: len([*out.glob("*.parquet")]) >= len(before) + 3):
        printed = command(typed, status=1)
    assert "Scored before: 10 of 65." in printed.out
    assert "55 pictures" in printed.out
    assert before.items() <= {p: p.stat().st_mtime_ns for p in out.glob("*.parquet")}.items()
    found = results(out)
    assert {name: found.pop(name) for name in rows} == rows
    empty = (None, None, None, "the cell is empty")
    assert found.pop("tables/no.parquet") == (None, None, None, "is not valid Parquet")
    of_damaged = [found.pop(f"tables/damaged.parquet#{row}") for row in range(len(cells))]
    assert "is damaged" in of_damaged[0][-1]
    assert of_damaged[5:] == [*(rows[name] for name in named[5:]), empty]
    assert found.pop("tables/nulls.parquet#0") == empty
    of_coded = [found.pop(f"tables/coded.parquet#{row}") for row in range(3)]
    assert of_coded == [rows[named[0]], empty, rows[named[0]]]
    assert found.pop(f"tables/t.parquet#{len(named)}") == empty
    assert found == {f"tables/t.parquet#{row}": rows[name] for row, name in enumerate(named)}
    printed = command(typed, status=1)
    assert printed.out.startswith("Scored before: 65 of 65.\nResults: ")
    for name in ("cut.jpg", "tables/nulls.parquet"):
        (folder / name).unlink()
    refused = [row[-1] for row in results(out).values() if row[-1] is not None]
    job = Job(classifier, Pictures.find(str(folder)), str(out), address=None)
    assert (job.left, job.refused) == (0, len(refused) - 2)


def test_a_dataset_is_pinned_and_another_one_is_refused(hub, tiny, tmp_path, command):
    files = {path: data for path, data in files_of(tiny).items() if path.startswith("test")}
    table = "data/test-0.parquet"
    contents = {**files, "bad.png": b"", table: parquet(files, "test")}
    repository = hub.add_dataset("tester/art", contents)
    out = tmp_path / "out"
    classifier = ElaClassifier.from_pretrained()
    pictures = Pictures.find("tester/art@main")
    job = Job(classifier, pictures, out.as_uri(), address=None)
    assert job.left == job.total == 25
    names, groups = pictures.listed()
    worker = Worker(pickle.dumps(classifier), pictures, Results(out.as_uri()))
    records = [part.record() for part in (*groups, *in_parts(names, 7))]
    answered = worker(pa.Table.from_pylist(records)).to_pylist()
    assert sum(len(row["answers"]) for row in answered) == 25
    scores = [float(score).hex() for score in classifier.scores([*files.values()])]
    rows = results(out)
    assert rows.pop("bad.png")[-1] == "is empty (0 bytes)"
    assert {name: row[0] for name, row in rows.items()} == {
        **dict(zip(files, scores, strict=True)),
        **{f"{table}#{row}": score for row, score in enumerate(scores)},
    }
    assert Job(classifier, pictures, out.as_uri(), address=None).left == 0
    commit = repository.find("main").sha
    assert commit in (out / "_hf_ela.json").read_text()
    repository.commit({"more.txt": b"more"})
    printed = command(f"score tester/art --out {out}", status=2)
    assert f"holds results of another source: hf://datasets/tester/art@{commit}" in printed.err


RECIPE = load_recipe("scratch", [*TINY, "augmentation.views=32"])
"""Its rows take some hundredths of a second: a node can be lost before all are there."""


def prepared(source: Path, cache: Path, **options: Any) -> Prepared:
    return prepare(DataOptions(str(source), cache_dir=str(cache), num_proc=1, **options), RECIPE)


def shards(cache: Path) -> dict[str, bytes]:
    """The shards of each split."""
    paths = cache.glob("*-*/[0-9]*.arrow")
    return {
        f"{path.parent.name.partition('-')[0]}/{path.name}": path.read_bytes() for path in paths
    }


def test_nodes_of_which_one_is_lost_write_the_shards_of_one_process(
    cluster, tiny, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("hf_ela.data.shards.SHARD_ROWS", 4)
    there, alone = tmp_path / "there", tmp_path / "alone"
    left = []

    def soon() -> bool:
        left[:] = [8 - len([*there.glob("train-*/[0-9]*.arrow")])]
        return left[0] <= 6

    with losing_a_node(cluster, soon):
        found = prepared(tiny, there, address=cluster.address)
    assert left[0] > 1
    expected = prepared(tiny, alone, streaming=True)
    assert shards(there) == shards(alone)
    assert len(shards(there)) == 8 + 3
    assert (found.computed, found.summary) == (44, expected.summary)
    # Once they are there, nobody is called.
    for address in ("nobody.invalid:1", None):
        again = prepared(tiny, there, address=address)
        assert (again.computed, again.cached, again.summary) == (0, 44, expected.summary)


def test_what_cannot_be_done_is_said_in_one_line(cluster, folder, tmp_path, command):
    out = tmp_path / "out"

    def refused(words: str, *, status: int = 2) -> str:
        started = time.monotonic()
        message = command(f"score {words}", status=status).err
        assert time.monotonic() - started < 30
        assert message.count("\n") == 1, message
        return message

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        free = nobody.getsockname()[1]
    assert "Ray cannot be used" in refused(f"{folder} --out {out} --address 127.0.0.1:{free}")
    assert "such folder exists" in refused(f"{folder}/nowhere --out {out}")
    assert "must lie outside" in refused(f"{folder} --out {folder}/out")
    assert "cannot be opened" in refused(f"ftp://a/b --out {out}")
    assert "no pictures" in refused(f"{tmp_path / 'out'} --out {tmp_path / 'other'}")
    other = tmp_path / "other_model"
    Results(str(other)).claim(
        {"source": str(folder), "model": "ElaClassifier('other')", "digest": "0"}
    )
    message = refused(f"{folder} --out {other}")
    assert "holds results of another model: ElaClassifier('other')." in message
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(f"{folder} --out {tmp_path / 'file'}")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    assert "which holds other Parquet" in refused(f"{folder} --out {tmp_path}")
    assert "no Parquet with a column of them" in refused(
        f"{tmp_path / 'other.parquet'} --out {tmp_path / 'x'}"
    )


def test_what_a_node_lacks_is_said_in_one_line(
    cluster, folder, tiny, tmp_path, command, monkeypatch
) -> None:
    monkeypatch.setattr("hf_ela.data.shards.SHARD_ROWS", 4)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    with pytest.raises(RunError, match=f"^Ray cannot be used at `address` {address}: .*refused"):
        prepared(tiny, tmp_path / "ela", address=address)
    state = tmp_path / "site" / "state.py"
    state.parent.mkdir()
    (state.parent / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'default_worker.py' in str(sys.orig_argv):\n"
        f"    exec(open({str(state)!r}).read())\n"
    )
    state.write_text('sys.modules["hf_ela"] = None')
    node = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(state.parent)})
    where = rf"node 127.0.0.1 \({node.node_id[:6]}\)"
    printed = command(
        f"score {folder} --out {tmp_path / 'out'} --address {cluster.address}", status=2
    )
    assert re.fullmatch(
        rf".*The {where} lacks the package hf_ela. Install hf-ela there, of the same version.\n",
        printed.err,
    )
    for lacking, message in {
        "from hf_ela.ela import views; views.VIEWS_VERSION = 0": (
            rf"The {where} has views 0 in place of \d+. Install the same there."
        ),
        "import os; os.path.exists = lambda path: 'train-' not in path": (
            rf"The {where} does not see the folder of the cache, {tmp_path}/ela/train-\w+. Use a "
            "shared disk or a bucket."
        ),
        "import os; os.path.exists = lambda path: not path.endswith('.png')": (
            rf"The {where} does not see the pictures, {tiny}/train/fake/\w+.png. Use a "
        ),
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))": (
            rf"On the {where}: File too large: {tmp_path}/ela/train-\w+/0000\d.arrow. Free space,"
        ),
    }.items():
        state.write_text(lacking)
        with pytest.raises(RunError, match=message) as raised:
            prepared(tiny, tmp_path / "ela", address=cluster.address)
        assert "\n" not in str(raised.value)
    cluster.remove_node(node)


def test_a_full_disk_is_said_and_leaves_nothing_unfinished(tmp_path) -> None:
    results = Results(str(tmp_path))
    (part,) = in_parts(["a.png"], 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**9, before[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            results.write(part, [{"path": "a.png", "error": "is empty"}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = results.failed(raised.value)
    assert message == f"File too large: {tmp_path}. Free space, and repeat the command."
    assert not [*tmp_path.iterdir()]
