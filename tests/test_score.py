"""`hf-ela score`: the scores of one process, whatever becomes of the nodes, and nothing twice."""

import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bad_files import encode, picture
from conftest import CALLED, files_of, parquet, wait_for
from hf_ela import ElaClassifier
from hf_ela.errors import ImageError

# Before Ray is imported, as `hf_ela.scoring.job` does: on loopback, and nobody hears of it. Its
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
def forty(tmp_path) -> Path:
    """Thirty-six pictures at two depths, and four bad files."""
    folder = tmp_path / "pictures"
    (folder / "deep" / "er").mkdir(parents=True)
    for number in range(36):
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

    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield started
    started.shutdown()


def test_a_lost_node_changes_nothing_and_a_repeated_command_scores_what_is_new(
    cluster, forty, tmp_path, command
) -> None:
    out = tmp_path / "out"
    second = cluster.add_node(num_cpus=1)

    def lose() -> None:
        wait_for(lambda: len([*out.glob("*.parquet")]) >= 3)
        cluster.remove_node(second, allow_graceful=False)

    losing = Thread(target=lose)
    losing.start()
    printed = command(f"score {forty} --out {out} --address {cluster.address}")
    losing.join()
    assert "40 pictures" in printed.out
    assert results(out) == expected(forty)

    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    (forty / "new.png").write_bytes(encode(picture(130, 120, 77), "PNG"))
    printed = command(f"score {forty} --out {out} --address {cluster.address}")
    assert "Scored before: 40 of 41." in printed.out
    assert results(out) == expected(forty)
    assert before.items() <= {p: p.stat().st_mtime_ns for p in out.glob("*.parquet")}.items()
    printed = command(f"score {forty} --out {out} --address {cluster.address}")
    assert printed.out.startswith("Scored before: 41 of 41.\nResults: ")


def test_parquet_and_files_behind_an_address_have_the_same_scores(
    cluster, forty, tmp_path, command
) -> None:
    (forty / "deep" / os.fsdecode(b"name\xff.png")).unlink()  # no address has such a name
    rows = expected(forty)
    names = sorted(rows)
    command(f"score {forty.as_uri()} --out {(tmp_path / 'a').as_uri()} --address {cluster.address}")
    assert results(tmp_path / "a") == rows

    cells = [{"bytes": (forty / name).read_bytes(), "path": "/etc/passwd"} for name in names]
    cells.append({"bytes": None, "path": str(forty / names[-1])})
    tables = tmp_path / "tables"
    tables.mkdir()
    pq.write_table(pa.table({"image": cells}), tables / "t.parquet", row_group_size=15)
    (tables / "no.parquet").write_bytes(b"PAR1 and no more")
    damaged = bytearray((tables / "t.parquet").read_bytes())
    damaged[4:3000] = bytes(2996)
    (tables / "damaged.parquet").write_bytes(damaged)
    command(f"score {tables} --out {tmp_path / 'b'} --address {cluster.address}")
    found = results(tmp_path / "b")
    assert found.pop("no.parquet") == (None, None, None, "is not valid Parquet")
    of_damaged = [found.pop(f"damaged.parquet#{row}") for row in range(len(cells))]
    assert "is damaged" in of_damaged[0][-1]
    assert of_damaged[15:39] == [rows[name] for name in names[15:]]
    assert found.pop(f"t.parquet#{len(names)}") == (None, None, None, "the cell is empty")
    assert found == {f"t.parquet#{row}": rows[name] for row, name in enumerate(names)}


def test_a_dataset_is_pinned_and_another_one_is_refused(cluster, hub, tiny, tmp_path, command):
    files = {path: data for path, data in files_of(tiny).items() if path.startswith("test")}
    repository = hub.add_dataset("tester/art", {"data/test-0.parquet": parquet(files, "test")})
    out = tmp_path / "out"
    command(f"score tester/art@main --out {out} --address {cluster.address}")
    classifier = ElaClassifier.from_pretrained()
    scores = classifier.scores([data for _, data in sorted(files.items())])
    rows = results(out)
    assert [rows[f"data/test-0.parquet#{row}"][0] for row in range(len(files))] == [
        float(score).hex() for score in scores
    ]
    commit = repository.find("main").sha
    assert commit in (out / "_hf_ela.json").read_text()
    repository.commit({"more.txt": b"more"})
    printed = command(f"score tester/art --out {out}", status=2)
    assert f"holds results of another source: hf://datasets/tester/art@{commit}" in printed.err


def test_what_cannot_be_done_is_said_in_one_line(cluster, forty, tmp_path, command):
    from hf_ela.scoring.results import Results

    out = tmp_path / "out"

    def refused(words: str, *, status: int = 2) -> str:
        started = time.monotonic()
        message = command(f"score {words}", status=status).err
        assert time.monotonic() - started < 30
        assert message.count("\n") == 1, message
        return message

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        free = nobody.getsockname()[1]
    assert "Ray cannot be used" in refused(f"{forty} --out {out} --address 127.0.0.1:{free}")
    assert "such folder exists" in refused(f"{forty}/nowhere --out {out}")
    assert "must lie outside" in refused(f"{forty} --out {forty}/out")
    assert "cannot be opened" in refused(f"ftp://a/b --out {out}")
    assert "no pictures" in refused(f"{tmp_path / 'out'} --out {tmp_path / 'other'}")
    other = tmp_path / "other_model"
    Results(str(other)).claim(
        {"source": str(forty), "model": "ElaClassifier('other')", "digest": "0"}
    )
    message = refused(f"{forty} --out {other}")
    assert "holds results of another model: ElaClassifier('other')." in message
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(f"{forty} --out {tmp_path / 'file'}")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    assert "which holds other Parquet" in refused(f"{forty} --out {tmp_path}")
    assert "no Parquet with a column of them" in refused(
        f"{tmp_path / 'other.parquet'} --out {tmp_path / 'x'}"
    )

    # A node without the package.
    lacking = tmp_path / "site" / "sitecustomize.py"
    lacking.parent.mkdir()
    lacking.write_text('import sys; sys.modules["hf_ela"] = None')
    node = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(lacking.parent)})
    try:
        message = refused(f"{forty} --out {tmp_path / 'new'} --address {cluster.address}")
    finally:
        cluster.remove_node(node)
    assert "lacks the package hf_ela. Install hf-ela there, of the same version." in message


def test_a_full_disk_is_said_and_leaves_nothing_unfinished(tmp_path) -> None:
    from hf_ela.scoring.pictures import in_parts
    from hf_ela.scoring.results import Results

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
