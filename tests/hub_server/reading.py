"""What the Hub tells: identity, repositories, trees, files."""

import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from hub_server.cards import metadata
from hub_server.http import REPOSITORY, SITE, HubError, Request, Response, as_json, route
from hub_server.repository import Commit, Repository, blob_id


@route("GET", REPOSITORY)
@route("GET", REPOSITORY + "/revision/{revision}")
def info(request: Request) -> Response:
    repository, commit = request.repository, request.commit
    card = metadata(commit.files.get("README.md", b"").decode()) or {}
    answer = {
        "_id": blob_id(repository.id.encode())[:24],
        "id": repository.id,
        "author": repository.id.partition("/")[0],
        "sha": commit.sha,
        "createdAt": iso(list(commit.history())[-1].date),
        "lastModified": iso(commit.date),
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "cardData": card,
        "tags": card.get("tags") or [],
        "siblings": [
            {
                "rfilename": path,
                **(repository.describe(path, data) if request.flag("blobs") else {}),
            }
            for path, data in commit.files.items()
        ],
    }
    for key in ("library_name", "pipeline_tag", "model-index"):
        if repository.kind == "models" and key in card:
            answer[key] = card[key]
    if repository.sdk:
        answer["sdk"] = repository.sdk
    return as_json(answer)


@route("GET", REPOSITORY + "/auth-check")
def auth_check(request: Request) -> Response:
    request.check_gate()
    return Response(b"")


@route("GET", REPOSITORY + "/refs")
def refs(request: Request) -> Response:
    repository = request.repository

    def named(prefix: str) -> list[dict[str, str]]:
        return [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha}
            for ref, sha in repository.refs.items()
            if ref.startswith(prefix)
        ]

    answer = {
        "branches": named("refs/heads/"),
        "tags": named("refs/tags/"),
        "converts": named("refs/convert/"),
    }
    if request.flag("include_prs"):
        answer["pullRequests"] = named("refs/pr/")
    return as_json(answer)


@route("GET", REPOSITORY + "/tree/{revision}")
@route("GET", REPOSITORY + "/tree/{revision}/{path}")
def tree(request: Request) -> Response:
    repository, commit, folder = request.repository, request.commit, request.parts.get("path", "")
    depth = folder.count("/") + 1 if folder else 0
    files = commit.below(folder)
    if not files and folder:
        raise HubError(404, "EntryNotFound", f"{folder} does not exist on this revision")
    paths = {
        "/".join(path.split("/")[:end])
        for path in files
        for end in range(depth + 1, path.count("/") + 2)
        if request.flag("recursive") or end == depth + 1
    }
    expand = request.flag("expand")
    return as_json([entry(repository, commit, path, expand) for path in sorted(paths)])


@route("POST", REPOSITORY + "/paths-info/{revision}")
def paths_info(request: Request) -> Response:
    if request.headers.get("Content-Type", "").startswith("application/json"):
        asked = json.loads(request.body)
    else:
        asked = parse_qs(request.body.decode())
        asked["expand"] = asked.get("expand", ["false"])[-1].lower() == "true"
    repository, commit = request.repository, request.commit
    known = [path for path in asked["paths"] if commit.below(path)]
    expand = bool(asked.get("expand"))
    return as_json([entry(repository, commit, path, expand) for path in known])


@route("GET", SITE + "/resolve/{revision}/{path}")
def resolve(request: Request) -> Response:
    request.check_gate()
    commit, path = request.commit, request.parts["path"]
    if path not in commit.files:
        # The clients take the commit from this header even when the file is missing.
        raise HubError(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": commit.sha})
    data = commit.files[path]
    described = request.repository.describe(path, data)
    # Pages of other sites may read what everybody may.
    headers = {"Access-Control-Allow-Origin": "*"}
    headers |= {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    headers["ETag"] = f'"{described["blobId"]}"'
    if "lfs" in described:
        headers["X-Linked-Etag"] = f'"{described["lfs"]["sha256"]}"'
        headers["X-Linked-Size"] = str(len(data))
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if span is None:
        return Response(data, headers=headers)
    first, last = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
    if first > last:
        return Response(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Response(data[first : last + 1], 206, headers)


@route("GET", REPOSITORY + "/discussions")
def discussions(request: Request) -> Response:
    repository = request.repository
    found = [] if request.query.get("p", "0") != "0" else repository.discussions
    shown = [
        {
            "num": number,
            "title": item.title,
            "author": {"name": item.author},
            "createdAt": iso(item.date),
            "status": item.status,
            "isPullRequest": item.base is not None,
            "repo": {"name": repository.id, "type": repository.kind.removesuffix("s")},
        }
        for number, item in enumerate(found, 1)
    ]
    return as_json({"count": len(shown), "start": 0, "discussions": shown})


def iso(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def summary(commit: Commit) -> dict[str, str]:
    return {"id": commit.sha, "title": commit.title, "date": iso(commit.date)}


def entry(repository: Repository, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    """A file or folder, in the spelling of `tree` and `paths-info`."""
    more: dict[str, Any] = {"lastCommit": summary(commit.last_change(path))} if expand else {}
    if path not in commit.files:
        oid = blob_id(repr(sorted(commit.below(path).items())).encode())
        return {"type": "directory", "path": path, "size": 0, "oid": oid, **more}
    described = repository.describe(path, commit.files[path])
    if "lfs" in described:
        more["lfs"] = {**described["lfs"], "oid": described["lfs"]["sha256"]}
    size, oid = described["size"], described["blobId"]
    return {"type": "file", "path": path, "size": size, "oid": oid, **more}
