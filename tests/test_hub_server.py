"""The Hub over loopback (hub_server), used through the real client of huggingface_hub.

The client reads its environment when it is imported, so it runs in a process of its own: the
fixture `client` sends code to it, and gets back what the code assigns to `result`.
"""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub_server import LocalHub, Repository

CLIENT = """
import json, sys, warnings
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import get_session

warnings.simplefilter("ignore")

def add(files):
    return [CommitOperationAdd(path, data.encode()) for path, data in files.items()]

for line in sys.stdin:
    code, token, variables = json.loads(line)
    scope = {**globals(), "api": HfApi(token=token), "result": None, **variables}
    try:
        exec(code, scope)
        answer = {"result": scope["result"]}
    except Exception as error:
        response = getattr(error, "response", None)
        status = None if response is None else response.status_code
        answer = {"error": type(error).__name__, "status": status, "message": str(error)}
    print(json.dumps(answer), flush=True)
"""
COMMIT = "result = api.create_commit(repo, add(files), commit_message='Add', **options).oid"

Client = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalHub]:
    with LocalHub() as server:
        yield server


@pytest.fixture
def hub(server: LocalHub) -> LocalHub:
    server.reset()
    return server


@pytest.fixture(scope="module")
def process(
    server: LocalHub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=server.environment(tmp_path_factory.mktemp("home")),
    ) as process:
        yield process


@pytest.fixture
def client(hub: LocalHub, process: subprocess.Popen[str]) -> Client:
    def run(
        code: str,
        *,
        token: str | bool = hub.token,
        repo: str = "tester/art",
        options: dict[str, Any] | None = None,
        **variables: Any,
    ) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        scope = {"repo": repo, "options": options or {}, **variables}
        print(json.dumps([code, token, scope]), file=process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    return run


@pytest.fixture
def art(hub: LocalHub) -> Repository:
    return hub.add_model("tester/art", {"README.md": b"# Art", "old/a.txt": b"a"})


def sent(hub: LocalHub, start: str) -> int:
    """How many requests began so."""
    return sum(line.startswith(start) for line in hub.requests)


# --- Repositories --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_repository_is_created_seen_changed_and_deleted(
    hub: LocalHub, client: Client, kind: str
) -> None:
    options = {"repo_type": kind}
    create = "result = api.create_repo(repo, private=True, space_sdk=sdk, **options)"
    sdk = "gradio" if kind == "space" else None
    url = client(create, sdk=sdk, options=options)["result"]
    assert url == f"{hub.endpoint}/{'' if kind == 'model' else kind + 's/'}tester/art"
    again = client(create, sdk=sdk, options=options)
    assert (again["error"], again["status"]) == ("HfHubHTTPError", 409)
    assert client(create, sdk=sdk, options={**options, "exist_ok": True})["result"] == url

    repository = hub.repositories[f"{kind}s", "tester/art"]
    assert [commit.title for commit in repository.history()] == ["initial commit"]
    assert repository.private
    code = "api.update_repo_settings(repo, visibility='public', **options)"
    client(code + "; result = api.repo_info(repo, **options).private", options=options)
    assert not repository.private
    client("api.delete_repo(repo, **options)", options=options)
    assert not hub.repositories


def test_info_tells_what_the_card_says(hub: LocalHub, client: Client) -> None:
    card = "---\nlicense: mit\nlibrary_name: keras\ntags: [art]\n---\n# Art"
    hub.add_model("tester/art", {"README.md": card.encode(), "big.h5": b"weights"})
    code = """
info = api.model_info(repo, files_metadata=True)
large = {file.rfilename: file.lfs and [file.lfs.size, file.blob_id] for file in info.siblings}
result = [info.card_data.license, info.library_name, sorted(info.tags), large]
"""
    tags = ["art", "keras", "license:mit"]
    # What git calls the three lines that stand for the file.
    pointer = "c6a67be4f3ef29ed4a07b4f2446625126a25cfda"
    large = {"README.md": None, "big.h5": [7, pointer]}
    assert client(code)["result"] == ["mit", "keras", tags, large]


@pytest.mark.parametrize("given", ["none", "read", "unknown"])
def test_who_may_not_write_leaves_everything_as_it_was(
    hub: LocalHub, client: Client, art: Repository, given: str
) -> None:
    token = {"none": False, "read": hub.read_token, "unknown": "hf_unknown"}[given]
    status = 403 if given == "read" else 401
    calls = [
        "api.create_repo('tester/new')",
        "api.create_tag(repo, tag='v1')",
        "api.delete_repo(repo)",
        COMMIT,
    ]
    refused = [client(code, token=token, files={"a.txt": "b"}) for code in calls]
    assert [answer["status"] for answer in refused] == [status] * 4
    assert list(hub.repositories) == [("models", "tester/art")]
    assert len(art.history()) == 1


def test_another_s_repository_takes_pull_requests_only(hub: LocalHub, client: Client) -> None:
    repository = hub.add_model("somebody/art", {"README.md": b"# Art"})
    assert client(COMMIT, repo=repository.id, files={"a.txt": "a"})["status"] == 403
    options = {"create_pr": True}
    client(COMMIT, repo=repository.id, files={"a.txt": "a"}, options=options)
    assert list(repository.find("refs/pr/1").files) == ["README.md", "a.txt"]
    assert list(repository.find("main").files) == ["README.md"]


def test_a_private_repository_looks_missing_to_strangers(hub: LocalHub, client: Client) -> None:
    hub.add_model("tester/art", {"README.md": b"# Art"}, private=True)
    code = "result = api.model_info(repo).private"
    seen, missing = (client(code, token=False, repo=repo) for repo in ("tester/art", "tester/no"))
    assert seen["error"] == missing["error"] == "RepositoryNotFoundError"
    assert seen["status"] == missing["status"] == 401
    assert client(code, repo="tester/no")["status"] == 404
    assert client(code, token=hub.read_token)["result"] is True


# --- Commits -------------------------------------------------------------------------------------


def test_a_commit_of_small_and_large_files_comes_back_the_same(
    hub: LocalHub, client: Client, art: Repository, tmp_path: Path
) -> None:
    files = {"a.txt": "small", "empty.h5": "", "weights.h5": "large", "log.txt": "x" * 11 * 2**20}
    oid = client(COMMIT, files=files)["result"]
    assert art.find("main").sha == oid
    assert len(art.history()) == 2
    assert sorted(map(len, art.objects.values())) == [5, 11 * 2**20]
    assert sent(hub, "PUT ") == sent(hub, "POST /tester/art.git/info/lfs/objects/verify") == 2
    assert hub.received > 11 * 2**20

    code = """
folder = api.snapshot_download(repo, cache_dir=cache)
checked = api.verify_repo_checksums(repo, cache_dir=cache)
result = [folder, checked.checked_count, len(checked.mismatches)]
"""
    folder, checked, mismatches = client(code, cache=str(tmp_path))["result"]
    assert (checked, mismatches) == (6, 0)
    assert {path: (Path(folder) / path).read_text() for path in files} == files


def test_what_has_not_changed_is_not_committed(
    hub: LocalHub, client: Client, art: Repository
) -> None:
    files = {"a.txt": "small", "weights.h5": "large"}
    first = client(COMMIT, files=files)["result"]
    assert client(COMMIT, files=files)["result"] == first
    client(COMMIT, files={**files, "a.txt": "other"})
    assert sent(hub, "POST /api/models/tester/art/commit/main 200") == 2
    assert sent(hub, "PUT ") == 1


def test_large_files_stay_when_their_commit_fails(
    hub: LocalHub, client: Client, art: Repository
) -> None:
    hub.fault("POST", "/commit/", status=500, times=1)
    assert client(COMMIT, files={"weights.h5": "large"})["status"] == 500
    assert len(art.history()) == 1
    client(COMMIT, files={"weights.h5": "large"})
    assert art.find("main").files["weights.h5"] == b"large"
    assert sent(hub, "PUT ") == 1


def test_a_commit_of_a_large_file_that_never_came_is_refused(
    hub: LocalHub, client: Client, art: Repository
) -> None:
    hub.before("POST", "/commit/", art.objects.clear)
    refused = client(COMMIT, files={"weights.h5": "large"})
    assert (refused["error"], refused["status"]) == ("BadRequestError", 400)
    assert "weights.h5" in refused["message"]
    assert len(art.history()) == 1


def test_a_large_file_must_be_announced_and_whole(
    hub: LocalHub, client: Client, art: Repository
) -> None:
    code = "result = get_session().put(api.endpoint + path, content=b'large').status_code"
    path = f"/lfs/tester/art/{'0' * 64}"
    assert client(code, path=path)["result"] == 403
    hub.announced[path] = art
    assert client(code, path=path)["result"] == 400
    assert not art.objects


def test_a_head_that_moves_between_reading_and_commit(
    hub: LocalHub, client: Client, art: Repository
) -> None:
    hub.before("POST", "/commit/", lambda: art.commit({"b.txt": b"b"}), times=1)
    options = {"parent_commit": art.find("main").sha}
    refused = client(COMMIT, files={"a.txt": "a"}, options=options)
    assert refused["status"] == 412
    assert "A commit has happened since" in refused["message"]
    assert [commit.title for commit in art.history()] == ["Upload files"] * 2
    options = {"parent_commit": art.find("main").sha[:7]}
    assert client(COMMIT, files={"a.txt": "a"}, options=options)["result"]


def test_files_and_folders_are_deleted(client: Client, art: Repository) -> None:
    code = "api.create_commit(repo, [CommitOperationDelete(path)], commit_message='Delete')"
    assert client(code, path="none.txt")["error"] in (
        "EntryNotFoundError",
        "RemoteEntryNotFoundError",
    )
    client(code, path="README.md")
    assert list(art.find("main").files) == ["old/a.txt"]
    client(code, path="old/")
    assert not art.find("main").files


@pytest.mark.parametrize(
    ("path", "content", "rule"),
    [
        ("../a.txt", "a", "Invalid path"),
        ("a//b", "a", "Invalid path"),
        (".git/config", "a", "Invalid path"),
        ("README.md", "---\nlicense: none\n---\n", '"license" must be one of'),
        ("weights.h5", "large", "by LFS"),
    ],
)
def test_a_commit_that_no_client_sends_is_refused(
    client: Client, art: Repository, path: str, content: str, rule: str
) -> None:
    code = """
header = {"key": "header", "value": {"summary": "Add"}}
file = {"key": "file", "value": {"path": path, "content": content, "encoding": "base64"}}
answer = get_session().post(
    f"{api.endpoint}/api/models/{repo}/commit/main",
    content="\\n".join(map(json.dumps, [header, file])),
    headers={"Authorization": f"Bearer {api.token}"},
)
result = [answer.status_code, answer.text]
"""
    encoded = base64.b64encode(content.encode()).decode()
    status, message = client(code, path=path, content=encoded)["result"]
    assert status == 400
    assert rule in json.loads(message)["error"]
    assert len(art.history()) == 1


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ("license: apache", '"license" must be one of [apache-2.0'),
        ("license: [mit", "Invalid YAML"),
        ("language: Inglés", '"language" with value "Inglés" is not valid'),
        ("datasets: [a b]", '"datasets[0]" with value "a b" is not valid'),
        ("tags: art", '"tags" must be an array'),
        ("metrics: [1]", '"metrics[0]" must be a string'),
        ("co2_eq_emissions: {source: meter}", '"co2_eq_emissions.emissions" must be a number'),
        ("model-index: [{results: []}]", '"model-index[0].name" is required'),
        (
            "model-index: [{name: a, results: [{task: {type: t}, metrics: []}]}]",
            '"model-index[0].results[0].dataset.name" is required',
        ),
        (
            "model-index: [{name: a, results: [{task: {type: t}, dataset: {name: d, type: d},"
            " metrics: [{type: accuracy}]}]}]",
            '"model-index[0].results[0].metrics[0].value" is required',
        ),
    ],
)
def test_a_card_with_wrong_metadata_is_refused(
    hub: LocalHub, client: Client, art: Repository, metadata: str, rule: str
) -> None:
    card = f"---\n{metadata}\n---\n# Art"
    refused = client(COMMIT, files={"README.md": card})
    assert refused["error"] == "ValueError"
    assert rule in refused["message"]
    assert len(art.history()) == 1


def test_a_card_of_a_space_is_checked_as_such(hub: LocalHub, client: Client) -> None:
    hub.add_space("tester/art", {"README.md": b"# Art"})
    card = f"---\ncolorFrom: mauve\nshort_description: {'a' * 61}\n---\n"
    refused = client(COMMIT, files={"README.md": card}, options={"repo_type": "space"})
    assert '"colorFrom" must be one of [red' in refused["message"]
    assert "less than or equal to 60" in refused["message"]


# --- Refs ----------------------------------------------------------------------------------------


def test_a_pull_request_is_opened_read_and_merged(client: Client, art: Repository) -> None:
    before = art.find("main").sha
    code = """
made = api.create_commit(
    repo, [*add({"b.txt": "b"}), CommitOperationDelete("old/a.txt")],
    commit_message="Better", create_pr=True, parent_commit=parent,
)
[found] = api.get_repo_discussions(repo)
result = [
    made.pr_num,
    found.title,
    found.is_pull_request,
    api.list_repo_files(repo, revision=made.pr_revision),
    [ref.ref for ref in api.list_repo_refs(repo, include_pull_requests=True).pull_requests],
]
"""
    art.commit({"meanwhile.txt": b"m"})  # a pull request has its own base
    result = client(code, parent=before)["result"]
    assert result == [1, "Better", True, ["README.md", "b.txt"], ["refs/pr/1"]]
    client(COMMIT, files={"c.txt": "c"}, options={"revision": "refs/pr/1"})
    assert list(art.find("main").files) == ["README.md", "meanwhile.txt", "old/a.txt"]
    client("api.merge_pull_request(repo, 1)")
    assert list(art.find("main").files) == ["README.md", "b.txt", "c.txt", "meanwhile.txt"]
    assert len(art.history()) == 3
    code = "made = api.create_pull_request(repo, 'Empty'); result = [made.status, made.num]"
    assert client(code)["result"] == ["draft", 2]


def test_a_branch_is_made_once_and_takes_commits(client: Client, art: Repository) -> None:
    missing = client(COMMIT, files={"b.txt": "b"}, options={"revision": "next"})
    assert missing["error"] == "RevisionNotFoundError"
    create = "api.create_branch(repo, branch='next')"
    assert "error" not in client(create)
    assert client(create)["status"] == 409
    client(COMMIT, files={"b.txt": "b"}, options={"revision": "next"})
    assert (len(art.history("next")), len(art.history("main"))) == (2, 1)
    code = "result = [c.title for c in api.list_repo_commits(repo, revision='next')]"
    assert client(code)["result"] == ["Add", "Upload files"]
    client("api.delete_branch(repo, branch='next')")
    assert list(art.refs) == ["refs/heads/main"]
    assert client("api.delete_branch(repo, branch='main')")["status"] == 403
    assert client("api.create_branch(repo, branch='refs/pr/9')")["status"] == 400


def test_a_tag_is_made_once(client: Client, art: Repository) -> None:
    first = art.find("main").sha
    create = "api.create_tag(repo, tag='v1', revision=revision)"
    assert "error" not in client(create, revision=first[:7])
    art.commit({"b.txt": b"b"})
    assert client(create, revision="main")["status"] == 409
    assert art.find("v1").sha == first
    assert client(create, revision="none")["error"] == "RevisionNotFoundError"
    code = "result = [[tag.name, tag.target_commit] for tag in api.list_repo_refs(repo).tags]"
    assert client(code)["result"] == [["v1", first]]
    assert "error" not in client("api.delete_tag(repo, tag='v1')")
    assert client("api.delete_tag(repo, tag='v1')")["error"] == "RevisionNotFoundError"


# --- Faults --------------------------------------------------------------------------------------


def test_a_fault_lasts_as_long_as_it_is_ordered(
    hub: LocalHub, client: Client, art: Repository
) -> None:
    code = "result = api.model_info(repo).sha"
    fault = hub.fault("GET", "/api/models/tester/art", status=503, times=2)
    assert [client(code).get("status") for _ in range(3)] == [503, 503, None]
    hub.fault("*", "tester/art", status=401)
    assert [client(code).get("status") for _ in range(3)] == [401, 401, 401]
    hub.clear_faults()
    assert client(code)["result"] == art.find("main").sha
    assert fault.met == 2
    assert hub.requests[:3] == [f"GET /api/models/tester/art {n}" for n in (503, 503, 200)]


def test_a_limited_client_waits_and_succeeds(
    hub: LocalHub, client: Client, art: Repository
) -> None:
    hub.fault("POST", "/preupload/", status=429, retry_after=0, times=1)
    assert client(COMMIT, files={"b.txt": "b"})["result"] == art.find("main").sha
    assert sent(hub, "POST /api/models/tester/art/preupload/main") == 2


@pytest.mark.parametrize(
    ("drop", "commits", "seen"),
    [
        ("before", 1, "without sending a response"),
        ("half", 2, "without sending complete message body"),
        ("after", 2, "without sending a response"),
    ],
)
def test_a_dropped_commit_is_applied_or_not(
    hub: LocalHub, client: Client, art: Repository, drop: Any, commits: int, seen: str
) -> None:
    hub.fault("POST", "/commit/", drop=drop)
    failed = client(COMMIT, files={"b.txt": "b"})
    assert failed["error"] == "RemoteProtocolError"
    assert seen in failed["message"]
    assert len(art.history()) == commits
    assert hub.requests[-1] == "POST /api/models/tester/art/commit/main dropped"


def test_a_download_that_is_cut_goes_on_where_it_stopped(
    hub: LocalHub, client: Client, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 2**12 * 24  # the client writes what it gets in pieces of 10 MiB
    hub.add_model("tester/art", {"weights.h5": data})
    hub.fault("GET", "/resolve/", drop="half", times=1)
    code = "result = api.hf_hub_download(repo, 'weights.h5', cache_dir=cache)"
    path = client(code, cache=str(tmp_path))["result"]
    assert Path(path).read_bytes() == data
    ends = [line.rpartition(" ")[2] for line in hub.requests if line.startswith("GET /tester")]
    assert ends == ["dropped", "206"]


@pytest.mark.parametrize(
    ("span", "status", "body"),
    [("bytes=2-3", 206, "cd"), ("bytes=4-", 206, "ef"), ("bytes=6-", 416, ""), ("", 200, "abcdef")],
)
def test_ranges(hub: LocalHub, client: Client, span: str, status: int, body: str) -> None:
    hub.add_model("tester/art", {"a.txt": b"abcdef"})
    code = """
url = f"{api.endpoint}/{repo}/resolve/main/a.txt"
answer = get_session().get(url, headers={"Range": span} if span else {})
result = [answer.status_code, answer.text]
"""
    assert client(code, span=span)["result"] == [status, body]


def test_a_slow_answer_comes_after_the_work(hub: LocalHub, client: Client, art: Repository) -> None:
    hub.fault("POST", "/tag/", slow=2)
    code = """
headers = {"Authorization": f"Bearer {api.token}"}
url = f"{api.endpoint}/api/models/{repo}/tag/main"
get_session().post(url, json={"tag": "v1"}, headers=headers, timeout=0.2)
"""
    assert client(code)["error"] == "ReadTimeout"
    assert "refs/tags/v1" in art.refs
    assert hub.started[-1] == "POST /api/models/tester/art/tag/main"
    assert hub.requests == []
    for _ in range(100):
        time.sleep(0.1)
        if hub.requests:
            break
    assert hub.requests == ["POST /api/models/tester/art/tag/main 200"]
