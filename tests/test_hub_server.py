"""The contract between the Hub over loopback (hub_server) and the real client."""

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from hf_ela.hub.client import CLIENT_ERRORS
from hub_server import Repository

REPO = "tester/art"


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(token=hub.token)


@pytest.fixture
def art(hub) -> Repository:
    return hub.add_model(REPO, {"README.md": b"# Art", "old/a.txt": b"a"})


def commit(api: HfApi, files: dict[str, str], repo: str = REPO, **options: object) -> str:
    operations = [CommitOperationAdd(path, data.encode()) for path, data in files.items()]
    return api.create_commit(repo, operations, commit_message="Add", **options).oid


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_repository_is_created_once_and_seen(hub, api, kind) -> None:
    sdk = "gradio" if kind == "space" else None
    options = {"repo_type": kind, "private": True, "space_sdk": sdk}
    url = api.create_repo(REPO, **options)
    assert url == f"{hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{REPO}"
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo(REPO, **options)
    assert api.create_repo(REPO, **options, exist_ok=True) == url
    repository = hub.repositories[f"{kind}s", REPO]
    assert [one.title for one in repository.history()] == ["initial commit"]
    assert api.repo_info(REPO, repo_type=kind).private
    with pytest.raises(RepositoryNotFoundError):  # so it looks to strangers
        HfApi(token=False).repo_info(REPO, repo_type=kind)


def test_a_commit_of_small_and_large_files_comes_back_the_same(hub, api, art, tmp_path) -> None:
    files = {"a.txt": "small", "empty.h5": "", "weights.h5": "large", "log.txt": "x" * 11 * 2**20}
    oid = commit(api, files)
    assert art.find("main").sha == oid
    assert len(art.history()) == 2
    assert sorted(map(len, art.objects.values())) == [5, 11 * 2**20]
    assert sum(line.startswith("PUT ") for line in hub.requests) == 2
    assert commit(api, files) == oid  # unchanged files are not committed again
    assert sum(line.startswith("PUT ") for line in hub.requests) == 2

    folder = api.snapshot_download(REPO, cache_dir=tmp_path)
    checked = api.verify_repo_checksums(REPO, cache_dir=tmp_path)
    assert (checked.checked_count, len(checked.mismatches)) == (6, 0)
    assert {path: (Path(folder) / path).read_text() for path in files} == files
    operations = [CommitOperationDelete("old/"), CommitOperationDelete("a.txt")]
    api.create_commit(REPO, operations, commit_message="Delete")
    assert {*art.find("main").files} == {"README.md", "empty.h5", "weights.h5", "log.txt"}


@pytest.mark.parametrize(("given", "status"), [("", 401), ("hf_unknown", 401), ("read", 403)])
def test_who_may_not_write_leaves_everything_as_it_was(hub, art, given, status) -> None:
    api = HfApi(token={"": False, "read": hub.read_token}.get(given, given))
    for call in (
        lambda: api.create_repo("tester/new"),
        lambda: api.create_tag(REPO, tag="v1"),
        lambda: commit(api, {"a.txt": "b"}),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert caught.value.response.status_code == status
    assert list(hub.repositories) == [("models", REPO)]
    assert len(art.history()) == 1


def test_heads_branches_tags_and_pull_requests(api, art) -> None:
    first = art.find("main").sha
    api.create_branch(REPO, branch="next")
    assert commit(api, {"b.txt": "b"}, revision="next") == art.find("next").sha
    assert art.find("main").sha == first
    api.create_tag(REPO, tag="v1", revision=first)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag(REPO, tag="v1", revision="next")
    assert caught.value.response.status_code == 409
    proposed = commit(api, {"c.txt": "c"}, create_pr=True)
    assert art.find("refs/pr/1").sha == proposed
    (discussion,) = api.get_repo_discussions(REPO)
    assert discussion.is_pull_request
    commit(api, {"d.txt": "d"}, parent_commit=first)
    with pytest.raises(HfHubHTTPError) as caught:  # the head has moved
        commit(api, {"e.txt": "e"}, parent_commit=first)
    assert caught.value.response.status_code == 412


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("license: my-own", '"license" must be one of'),
        ("language: english please", "ISO 639"),
        ("tags: [1]", '"tags[0]" must be a string'),
        ("model-index: [{name: a}]", '"model-index[0].results" is required'),
    ],
)
def test_a_card_with_wrong_metadata_is_refused(api, art, yaml, message) -> None:
    with pytest.raises(ValueError, match="Invalid metadata in README") as caught:
        commit(api, {"README.md": f"---\n{yaml}\n---\n# Art"})
    assert message in str(caught.value)
    assert len(art.history()) == 1


def test_faults_are_met_as_ordered(hub, api, art) -> None:
    fault = hub.fault("GET", "/api/models/", status=503, retry_after=0, times=1)
    with pytest.raises(HfHubHTTPError):
        api.model_info(REPO)
    assert api.model_info(REPO).sha == art.find("main").sha
    assert fault.met == 1
    hub.fault("POST", "/commit/", drop="after", times=1)
    with pytest.raises(CLIENT_ERRORS):
        commit(api, {"a.txt": "a"})
    assert len(art.history()) == 2  # it was made, and its answer was lost
