"""`hf-ela push` against a Hub over loopback: plan, one commit, verification, tag, faults."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from conftest import COMMAND, LIVE, REPOSITORY, Printed, changed, linked_copy, wait_for
from hf_ela import ElaClassifier
from hf_ela.errors import ReleaseError
from hf_ela.hub.package import SAMPLES
from hf_ela.hub.release_files import release_files
from hub_server import LocalHub

FAKE, REAL = next(iter(SAMPLES)), list(SAMPLES)[-1]


@pytest.fixture
def push(hub, tiny_run, monkeypatch, command) -> Callable[..., Printed]:
    """Run `hf-ela push` with the tiny run, or another; it must end with `status`."""
    monkeypatch.setenv("HF_TOKEN", hub.token)

    def call(repo: str, *options: str, run: Path = tiny_run, status: int = 0) -> Printed:
        return command("push", run, repo, *options, status=status)

    return call


@pytest.fixture
def other(tiny_run, tmp_path) -> Path:
    """A run folder to change by `write`."""
    return linked_copy(tiny_run, tmp_path / "other")


def write(path: Path, content: bytes | str) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def rewrite(run: Path, **values: Any) -> None:
    write(run / "run.json", json.dumps(changed(record_of(run), **values)))


def record_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text("utf-8"))


def files(hub: LocalHub, repo: str, revision: str = "main", kind: str = "models") -> dict:
    return dict(hub.repositories[kind, repo].find(revision).files)


def history(hub: LocalHub, repo: str, revision: str = "main") -> list[str]:
    return [commit.sha for commit in hub.repositories["models", repo].find(revision).history()]


def test_a_dry_run_says_everything_and_sends_nothing(hub, push) -> None:
    done = push("tester/dry", "--dry-run", "--tag", "v1.0.0", "--private")
    assert re.search(r"a new repository \(or one that you cannot see\), private, to", done.out)
    assert re.search(r"new +[\d,]+ bytes  model\.weights\.h5", done.out)
    assert "+# " in done.out
    assert "v1.0.0" in done.out
    assert "The Hub accepts the card's metadata." in done.out
    assert not hub.repositories
    asked = [line for line in hub.requests if line[:4] != "GET "]
    assert {line.split()[1] for line in asked} == {"/api/validate-yaml"}


def test_a_plan_that_cannot_read_the_hub_sends_nothing_again(hub, push) -> None:
    hub.fault("GET", "/api/models/", status=500, times=40, retry_after=0)
    done = push("tester/dry", "--dry-run", status=2)
    assert "could not be reached to read 'tester/dry'. Received: status 500." in done.err
    assert "and repeat the command." in done.err


def test_the_hub_checks_the_metadata_of_a_card(hub, push) -> None:
    hub.fault("POST", "/api/validate-yaml", status=500, retry_after=0)
    done = push("tester/card", "--dry-run")
    assert "The Hub could not be reached to check the card's metadata" in done.out
    hub.clear_faults()
    hub.add_model("tester/card", {"README.md": b"---\nlicense: my-own\n---\n# Mine\n"})
    before = history(hub, "tester/card")
    for options in (["--dry-run"], []):
        done = push("tester/card", *options, status=2)
        assert '"license" must be one of' in done.err
        assert "b'" not in done.err
    assert history(hub, "tester/card") == before


def test_a_release_is_one_commit_and_a_tag_and_made_once(hub, push, tiny_run) -> None:
    done = push("tester/first", "--tag", "v1.0.0", "--message", "The first one")
    repository = hub.repositories["models", "tester/first"]
    head = repository.find("main")
    assert head.title == "The first one"
    assert head.parent is not None
    assert head.parent.parent is None  # the empty beginning of a repository
    assert repository.find("v1.0.0") is head
    sent = set(head.files) - {".gitattributes"}
    (wheel,) = (name for name in sent if name.endswith("-py3-none-any.whl"))
    plots = {f"plots/{path}" for path in record_of(tiny_run)["plots"]}
    assert plots
    model = "config.json hf_ela.json metadata.json model.onnx model.weights.h5 network.onnx"
    rest = "README.md handler.py metrics.json notebook.ipynb requirements.txt run.json"
    rest += " events/events.out.tfevents.0 groups.csv"
    samples = {f"samples/{name}" for name in ("README.md", "ela.png", *SAMPLES)}
    assert sent == {wheel, *plots, *model.split(), *rest.split(), *samples}
    assert "4 scores match" in done.out
    assert hub.token not in done.out + done.err

    before = history(hub, "tester/first")
    assert "already up to date" in push("tester/first", "--tag", "v1.0.0").out
    assert "Nothing to commit" in push("tester/first").out  # the card keeps naming the tag
    assert history(hub, "tester/first") == before


def test_a_tag_is_never_moved(hub, push, other) -> None:
    push("tester/tagged", "--tag", "v1.0.0")
    before = history(hub, "tester/tagged")
    write(other / "plots" / "roc.png", (other / "plots" / "confusion.png").read_bytes())
    done = push("tester/tagged", "--tag", "v1.0.0", run=other, status=2)
    assert "Tags are immutable: v1.0.0" in done.err
    assert history(hub, "tester/tagged") == before
    push("tester/tagged", "--tag", "v1.0.1", run=other)
    assert len(history(hub, "tester/tagged")) == len(before) + 1


def test_hand_written_text_of_the_card_survives_a_push(hub, push, other) -> None:
    push("tester/card")
    written = files(hub, "tester/card")["README.md"] + b"\n## Thanks\n\nTo my grandmother.\n"
    hub.repositories["models", "tester/card"].commit({"README.md": written})
    accuracy = "evaluation__test__as_is__accuracy__"
    rewrite(other, **{f"{accuracy}low": 0.1, f"{accuracy}value": 0.123})
    push("tester/card", run=other)
    card = files(hub, "tester/card")["README.md"].decode()
    assert "To my grandmother." in card
    assert ".123" in card
    write(other / "README.md", "# Local\n")
    kept = push("tester/card", run=other)
    assert "Warning: the hand-written text of" in kept.out
    assert "--replace-card" in kept.out
    assert "# Local" not in files(hub, "tester/card")["README.md"].decode()
    push("tester/card", "--replace-card", run=other)
    assert "# Local" in files(hub, "tester/card")["README.md"].decode()
    assert "grandmother" not in files(hub, "tester/card")["README.md"].decode()


def test_a_pull_request_leaves_main_alone(hub, push, tiny_run) -> None:
    hub.add_model("tester/proposed", {"README.md": b"# Mine\n"})
    before = history(hub, "tester/proposed")
    push("tester/proposed", "--create-pr")
    assert history(hub, "tester/proposed") == before
    proposed = files(hub, "tester/proposed", "refs/pr/1")
    assert proposed["run.json"] == (tiny_run / "run.json").read_bytes()
    assert b"# Mine\n" in proposed["README.md"]
    assert "An open pull request already holds it" in push("tester/proposed", "--create-pr").out
    assert "refs/pr/2" not in hub.repositories["models", "tester/proposed"].refs


def test_a_branch_is_made_from_main(hub, push) -> None:
    hub.add_model("tester/branched", {"notes.txt": b"kept"})
    before = history(hub, "tester/branched")
    push("tester/branched", "--branch", "next")
    assert history(hub, "tester/branched") == before
    assert files(hub, "tester/branched", "next")["notes.txt"] == b"kept"


def test_private_is_never_a_public_repository(hub, push) -> None:
    push("tester/secret", "--private")
    assert hub.repositories["models", "tester/secret"].private
    hub.add_model("tester/open", {"README.md": b"# Open\n"})
    before = history(hub, "tester/open")
    done = push("tester/open", "--private", status=2)
    assert "--private needs a new or private repository" in done.err
    assert history(hub, "tester/open") == before


def test_an_earlier_release_is_removed_and_files_of_others_stay(hub, push, other) -> None:
    record = record_of(other)
    record["plots"].remove("sources_as_is.png")
    record["data"]["groups"] = None
    write(other / "run.json", json.dumps(record))
    old = {"hf_ela-0.0.1-py3-none-any.whl": b"old", "plots/sources_as_is.png": b"old"}
    repository = hub.add_model("tester/left", {**old, "hf_ela.json": b"{}"})
    push("tester/left")
    mine = {"plots/mine.png": b"mine", "samples/mine.jpg": b"mine"}
    repository.commit({**old, **mine})
    push("tester/left", run=other)
    now = files(hub, "tester/left")
    assert not {*old, "groups.csv"} & {*now}
    assert now.items() >= mine.items()
    repository.commit({"groups.csv": b"mine"})  # none of this package's: its record has no groups
    push("tester/left", run=other)
    assert files(hub, "tester/left")["groups.csv"] == b"mine"


def test_pictures_of_ones_own_verify_a_release_and_are_shown_everywhere(
    hub, push, pictures, tiny_run, tmp_path
) -> None:
    chosen = pictures[4:8]
    names = [path.name for path in chosen]
    inside = {path.name.replace("-", "/", 1): path for path in chosen[::2]}
    own = write_samples(tmp_path, inside | {path.name: path for path in chosen[1::2]})
    earlier = json.dumps({"samples": [{"file": "fake-old.jpg"}]}).encode()
    held = {"samples/fake-old.jpg": b"old", "hf_ela.json": b"{}"}
    hub.add_model("tester/shown", {**held, "run.json": earlier})
    hub.add_space("tester/page", {**held, "widget.json": earlier})
    hub.add_space("tester/demo", {**held, "model.json": earlier})
    spaces = ("--widget", "tester/page", "--space", "tester/demo")
    assert "4 scores match" in push("tester/shown", *spaces, "--samples", str(own)).out

    now = files(hub, "tester/shown")
    expected = {f"samples/{name}" for name in ("README.md", "ela.png", *names)}
    for held in (now, *(files(hub, f"tester/{name}", kind="spaces") for name in ("page", "demo"))):
        assert {name for name in held if name.startswith("samples/")} == expected
        assert held["samples/README.md"] == b"All are mine."
    recorded = json.loads(now["run.json"])
    assert changed(recorded, samples=[]) == changed(record_of(tiny_run), samples=[])
    model = ElaClassifier.from_pretrained(tiny_run)
    assert [
        (sample["file"], sample["label"], sample["score"]) for sample in recorded["samples"]
    ] == [(path.name, path.name[:4], next(model.scores(path))) for path in chosen]
    assert f"samples/{names[-1]}" in now["notebook.ipynb"].decode()
    card = now["README.md"].decode()
    assert all(f"- src: samples/{name}" in card for name in names)
    assert "Neon towers: AI-generated" in card
    for space, settings in (("page", "widget.json"), ("demo", "model.json")):
        shown = json.loads(files(hub, f"tester/{space}", kind="spaces")[settings])["samples"]
        assert [sample["file"] for sample in shown] == names

    assert "Nothing to commit" in push("tester/shown", "--samples", str(own)).out


def write_samples(folder: Path, pictures: Mapping[str, Path | bytes]) -> Path:
    for name, content in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (folder / "README.md").write_bytes(b"All are mine.")
    return folder


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"real/old town.jpg": b""}, "only A to Z"),
        ({"real/notes.txt": b""}, "end with"),
        ({"real/torn.jpg": b"\xff\xd8\xff"}, "real/torn.jpg cannot be a sample picture: "),
        ({"real/large.jpg": bytes(10_000_001)}, "10 MB together"),
        ({f"real/{i}.jpg": b"" for i in range(12)}, "12 pictures"),
        ({"fake/a.jpg": None}, "without fake"),
        ({"README.md": None}, "without README.md"),
        ({"README.md": b"In " + bytes(Path.home()) + b"/art."}, "path of this machine"),
    ],
    ids=["name", "kind", "unreadable", "size", "number", "class", "no licence", "private"],
)
def test_a_folder_of_samples_that_cannot_be_shown_is_refused(
    hub, push, pictures, tmp_path, more, rule
) -> None:
    parts = {"fake/a.jpg": pictures[0], "real/a.jpg": pictures[-1]}
    folder = write_samples(tmp_path, parts)
    for name, content in more.items():
        (folder / name).write_bytes(content) if content is not None else (folder / name).unlink()
    assert rule in push("tester/odd", "--samples", str(folder), status=2).err
    assert not hub.repositories


def test_a_tracked_training_has_its_events_without_the_name_of_the_machine(
    hub, push, other
) -> None:
    (own,) = (other / "events").iterdir()
    own.rename(own.with_name("events.out.tfevents.1796059474.mine.local"))
    push("tester/tracked", run=other)
    sent = {name: data for name, data in files(hub, "tester/tracked").items() if "events" in name}
    assert sent.keys() == {"events/events.out.tfevents.0"}
    shutil.rmtree(other / "events")
    push("tester/tracked", run=other)  # trained again without
    assert "events/events.out.tfevents.0" not in files(hub, "tester/tracked")


# --- What must not be sent ---------------------------------------------------------------------


def test_stray_files_of_the_run_folder_stay(hub, push, other) -> None:
    (other / "checkpoint").mkdir(exist_ok=True)
    stray = (".env", "weights/optimizer.bin", "plots/notes.png", "plots/mistakes.png")
    stray += ("samples/.env", "samples/fake-photo.jpg", "samples/notes.md", "checkpoint/state.json")
    for name in stray:
        write(other / name, "HF_TOKEN=hf_of_mine")
    push("tester/stray", run=other)
    sent = files(hub, "tester/stray")
    assert not {*stray} & {*sent}
    assert not [name for name in sent if b"hf_of_mine" in sent[name]]


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
def test_a_path_or_a_token_in_json_stops_the_release(other, secret) -> None:
    rewrite(other, data__rejected=[{"file": "a.jpg", "split": "train", "reason": secret}])
    with pytest.raises(ReleaseError, match=r"run\.json.*\$\.data\.rejected\[0\]\.reason") as caught:
        release_files(other, "tester/leak")
    assert secret not in str(caught.value)


@pytest.mark.parametrize("missing", ["run.json", "weights/model.weights.h5", "plots/roc.png"])
def test_an_incomplete_run_is_refused(hub, push, other, missing) -> None:
    (other / missing).unlink()
    assert Path(missing).name in push("tester/incomplete", run=other, status=2).err
    assert not hub.repositories


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--tag", "1.0"], "--tag must be vX.Y.Z"),
        (["--tag", "v1.0.0", "--create-pr"], "--tag and --create-pr exclude each other"),
        (["--space", "tester/any", "--create-pr"], "Merge it first"),
        (["--widget", "tester/any", "--create-pr"], "Merge it first"),
        (["--widget", "tester/any", "--space", "tester/any"], "must name different Spaces"),
        (["--token", "hf_secret\nline"], "printable ASCII"),
        (["--space", "demo"], "named user/name"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_sent(hub, push, options, rule) -> None:
    done = push("tester/usage", *options, status=2)
    assert rule in done.err
    assert "hf_secret" not in done.err + done.out
    assert not [line for line in hub.requests if line[:4] != "GET "]
    assert "named user/name" in push("art", status=2).err


@pytest.mark.parametrize(
    "damage", ["no samples", "another sample", "dataset images", "another table", "a link"]
)
def test_a_run_that_cannot_be_verified_or_shown_is_refused(other, tiny_run, damage) -> None:
    record, picture = record_of(other), other / "samples" / REAL
    match damage:
        case "no samples":
            record["samples"] = []
        case "another sample":
            write(picture, (other / "samples" / FAKE).read_bytes())
        case "another table":
            write(other / "groups.csv", "sha256,group,split\n")
        case "dataset images":
            record["plots"].append("mistakes.png")
        case _:
            picture.unlink()
            picture.symlink_to(tiny_run / "samples" / REAL)
    write(other / "run.json", json.dumps(record))
    with pytest.raises(ReleaseError, match="rain again"):
        release_files(other, "tester/damaged")


# --- Faults ------------------------------------------------------------------------------------

REFUSED = {"status": 500, "retry_after": 0}
FAULTS = {
    "create refused": ("POST", "/api/repos/create", REFUSED),
    "large file not taken": ("PUT", "/lfs", REFUSED),
    "commit limited": ("POST", "/commit/", {"status": 429, "retry_after": 0}),
    "commit's answer is lost": ("POST", "/commit/", {"drop": "after"}),
    "download cut off": ("GET", "/resolve/", {"drop": "half"}),
    "tag refused": ("POST", "/tag/", REFUSED),
}


@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_the_same_command_finishes_the_job(hub, push, tiny_run, name) -> None:
    repo, before = "tester/fault", {"README.md": b"# Old\n", "mine.txt": b"mine"}
    if name != "create refused":
        hub.add_model(repo, before)
    method, part, how = FAULTS[name]
    hub.fault(method, part, times=40, **how)  # more often than the client tries by itself
    error = push(repo, "--tag", "v1.0.0", status=2).err
    hub.clear_faults()
    assert "Received: " in error
    assert "repeat the command" in error.lower()
    if name != "create refused":
        left = files(hub, repo)
        whole = {path.name: path.read_bytes() for path in (tiny_run / "weights").iterdir()}
        whole |= {"run.json": (tiny_run / "run.json").read_bytes(), "mine.txt": b"mine"}
        assert left == before or left.items() >= whole.items()

    push(repo, "--tag", "v1.0.0")
    repository = hub.repositories["models", repo]
    assert repository.find("v1.0.0") is repository.find("main")
    assert files(hub, repo)["run.json"] == (tiny_run / "run.json").read_bytes()
    if name != "create refused":
        assert len(history(hub, repo)) == 2  # the old state, and one commit
    if "commit" in name:  # large files that arrived are not sent again
        sent = [line for line in hub.requests if line.startswith("PUT ")]
        assert len(sent) == len(set(sent))


@pytest.mark.parametrize("status", [409, 412])
def test_a_head_that_moved_once_is_read_again(hub, push, status) -> None:
    repository = hub.add_model("tester/moved", {"README.md": b"# Mine\n"})

    def move() -> None:
        repository.commit({"README.md": b"# Mine\n\nWritten meanwhile.\n"})

    hub.before("POST", "/commit/", move, times=1)
    if status == 409:  # the local Hub itself says 412
        hub.fault("POST", "/commit/", status=409, times=1)
    assert "planning again" in push("tester/moved").out
    assert b"Written meanwhile." in files(hub, "tester/moved")["README.md"]


def test_a_head_that_keeps_moving_gets_advice(hub, push) -> None:
    hub.add_model("tester/moving", {"README.md": b"# Mine\n"})
    before = history(hub, "tester/moving")
    hub.fault("POST", "/commit/", times=2, status=412)
    assert "--create-pr" in push("tester/moving", status=2).err
    assert history(hub, "tester/moving") == before


def test_a_release_that_scores_otherwise_gets_no_tag(hub, push, other) -> None:
    record = record_of(other)
    record["samples"][1]["score"] = 0.9
    write(other / "run.json", json.dumps(record))
    done = push("tester/otherwise", "--tag", "v1.0.0", run=other, status=2)
    assert f"{record['samples'][1]['file']} scores" in done.err
    assert "recorded 0.9" in done.err
    assert "refs/tags/v1.0.0" not in hub.repositories["models", "tester/otherwise"].refs


def test_a_hub_that_changes_a_file_gets_no_tag(hub, push) -> None:
    repository = hub.add_model("tester/changed", {"README.md": b"# Mine\n"})

    def change() -> None:
        head = repository.find("main")
        if "run.json" in head.files:
            head.files["run.json"] = b"{}"  # type: ignore[index]

    hub.before("GET", "/resolve/", change)
    assert "run.json" in push("tester/changed", "--tag", "v1.0.0", status=2).err
    assert "refs/tags/v1.0.0" not in repository.refs


@pytest.mark.parametrize("token", ["", "hf_unknown", "read"])
def test_without_a_token_that_may_write_nothing_is_left(hub, push, monkeypatch, token) -> None:
    hub.add_model("tester/closed", {"README.md": b"# Mine\n"})
    before = history(hub, "tester/closed")
    given = hub.read_token if token == "read" else token
    monkeypatch.setenv("HF_TOKEN", given)
    done = push("tester/closed", status=2)
    assert "token" in done.err
    assert not given or given not in done.err + done.out
    assert history(hub, "tester/closed") == before


@pytest.mark.parametrize(
    ("method", "part", "answer"),
    [
        ("GET", "/api/models/", b"null"),
        ("GET", "/refs", b"{}"),
        ("GET", "/tree/", b'{"error": 7}'),
        ("POST", "/preupload/", b"[]"),
        ("POST", "/commit/", b"<html>"),
    ],
)
def test_an_answer_of_another_form_is_one_line(hub, push, method, part, answer) -> None:
    hub.add_model("tester/odd", {"README.md": b"# Mine\n"})
    hub.fault(method, part, answer=answer)
    done = push("tester/odd", status=2)
    assert "Received: an answer of another form" in done.err
    assert done.err.count("\n") == 1
    hub.clear_faults()
    push("tester/odd", "--dry-run")


def test_a_tag_that_only_a_proxy_said_was_made_is_missed(hub, push) -> None:
    hub.add_model("tester/untagged", {"README.md": b"# Mine\n"})
    hub.fault("POST", "/tag/", answer=b"null", times=1)
    done = push("tester/untagged", "--tag", "v1.0.0", status=2)
    assert "v1.0.0 is not among the tags" in done.err
    assert "Tagged v1.0.0." in push("tester/untagged", "--tag", "v1.0.0").out


def test_what_stops_the_verification_is_said_for_what_it_is(hub, push) -> None:
    denied = hub.fault("GET", "/resolve/", status=403)
    done = push("tester/denied", "--tag", "v1.0.0", status=2)
    assert denied.met
    assert "The token has no read access" in done.err
    hub.clear_faults()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**10, before[1]))  # as on a full disk
    done = push("tester/denied", "--tag", "v1.0.0", status=2)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "hf-ela: File too large: " in done.err
    assert "v1.0.0" in push("tester/denied", "--tag", "v1.0.0").out


def test_a_tag_that_arrived_is_found_after_the_card_was_edited(hub, push) -> None:
    repository = hub.add_model("tester/edited", {"README.md": b"# Mine\n"})
    hub.fault("POST", "/tag/", drop="after", times=1)
    push("tester/edited", "--tag", "v1.0.0", status=2)
    repository.commit({"README.md": b"# Mine, edited on the website\n"})
    head = repository.find("main").sha
    done = push("tester/edited", "--tag", "v1.0.0", "--space", "tester/edited-demo")
    assert "already up to date" in done.out
    assert repository.find("main").sha == head
    shown = files(hub, "tester/edited-demo", kind="spaces")["model.json"]
    assert json.loads(shown)["revision"] == repository.find("v1.0.0").sha


def test_repositories_of_others_are_not_overwritten(hub, push) -> None:
    hub.add_space("tester/game", {"app.py": b"print()", "README.md": b"# A game\n"})
    assert "model.json" in push("tester/unsent", "--space", "tester/game", status=2).err
    assert ("models", "tester/unsent") not in hub.repositories
    hub.add_model("tester/bert", {"README.md": b"# Bert\n", "config.json": b"{}"})
    before = history(hub, "tester/bert")
    assert "config.json" in push("tester/bert", status=2).err
    assert history(hub, "tester/bert") == before


def test_the_head_of_a_repository_cannot_steer_the_terminal(hub, push) -> None:
    hub.add_model("tester/escape", {"README.md": b"# \x1b[2JMine\n", "plots/roc\x1b.png": b""})
    done = push("tester/escape", "--dry-run")
    assert "Mine" in done.out
    assert "\x1b" not in done.out + done.err


def test_killed_while_it_uploads_the_same_command_finishes(hub, push, tiny_run) -> None:
    before = {"README.md": b"# Mine\n"}
    hub.add_model("tester/killed", before)
    hub.fault("PUT", "/lfs", times=1, slow=60)
    words = [*COMMAND, "push", str(tiny_run), "tester/killed", "--tag", "v1.0.0"]
    with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: any(line.startswith("PUT ") for line in hub.started), process)
        process.kill()
    hub.clear_faults()
    assert files(hub, "tester/killed") == before
    push("tester/killed", "--tag", "v1.0.0")
    assert len(history(hub, "tester/killed")) == 2
    assert "refs/tags/v1.0.0" in hub.repositories["models", "tester/killed"].refs


# --- Spaces ------------------------------------------------------------------------------------


def test_spaces_go_along_and_show_that_very_commit(hub, push) -> None:
    options = ("--widget", "tester/page", "--space", "tester/demo")
    plan = push("tester/run", *options, "--dry-run")
    assert "spaces/tester/page: a new repository" in plan.out
    assert "spaces/tester/demo: a new repository" in plan.out
    assert not hub.repositories
    push("tester/run", *options)
    page, demo = (hub.repositories["spaces", f"tester/{name}"] for name in ("page", "demo"))
    assert (page.sdk, demo.sdk) == ("static", "gradio")
    commit = hub.repositories["models", "tester/run"].find("main").sha
    sent = demo.find("main").files
    assert {"app.py", "requirements.txt", "README.md"} < set(sent)
    shown = json.loads(sent["model.json"])
    assert (shown["repo"], shown["revision"]) == ("tester/run", commit)
    static = page.find("main").files
    assert json.loads(static["widget.json"])["revision"] == commit
    assert f"https://cdn.jsdelivr.net {hub.endpoint};" in static["index.html"].decode()

    # Again, with text and settings that a person wrote; nothing else is new.
    card = sent["README.md"].replace(b"app_file:", b"pinned: true\napp_file:") + b"\nThanks!\n"
    demo.commit({"README.md": card})
    page.commit({"README.md": static["README.md"] + b"\nThanks!\n"})
    before = [demo.find("main").sha, page.find("main").sha]
    push("tester/run", *options, "--message", "Again")
    assert [demo.find("main").sha, page.find("main").sha] == before
    # The two kinds of Spaces leave each other alone.
    for swapped, mark in (("--widget", "widget.json"), ("--space", "model.json")):
        name = "tester/demo" if swapped == "--widget" else "tester/page"
        assert f"it has no {mark}" in push("tester/run", swapped, name, status=2).err
    assert [demo.find("main").sha, page.find("main").sha] == before


def test_a_collection_takes_the_model_and_its_spaces_once(hub, push) -> None:
    words = ("--collection", "Art or not", "--space", "tester/demo")
    assert "Collection: Art or not" in push("tester/run", *words, "--dry-run").out
    assert not hub.collections
    out = push("tester/run", *words).out
    ((slug, collection),) = hub.collections.items()
    assert f"In the collection {hub.endpoint}/collections/{slug}." in out
    assert collection["title"] == "Art or not"
    for name in ("Art or not", f"{hub.endpoint}/collections/{slug}"):  # again
        push("tester/run", "--collection", name)
    items = [(item["type"], item["id"]) for item in collection["items"]]
    assert items == [("model", "tester/run"), ("space", "tester/demo")]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tester/art", []),
        (f"art-{'0' * 24}", []),
        (f"https://hf.co/collections/tester/art-{'0' * 24}", ["--dry-run"]),
    ],
)
def test_a_mistyped_collection_is_not_made(hub, push, name, options) -> None:
    error = push("tester/run", "--collection", name, *options, status=2).err
    assert f"no collection '{name}'" in error
    assert "Correct --collection" in error
    assert not hub.collections
    assert not hub.repositories


def test_a_collection_of_others_is_not_changed(hub, push) -> None:
    slug = f"somebody/art-{'0' * 24}"
    hub.collections[slug] = {
        "slug": slug, "title": "Art", "owner": {"name": "somebody"}, "items": [], "position": 0,
        "private": False, "theme": "green", "upvotes": 0, "lastUpdated": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip
    error = push("tester/run", "--collection", slug, status=2).err
    assert "correct --collection and repeat the command" in error


def test_a_hostile_card_of_a_space_is_refused(hub, push) -> None:
    files = {"model.json": b"{}", "README.md": b"---\nx: &a [1]\ny: *a\n---\n# Mine\n"}
    hub.add_space("tester/demo", files)
    assert "an alias" in push("tester/run", "--space", "tester/demo", status=2).err


def test_a_widget_needs_its_model_in_public_and_as_onnx(hub, push, other) -> None:
    hub.add_model("tester/hidden", {"README.md": b"# Mine\n"}, private=True)
    for model, *options in (("tester/hidden",), ("tester/plain", "--private")):
        done = push(model, "--widget", "tester/unseen", *options, status=2)
        assert "loads its model without a token" in done.err
    settings = json.loads((other / "weights" / "hf_ela.json").read_text())
    settings["sha256"] = {"model.weights.h5": settings["sha256"]["model.weights.h5"]}
    write(other / "weights" / "hf_ela.json", json.dumps(settings))
    for name in ("model.onnx", "network.onnx"):
        (other / "weights" / name).unlink()
    done = push("tester/plain", "--widget", "tester/unseen", run=other, status=2)
    assert "A widget needs model.onnx" in done.err
    assert {*hub.repositories} == {("models", "tester/hidden")}


# --- A model alone -----------------------------------------------------------------------------


def test_a_classifier_pushes_itself(hub, tiny_run, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.add_model("tester/alone", {"README.md": b"# Mine\n", "plots/a.png": b"mine"})
    classifier = ElaClassifier.from_pretrained(tiny_run)
    options = {"tag": "v0.1.0", "message": "By itself", "onnx": False}
    commit = classifier.push_to_hub("tester/alone", **options)
    head = hub.repositories["models", "tester/alone"].find("v0.1.0")
    assert (head.sha, head.title) == (commit, "By itself")
    assert {"README.md", "plots/a.png", "model.weights.h5", "handler.py"} <= set(head.files)
    assert "run.json" not in head.files
    again = ElaClassifier.from_pretrained("tester/alone", revision="v0.1.0")
    assert again.revision == commit
    images = [tiny_run / "samples" / FAKE]
    assert list(again.scores(images)) == pytest.approx(list(classifier.scores(images)), abs=1e-4)

    # It is not put under the card of another.
    card = {"README.md": b"# Mine\n", "run.json": b"{}", "model.weights.h5": b"other"}
    before = hub.add_model("tester/carded", {**card, "hf_ela.json": b"{}"}).find("main").sha
    with pytest.raises(ReleaseError, match="describe other weights"):
        classifier.push_to_hub("tester/carded", onnx=False)
    assert history(hub, "tester/carded") == [before]


def run_live(environment: Mapping[str, str], *words: object) -> str:
    done = subprocess.run(
        [*map(str, words)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.network
def test_the_live_hub_takes_and_gives_back_a_release(tiny_run, tmp_path) -> None:
    """For a person with a token (HF_TOKEN, may write): a private repository, deleted in the end."""
    api = HfApi(endpoint="https://huggingface.co", token=LIVE["HF_TOKEN"])
    repo = f"{api.whoami()['name']}/hf-ela-test-{int(time.time())}"
    live = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    live |= {"HF_HOME": str(tmp_path), "HF_TOKEN": LIVE["HF_TOKEN"]}
    words = [*COMMAND, "push", tiny_run, repo, "--private", "--tag", "v1.0.0"]
    try:
        run_live(live, *words)
        assert "already up to date" in run_live(live, *words)
        code = f"""
import json
from hf_ela import ElaClassifier
classifier = ElaClassifier.from_pretrained("{repo}", revision="v1.0.0")
run = json.load(open("{tiny_run}/run.json"))
pictures = ["{tiny_run}/samples/" + sample["file"] for sample in run["samples"]]
assert list(classifier.scores(pictures)) == [sample["score"] for sample in run["samples"]]
"""
        run_live(live, sys.executable, "-c", code)
    finally:
        api.delete_repo(repo, missing_ok=True)
