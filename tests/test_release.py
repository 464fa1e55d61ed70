"""push_to_hub.py against a Hub over loopback: plan, one commit, verification, tag, faults."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from conftest import REPOSITORY, TINY
from hub_server import LocalHub

COMMIT = re.compile("[0-9a-f]{40}")

# Runs push_to_hub.py for each line of arguments, in one process: Keras starts once.
PUSHER = """
import contextlib, io, json, sys
import push_to_hub

for line in sys.stdin:
    sys.argv = ["push_to_hub.py", *json.loads(line)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = push_to_hub.main()
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


Push = Callable[..., Done]


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory, python: Any) -> Path:
    """A run folder of a short training. Not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    settings = [word for override in TINY for word in ("--set", override)]
    done = python(
        ["train.py", "--data", tiny, "--out", folder / "run", "--cache-dir", folder, *settings],
        KERAS_BACKEND="jax",
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def environment(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = hub.environment(tmp_path_factory.mktemp("home"))
    return home | {"KERAS_BACKEND": "jax", "HF_TOKEN": hub.token}


@pytest.fixture(scope="module")
def push(environment: dict[str, str], run: Path) -> Iterator[Push]:
    """Run push_to_hub.py with the tiny run, or another."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PUSHER],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def call(repo: str, *options: str, run: Path = run) -> Done:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps([str(run), repo, *options]), file=process.stdin, flush=True)
            return Done(*json.loads(process.stdout.readline()))

        yield call
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def command(environment: dict[str, str], *words: object) -> Done:
    """Run a script in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, words)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def files(hub: LocalHub, repo: str, revision: str = "main") -> dict[str, bytes]:
    return dict(hub.repositories["models", repo].find(revision).files)


def history(hub: LocalHub, repo: str, revision: str = "main") -> list[str]:
    return [commit.sha for commit in hub.repositories["models", repo].find(revision).history()]


def test_a_dry_run_says_everything_and_sends_nothing(hub: LocalHub, push: Push) -> None:
    done = push("tester/dry", "--dry-run", "--tag", "v1.0.0", "--private")
    assert done.status == 0, done.err
    assert re.search(
        r"a new repository \(or one that you may not see\), private, to the branch", done.out
    )
    assert re.search(r"new +[\d,]+ bytes  model\.weights\.h5", done.out)
    assert "+# " in done.out
    assert "v1.0.0" in done.out
    assert ("models", "tester/dry") not in hub.repositories
    assert not [line for line in hub.requests if "tester/dry" in line and line[:4] != "GET "]


def test_a_release_is_one_commit_of_the_listed_files_and_a_tag(
    hub: LocalHub, push: Push, run: Path
) -> None:
    done = push("tester/first", "--tag", "v1.0.0", "--message", "The first one")
    assert done.status == 0, done.err
    repository = hub.repositories["models", "tester/first"]
    head = repository.find("main")
    assert head.title == "The first one"
    assert head.parent is not None
    assert head.parent.parent is None  # the empty beginning of a repository
    assert repository.find("v1.0.0") is head
    sent = set(head.files) - {".gitattributes"}
    wheel = {name for name in sent if name.endswith("-py3-none-any.whl")}
    plots = {f"plots/{path}" for path in json.loads((run / "run.json").read_text())["plots"]}
    assert len(wheel) == 1
    assert plots
    assert sent == wheel | plots | {
        "README.md",
        "config.json",
        "handler.py",
        "hf_ela.json",
        "metadata.json",
        "metrics.json",
        "model.onnx",
        "model.weights.h5",
        "network.onnx",
        "requirements.txt",
        "run.json",
        "samples/README.md",
        "samples/dots-fake.jpg",
        "samples/dots-real.jpg",
        "samples/ela.png",
        "samples/watercolour-fake.png",
        "samples/watercolour-real.png",
    }
    assert "4 scores agree" in done.out
    assert hub.token not in done.out + done.err


def test_an_unchanged_release_makes_no_commit(hub: LocalHub, push: Push) -> None:
    assert push("tester/same", "--tag", "v1.0.0").status == 0
    before = history(hub, "tester/same")
    again = push("tester/same", "--tag", "v1.0.0")
    assert again.status == 0, again.err
    assert "this very release already" in again.out
    untagged = push("tester/same")
    assert "Nothing to commit" in untagged.out
    assert history(hub, "tester/same") == before


def test_a_tag_is_never_moved(hub: LocalHub, push: Push, run: Path, tmp_path: Path) -> None:
    assert push("tester/tagged", "--tag", "v1.0.0").status == 0
    before = history(hub, "tester/tagged")
    other = shutil.copytree(run, tmp_path / "other")
    (other / "plots" / "roc.png").write_bytes((other / "plots" / "confusion.png").read_bytes())
    done = push("tester/tagged", "--tag", "v1.0.0", run=other)
    assert done.status == 1
    assert "v1.0.0" in done.err
    assert history(hub, "tester/tagged") == before
    assert push("tester/tagged", "--tag", "v1.0.1", run=other).status == 0
    assert len(history(hub, "tester/tagged")) == len(before) + 1


def test_hand_written_text_of_the_card_survives_a_push(
    hub: LocalHub, push: Push, run: Path, tmp_path: Path
) -> None:
    assert push("tester/card").status == 0
    repository = hub.repositories["models", "tester/card"]
    written = files(hub, "tester/card")["README.md"] + b"\n## Thanks\n\nTo my grandmother.\n"
    repository.commit({"README.md": written})
    other = shutil.copytree(run, tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    record["evaluation"]["test"]["as_is"]["accuracy"]["value"] = 0.123
    (other / "run.json").write_text(json.dumps(record))
    assert push("tester/card", run=other).status == 0
    card = files(hub, "tester/card")["README.md"].decode()
    assert "To my grandmother." in card
    assert ".123" in card
    (other / "README.md").write_text("# Local\n")
    kept = push("tester/card", run=other)
    assert "Beware" in kept.out
    assert "# Local" not in files(hub, "tester/card")["README.md"].decode()
    assert push("tester/card", "--replace-card", run=other).status == 0
    assert "# Local" in files(hub, "tester/card")["README.md"].decode()
    assert "grandmother" not in files(hub, "tester/card")["README.md"].decode()


def test_a_pull_request_leaves_main_alone(hub: LocalHub, push: Push, run: Path) -> None:
    hub.add_model("tester/proposed", {"README.md": b"# Mine\n"})
    before = history(hub, "tester/proposed")
    done = push("tester/proposed", "--create-pr")
    assert done.status == 0, done.err
    assert history(hub, "tester/proposed") == before
    proposed = files(hub, "tester/proposed", "refs/pr/1")
    assert proposed["run.json"] == (run / "run.json").read_bytes()
    assert b"# Mine\n" in proposed["README.md"]
    again = push("tester/proposed", "--create-pr")
    assert again.status == 0, again.err
    assert "Proposed already" in again.out
    assert "refs/pr/2" not in hub.repositories["models", "tester/proposed"].refs


def test_a_branch_is_made_from_main(hub: LocalHub, push: Push) -> None:
    hub.add_model("tester/branched", {"notes.txt": b"kept"})
    before = history(hub, "tester/branched")
    assert push("tester/branched", "--branch", "next").status == 0
    assert history(hub, "tester/branched") == before
    assert files(hub, "tester/branched", "next")["notes.txt"] == b"kept"


def test_private_is_never_a_public_repository(hub: LocalHub, push: Push) -> None:
    assert push("tester/secret", "--private").status == 0
    assert hub.repositories["models", "tester/secret"].private
    hub.add_model("tester/open", {"README.md": b"# Open\n"})
    before = history(hub, "tester/open")
    done = push("tester/open", "--private")
    assert done.status == 1
    assert "public" in done.err
    assert history(hub, "tester/open") == before


def test_a_space_goes_along_and_shows_that_very_commit(hub: LocalHub, push: Push) -> None:
    plan = push("tester/shown", "--space", "tester/demo", "--dry-run")
    assert plan.status == 0, plan.err
    assert "spaces/tester/demo: a new repository" in plan.out
    assert ("spaces", "tester/demo") not in hub.repositories
    done = push("tester/shown", "--space", "tester/demo")
    assert done.status == 0, done.err
    space = hub.repositories["spaces", "tester/demo"]
    sent = space.find("main").files
    commit = hub.repositories["models", "tester/shown"].find("main").sha
    assert json.loads(sent["model.json"]) == {"repo": "tester/shown", "revision": commit}
    assert {"app.py", "requirements.txt", "README.md"} < set(sent)
    before = space.find("main").sha
    assert push("tester/shown", "--space", "tester/demo").status == 0
    assert space.find("main").sha == before


def test_what_an_earlier_release_left_is_removed_and_others_files_stay(
    hub: LocalHub, push: Push
) -> None:
    hub.add_model(
        "tester/left",
        {
            "hf_ela-0.0.1-py3-none-any.whl": b"old",
            "plots/sources_as_is.png": b"old",
            "plots/mine.png": b"mine",
        },
    )
    done = push("tester/left")
    assert done.status == 0, done.err
    now = files(hub, "tester/left")
    assert "hf_ela-0.0.1-py3-none-any.whl" not in now
    assert "plots/sources_as_is.png" not in now
    assert now["plots/mine.png"] == b"mine"


# --- What must not be sent ---------------------------------------------------------------------


def test_stray_files_of_the_run_folder_stay(
    hub: LocalHub, push: Push, run: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    stray = (".env", "weights/optimizer.bin", "plots/notes.png", "plots/mistakes.png")
    for name in (*stray, "samples/.env", "samples/photo-fake.jpg", "samples/notes.md"):
        (other / name).write_text("HF_TOKEN=hf_of_mine")
    (other / "checkpoint").mkdir()
    (other / "checkpoint" / "state.json").write_text("{}")
    assert push("tester/stray", run=other).status == 0
    sent = files(hub, "tester/stray")
    assert not [name for name in sent if "hf_of_mine" in sent[name].decode("latin-1")]
    assert not [name for name in sent if "checkpoint" in name or "optimizer" in name]


@pytest.mark.parametrize(
    "secret",
    [
        "/home/somebody/art",
        "see:/mnt/data/art",
        "`/mnt/data/art`",
        "file:///mnt/art",
        "C:\\art\\fake",
        "\\\\server\\share",
        "~/art",
        "hf_" + "a1" * 17,
    ],
)
def test_a_path_or_a_token_in_json_stops_the_release(
    hub: LocalHub, push: Push, run: Path, tmp_path: Path, secret: str
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    record["data"]["rejected"] = [{"file": "a.jpg", "reason": secret}]
    (other / "run.json").write_text(json.dumps(record))
    done = push("tester/leak", run=other)
    assert done.status == 1
    assert "run.json" in done.err
    assert "$.data.rejected[0].reason" in done.err
    assert secret not in done.err
    assert ("models", "tester/leak") not in hub.repositories


@pytest.mark.parametrize("missing", ["run.json", "weights/model.weights.h5", "plots/roc.png"])
def test_an_incomplete_run_is_refused(push: Push, run: Path, tmp_path: Path, missing: str) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    (other / missing).unlink()
    done = push("tester/incomplete", run=other)
    assert done.status == 1
    assert Path(missing).name in done.err


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--tag", "1.0"], "vX.Y.Z"),
        (["--tag", "v1.0.0", "--create-pr"], "Merge it first"),
        (["--space", "tester/any", "--create-pr"], "Merge it first"),
        (["--widget", "tester/any", "--create-pr"], "Merge it first"),
        (["--widget", "tester/any", "--space", "tester/any"], "Give them different names"),
        (["--token", "hf_secret\nline"], "printable ASCII"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_sent(
    hub: LocalHub, push: Push, options: list[str], rule: str
) -> None:
    asked = len(hub.requests)
    done = push("tester/usage", *options)
    assert done.status == 1
    assert rule in done.err
    assert "hf_secret" not in done.err + done.out
    assert len(hub.requests) == asked


# --- Faults ------------------------------------------------------------------------------------

FAULTS = {
    "create refused": ("POST", "/api/repos/create", {"status": 500, "retry_after": 0}),
    "preupload refused": ("POST", "/preupload/", {"status": 500, "retry_after": 0}),
    "large files refused": ("POST", "/info/lfs/", {"status": 500, "retry_after": 0}),
    "large file not taken": ("PUT", "/lfs", {"status": 500, "retry_after": 0}),
    "large file cut off": ("PUT", "/lfs", {"drop": "before"}),
    "commit refused": ("POST", "/commit/", {"status": 500, "retry_after": 0}),
    "commit limited": ("POST", "/commit/", {"status": 429, "retry_after": 0}),
    "commit never arrives": ("POST", "/commit/", {"drop": "before"}),
    "commit's answer is lost": ("POST", "/commit/", {"drop": "after"}),
    "download cut off": ("GET", "/resolve/", {"drop": "half"}),
    "download refused": ("GET", "/resolve/", {"status": 500, "retry_after": 0}),
    "tag refused": ("POST", "/tag/", {"status": 500, "retry_after": 0}),
    "tag's answer is lost": ("POST", "/tag/", {"drop": "after"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_the_same_command_finishes_the_job(
    hub: LocalHub, push: Push, run: Path, name: str
) -> None:
    repo = "tester/" + re.sub("[^a-z]+", "-", name)
    before = {"README.md": b"# Old\n", "mine.txt": b"mine"}
    if name != "create refused":
        hub.add_model(repo, before)
    method, part, how = FAULTS[name]
    hub.fault(method, part, times=40, **how)  # more often than the client tries by itself
    done = push(repo, "--tag", "v1.0.0")
    hub.clear_faults()
    assert done.status == 1
    assert "Traceback" not in done.err
    assert "Received: " in done.err
    assert "repeat the command" in done.err.lower()
    if name != "create refused":
        left = files(hub, repo)
        whole = {path.name: path.read_bytes() for path in (run / "weights").iterdir()}
        whole |= {"run.json": (run / "run.json").read_bytes(), "mine.txt": b"mine"}
        assert left == before or left.items() >= whole.items()

    again = push(repo, "--tag", "v1.0.0")
    assert again.status == 0, again.err
    repository = hub.repositories["models", repo]
    assert repository.find("v1.0.0") is repository.find("main")
    assert files(hub, repo)["run.json"] == (run / "run.json").read_bytes()
    if name != "create refused":
        assert len(history(hub, repo)) == 2  # the old state, and one commit


def test_large_files_that_arrived_are_not_sent_again(hub: LocalHub, push: Push) -> None:
    hub.fault("POST", "/commit/", times=8, status=500, retry_after=0)
    before = len([line for line in hub.requests if line.startswith("PUT ")])
    assert push("tester/large").status == 1
    hub.clear_faults()
    sent = len([line for line in hub.requests if line.startswith("PUT ")])
    assert sent > before
    assert push("tester/large").status == 0
    assert len([line for line in hub.requests if line.startswith("PUT ")]) == sent


@pytest.mark.parametrize("status", [409, 412])
def test_a_head_that_moved_once_is_read_again(hub: LocalHub, push: Push, status: int) -> None:
    repo = f"tester/moved-{status}"
    repository = hub.add_model(repo, {"README.md": b"# Mine\n"})

    def move() -> None:
        repository.commit({"README.md": b"# Mine\n\nWritten meanwhile.\n"})

    hub.before("POST", f"{repo}/commit/", move, times=1)
    if status == 409:  # the local Hub itself says 412
        hub.fault("POST", f"{repo}/commit/", status=409, times=1)
    done = push(repo)
    assert done.status == 0, done.err
    assert "moved" in done.out
    assert b"Written meanwhile." in files(hub, repo)["README.md"]


def test_a_head_that_keeps_moving_gets_advice(hub: LocalHub, push: Push) -> None:
    hub.add_model("tester/moving", {"README.md": b"# Mine\n"})
    before = history(hub, "tester/moving")
    hub.fault("POST", "tester/moving/commit/", times=2, status=412)
    done = push("tester/moving")
    hub.clear_faults()
    assert done.status == 1
    assert "--create-pr" in done.err
    assert history(hub, "tester/moving") == before


def test_a_release_that_scores_otherwise_gets_no_tag(
    hub: LocalHub, push: Push, run: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    record["samples"][1]["score"] = 0.9
    (other / "run.json").write_text(json.dumps(record))
    done = push("tester/otherwise", "--tag", "v1.0.0", run=other)
    assert done.status == 1
    assert "dots-real.jpg scores" in done.err
    assert "recorded 0.9" in done.err
    assert "refs/tags/v1.0.0" not in hub.repositories["models", "tester/otherwise"].refs


def test_a_hub_that_changes_a_file_gets_no_tag(hub: LocalHub, push: Push) -> None:
    repository = hub.add_model("tester/changed", {"README.md": b"# Mine\n"})

    def change() -> None:
        head = repository.find("main")
        if "run.json" in head.files:
            head.files["run.json"] = b"{}"  # type: ignore[index]

    hub.before("GET", "tester/changed/resolve/", change)
    done = push("tester/changed", "--tag", "v1.0.0")
    assert done.status == 1
    assert "run.json" in done.err
    assert "refs/tags/v1.0.0" not in repository.refs


@pytest.mark.parametrize("token", [None, "hf_unknown", "read"])
def test_without_a_token_that_may_write_nothing_is_left(
    hub: LocalHub, environment: dict[str, str], run: Path, token: str | None
) -> None:
    hub.add_model("tester/closed", {"README.md": b"# Mine\n"})
    before = history(hub, "tester/closed")
    given = {"read": hub.read_token}.get(token or "", token) or ""
    done = command(environment | {"HF_TOKEN": given}, "push_to_hub.py", run, "tester/closed")
    assert done.status == 1
    assert "Traceback" not in done.err
    assert "token" in done.err
    assert not given or given not in done.err + done.out
    assert history(hub, "tester/closed") == before


def test_a_tag_that_arrived_is_found_after_the_card_was_edited(hub: LocalHub, push: Push) -> None:
    repository = hub.add_model("tester/edited", {"README.md": b"# Mine\n"})
    hub.fault("POST", "tester/edited/tag/", drop="after", times=1)
    assert push("tester/edited", "--tag", "v1.0.0").status == 1
    hub.clear_faults()
    repository.commit({"README.md": b"# Mine, edited on the website\n"})
    head = repository.find("main").sha
    done = push("tester/edited", "--tag", "v1.0.0", "--space", "tester/edited-demo")
    assert done.status == 0, done.err
    assert "this very release already" in done.out
    assert repository.find("main").sha == head
    shown = hub.repositories["spaces", "tester/edited-demo"].find("main").files["model.json"]
    assert json.loads(shown)["revision"] == repository.find("v1.0.0").sha


def test_a_space_of_others_is_refused_before_the_model_is_sent(hub: LocalHub, push: Push) -> None:
    hub.add_space("tester/game", {"app.py": b"print()", "README.md": b"# A game\n"})
    done = push("tester/unsent", "--space", "tester/game")
    assert done.status == 1
    assert "model.json" in done.err
    assert ("models", "tester/unsent") not in hub.repositories


def test_a_model_of_another_kind_is_not_overwritten(hub: LocalHub, push: Push) -> None:
    hub.add_model("tester/bert", {"README.md": b"# Bert\n", "config.json": b"{}"})
    before = history(hub, "tester/bert")
    done = push("tester/bert")
    assert done.status == 1
    assert "config.json" in done.err
    assert history(hub, "tester/bert") == before


@pytest.mark.parametrize("options", [["art"], ["tester/any", "--space", "demo"]])
def test_a_name_needs_its_user(hub: LocalHub, push: Push, options: list[str]) -> None:
    done = push(*options)
    assert done.status == 1
    assert "`user/name`" in done.err
    assert ("models", "tester/any") not in hub.repositories


def test_the_text_of_a_space_stays(hub: LocalHub, push: Push) -> None:
    assert push("tester/kept", "--space", "tester/kept-demo").status == 0
    space = hub.repositories["spaces", "tester/kept-demo"]
    card = space.find("main").files["README.md"]
    space.commit({"README.md": card.replace(b"emoji:", b"pinned: true\nemoji:") + b"\nThanks!\n"})
    assert push("tester/kept", "--space", "tester/kept-demo", "--message", "Again").status == 0
    now = space.find("main").files["README.md"]
    assert b"Thanks!" in now
    assert b"pinned: true" in now


def test_a_widget_goes_along_and_runs_that_very_commit(hub: LocalHub, push: Push) -> None:
    plan = push("tester/run", "--widget", "tester/page", "--dry-run")
    assert plan.status == 0
    assert "spaces/tester/page: a new repository" in plan.out
    assert ("spaces", "tester/page") not in hub.repositories
    done = push("tester/run", "--widget", "tester/page", "--space", "tester/both")
    assert done.status == 0, done.err
    page, gradio = (hub.repositories["spaces", f"tester/{name}"] for name in ("page", "both"))
    assert (page.sdk, gradio.sdk) == ("static", "gradio")
    sent = page.find("main").files
    commit = hub.repositories["models", "tester/run"].find("main").sha
    assert json.loads(sent["widget.json"])["revision"] == commit
    reached = f"connect-src 'self' https://cdn.jsdelivr.net {hub.endpoint};"
    assert reached in sent["index.html"].decode()
    # Again, with what a person wrote; nothing else is new.
    page.commit({"README.md": sent["README.md"] + b"\nThanks!\n"})
    before = page.find("main").sha
    assert push("tester/run", "--widget", "tester/page").status == 0
    assert page.find("main").sha == before


def test_a_widget_and_a_gradio_space_leave_each_other_alone(hub: LocalHub, push: Push) -> None:
    assert push("tester/two", "--widget", "tester/static", "--space", "tester/served").status == 0
    for options, mark in (
        (["--widget", "tester/served"], "widget.json"),
        (["--space", "tester/static"], "model.json"),
    ):
        space = hub.repositories["spaces", options[1]]
        before = space.find("main").sha
        done = push("tester/two", *options)
        assert done.status == 1
        assert f"known by its {mark}" in done.err
        assert space.find("main").sha == before


def test_a_widget_needs_its_model_in_public_and_as_onnx(
    hub: LocalHub, push: Push, run: Path, tmp_path: Path
) -> None:
    hub.add_model("tester/hidden", {"README.md": b"# Mine\n"}, private=True)
    for model, *options in (("tester/hidden",), ("tester/plain", "--private")):
        done = push(model, "--widget", "tester/unseen", *options)
        assert done.status == 1
        assert "loads its model without a token" in done.err
    other = shutil.copytree(run, tmp_path / "other")
    (other / "weights" / "model.onnx").unlink()
    settings = json.loads((other / "weights" / "hf_ela.json").read_text())
    (other / "weights" / "network.onnx").unlink()
    settings["sha256"] = {"model.weights.h5": settings["sha256"]["model.weights.h5"]}
    (other / "weights" / "hf_ela.json").unlink()
    (other / "weights" / "hf_ela.json").write_text(json.dumps(settings))
    done = push("tester/plain", "--widget", "tester/unseen", run=other)
    assert done.status == 1
    assert "model.onnx of the release. Received: a run without it" in done.err
    assert ("models", "tester/plain") not in hub.repositories
    assert ("spaces", "tester/unseen") not in hub.repositories


@pytest.mark.parametrize("damage", ["no samples", "another sample", "dataset images", "a link"])
def test_a_run_that_cannot_be_verified_or_shown_is_refused(
    hub: LocalHub, push: Push, run: Path, tmp_path: Path, damage: str
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    picture = other / "samples" / "dots-real.jpg"
    match damage:
        case "no samples":
            record["samples"] = []
        case "another sample":
            picture.write_bytes((other / "samples" / "dots-fake.jpg").read_bytes())
        case "dataset images":
            record["plots"].append("mistakes.png")
        case _:
            picture.unlink()
            picture.symlink_to(run / "samples" / "dots-real.jpg")
    (other / "run.json").write_text(json.dumps(record))
    done = push("tester/damaged", run=other)
    assert done.status == 1
    assert "Received: " in done.err
    assert ("models", "tester/damaged") not in hub.repositories


def test_what_the_hub_holds_cannot_steer_the_terminal(hub: LocalHub, push: Push) -> None:
    hub.add_model("tester/escape", {"README.md": b"# \x1b[2JMine\n", "plots/roc\x1b.png": b""})
    done = push("tester/escape", "--dry-run")
    assert "Mine" in done.out
    assert "\x1b" not in done.out + done.err


def test_killed_while_it_uploads_the_same_command_finishes(
    hub: LocalHub, environment: dict[str, str], run: Path
) -> None:
    before = {"README.md": b"# Mine\n"}
    hub.add_model("tester/killed", before)
    hub.fault("PUT", "/lfs", times=1, slow=60)
    words = ["push_to_hub.py", str(run), "tester/killed", "--tag", "v1.0.0"]
    started = len(hub.started)
    with subprocess.Popen(
        [sys.executable, *words], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL
    ) as process:
        while not [line for line in hub.started[started:] if line.startswith("PUT ")]:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    hub.clear_faults()
    assert files(hub, "tester/killed") == before
    done = command(environment, *words)
    assert done.status == 0, done.err
    assert len(history(hub, "tester/killed")) == 2
    assert "refs/tags/v1.0.0" in hub.repositories["models", "tester/killed"].refs


@pytest.mark.second_lane
def test_a_classifier_pushes_itself(
    hub: LocalHub, environment: dict[str, str], run: Path, tmp_path: Path
) -> None:
    hub.add_model("tester/alone", {"README.md": b"# Mine\n", "plots/a.png": b"mine"})
    code = """
import sys
from hf_ela import ElaClassifier

classifier = ElaClassifier.from_pretrained(sys.argv[1])
commit = classifier.push_to_hub("tester/alone", tag="v0.1.0", message="By itself")
again = ElaClassifier.from_pretrained("tester/alone", revision="v0.1.0")
assert again.revision == commit
image = sys.argv[1] + "/samples/dots-fake.jpg"
assert list(again.scores([image])) == list(classifier.scores([image]))
print(commit)
"""
    done = command(environment, "-c", code, run)
    assert done.status == 0, done.err
    repository = hub.repositories["models", "tester/alone"]
    head = repository.find("v0.1.0")
    assert done.out == f"{head.sha}\n"
    assert head.title == "By itself"
    assert {"README.md", "plots/a.png", "model.weights.h5", "handler.py"} <= set(head.files)
    assert "run.json" not in head.files


@pytest.mark.second_lane
def test_a_classifier_is_not_put_under_the_card_of_another(
    hub: LocalHub, environment: dict[str, str], run: Path
) -> None:
    card = {"README.md": b"# Mine\n", "run.json": b"{}", "model.weights.h5": b"other"}
    card["hf_ela.json"] = b"{}"
    before = hub.add_model("tester/carded", card).find("main").sha
    code = "import sys; from hf_ela import ElaClassifier as E; "
    code += "E.from_pretrained(sys.argv[1]).push_to_hub('tester/carded')"
    done = command(environment, "-c", code, run)
    assert "tell of other weights" in done.err
    assert history(hub, "tester/carded") == [before]


@pytest.mark.network
def test_the_live_hub_takes_and_gives_back_a_release(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a person with a token (HF_TOKEN, may write): a private repository, deleted in the end."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    api = HfApi(token=os.environ["HF_TOKEN"])
    repo = f"{api.whoami()['name']}/hf-ela-test-{int(time.time())}"
    live = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    live |= {"KERAS_BACKEND": "jax", "HF_HOME": str(tmp_path), "HF_TOKEN": os.environ["HF_TOKEN"]}
    words = ["push_to_hub.py", run, repo, "--private", "--tag", "v1.0.0"]
    try:
        done = command(live, *words)
        assert done.status == 0, done.err
        again = command(live, *words)
        assert again.status == 0, again.err
        assert "this very release already" in again.out
        code = f"""
import json
from hf_ela import ElaClassifier
classifier = ElaClassifier.from_pretrained("{repo}", revision="v1.0.0")
run = json.load(open("{run}/run.json"))
pictures = ["{run}/samples/" + sample["file"] for sample in run["samples"]]
assert list(classifier.scores(pictures)) == [sample["score"] for sample in run["samples"]]
"""
        loaded = command(live, "-c", code)
        assert loaded.status == 0, loaded.err
    finally:
        api.delete_repo(repo, missing_ok=True)
