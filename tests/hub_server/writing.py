"""What the Hub takes: repositories, large files, commits, refs, pull requests."""

import base64
import json
import re
from typing import Any

from hub_server import cards
from hub_server.http import REPOSITORY, SITE, HubError, Request, Response, as_json, route
from hub_server.repository import Repository, blob_id, sha256

NAME = re.compile(r"(?!.*(--|\.\.))[\w-][\w.-]{0,94}[\w-]|\w")
REF = re.compile(r"(?!refs/)(?!.*(\.\.|//|@\{|\.lock$))[^\s~^:?*\[\\/.-][^\s~^:?*\[\\]*")
ATTRIBUTES = b"*.h5 filter=lfs diff=lfs merge=lfs -text\n"
SPACE_CARD = "---\ntitle: {name}\nsdk: {sdk}\n---\n\nCheck out the configuration reference.\n"


@route("POST", "/api/repos/create")
def create(request: Request) -> Response:
    asked = request.json
    kind, owner, name = _owned(request, asked)
    repo_id = f"{owner}/{name}"
    if not NAME.fullmatch(name):
        raise HubError(400, "", f'Invalid repo name: "{name}"')
    url = f"{request.hub.endpoint}{'' if kind == 'models' else '/' + kind}/{repo_id}"
    if (kind, repo_id) in request.hub.repositories:
        error = f"You already created this {kind.removesuffix('s')} repo"
        return as_json({"error": error, "url": url}, 409)
    files: dict[str, bytes | None] = {".gitattributes": ATTRIBUTES}
    if kind == "spaces":
        if asked.get("sdk") not in cards.SDKS:
            raise HubError(400, "", f'"sdk" must be one of [{", ".join(cards.SDKS)}]')
        files["README.md"] = SPACE_CARD.format(name=name, sdk=asked["sdk"]).encode()
    request.hub.add(
        kind, repo_id, files, private=_private(asked), sdk=asked.get("sdk"), title="initial commit"
    )
    return as_json({"url": url, "name": repo_id, "id": blob_id(repo_id.encode())[:24]})


def _owned(request: Request, asked: dict[str, Any]) -> tuple[str, str, str]:
    """Kind, owner and name in a body; refuses who may not write there."""
    owner = asked.get("organization") or request.hub.user
    request.check_write(owner)
    return asked.get("type", "model") + "s", owner, asked["name"]


def _private(asked: dict[str, Any]) -> bool:
    """Clients since 1.0 send `visibility`, those before `private`."""
    return asked.get("visibility") == "private" or bool(asked.get("private"))


@route("POST", "/api/validate-yaml")
def validate_yaml(request: Request) -> Response:
    kind = request.json.get("repoType", "model") + "s"
    errors, warnings = cards.check(request.json["content"], kind)
    answer = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return as_json(answer, 400 if errors else 200)


# --- Commits -------------------------------------------------------------------------------------


@route("POST", REPOSITORY + "/preupload/{revision}")
def preupload(request: Request) -> Response:
    repository = request.written(propose=request.flag("create_pr"))
    files = request.commit.files

    def oid(path: str) -> str | None:
        """What the client compares with the file that it has."""
        if path not in files:
            return None
        large = repository.is_large(path, len(files[path]))
        return (sha256 if large else blob_id)(files[path])

    answers = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if repository.is_large(file["path"], file["size"]) else "regular",
            "shouldIgnore": False,
            "oid": oid(file["path"]),
        }
        for file in request.json["files"]
    ]
    return as_json({"files": answers, "commitOid": request.commit.sha})


@route("POST", SITE + ".git/info/lfs/objects/batch")
def lfs_batch(request: Request) -> Response:
    repository, endpoint = request.written(propose=True), request.hub.endpoint

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in repository.objects:
            return asked
        path = f"/lfs{repository.url}/{asked['oid']}"
        request.hub.announced[path] = repository
        verify = f"{endpoint}{repository.url}.git/info/lfs/objects/verify"
        return {
            **asked,
            "actions": {"upload": {"href": endpoint + path}, "verify": {"href": verify}},
        }

    objects = [answer(asked) for asked in request.json["objects"]]
    return as_json({"transfer": "basic", "objects": objects})


@route("PUT", "/lfs/{path}")
def lfs_upload(request: Request) -> Response:
    """Take a large file: whoever knows the address may send it, but only what was announced."""
    repository = request.hub.announced.get(request.path)
    if repository is None:
        raise HubError(403, "", "Request has expired")
    oid = sha256(request.body)
    if not request.path.endswith(f"/{oid}"):
        raise HubError(400, "", "The SHA-256 you specified did not match what we received.")
    repository.objects[oid] = request.body
    return Response(b"", headers={"ETag": f'"{oid}"'})


@route("POST", SITE + ".git/info/lfs/objects/verify")
def lfs_verify(request: Request) -> Response:
    repository, asked = request.written(propose=True), request.json
    if len(repository.objects.get(asked["oid"], b"")) != asked["size"]:
        raise HubError(404, "", f"Object {asked['oid']} is missing or of another size")
    return as_json({})


@route("POST", REPOSITORY + "/commit/{revision}")
def commit(request: Request) -> Response:
    proposed = request.flag("create_pr")
    repository, revision = request.written(propose=proposed), request.parts["revision"]
    ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
    if ref not in repository.refs:
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    header, *lines = (json.loads(line) for line in request.body.splitlines())
    title, parent = header["value"]["summary"], header["value"].get("parentCommit")
    head = repository.find(ref)
    if parent and not proposed and not head.sha.startswith(parent):
        raise HubError(412, "", "A commit has happened since. Please refresh and try again.")
    base = repository.find(parent) if parent else head
    changes: dict[str, bytes | None] = {}
    for line in lines:
        changes |= _change(repository, base.files, line["key"], line["value"])
    if card := changes.get("README.md"):
        errors, _ = cards.check(card.decode(), repository.kind)
        if errors:
            raise HubError(400, "", "Invalid metadata in README.md.\n- " + "\n- ".join(errors))
    pull_request = None
    if proposed:
        number = repository.discuss(title, request.hub.user, base).number
        ref = f"refs/pr/{number}"
        pull_request = f"{request.hub.endpoint}{repository.url}/discussions/{number}"
    sha = repository.commit(changes, ref=ref, title=title)
    return as_json(
        {
            "success": True,
            "commitOid": sha,
            "commitUrl": f"{request.hub.endpoint}{repository.url}/commit/{sha}",
            "pullRequestUrl": pull_request,
            "hookOutput": "",
        }
    )


def _change(
    repository: Repository, files: Any, key: str, value: dict[str, Any]
) -> dict[str, bytes | None]:
    """One line of a commit."""
    path = value["path"]
    if any(part in ("", ".", "..", ".git") for part in path.removesuffix("/").split("/")):
        raise HubError(400, "", f"Invalid path in repo: {path}")
    if key in ("deletedFile", "deletedFolder"):
        gone = [name for name in files if name == path or name.startswith(path.rstrip("/") + "/")]
        if not gone or (key == "deletedFile" and gone != [path]):
            raise HubError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
        return dict.fromkeys(gone)
    if key == "lfsFile":
        if value["oid"] not in repository.objects:
            message = "Your push was rejected because an LFS pointer pointed to a file that does "
            raise HubError(400, "LfsFileNotFound", f"{message}not exist. Offending file: {path}")
        return {path: repository.objects[value["oid"]]}
    data = base64.b64decode(value["content"])
    if repository.is_large(path, len(data)):
        raise HubError(400, "", f"Large files go by LFS. Offending file: {path}")
    return {path: data}


# --- Refs, pull requests -------------------------------------------------------------------------


@route("POST", REPOSITORY + "/tag/{revision}")
def tag(request: Request) -> Response:
    return _new_ref(request, "tags", request.json["tag"], request.parts["revision"])


@route("POST", REPOSITORY + "/branch/{ref}")
def branch(request: Request) -> Response:
    start = request.json.get("startingPoint") or "main"
    return _new_ref(request, "heads", request.parts["ref"], start)


def _new_ref(request: Request, kind: str, name: str, revision: str) -> Response:
    repository, ref = request.written(), f"refs/{kind}/{name}"
    if not REF.fullmatch(name):
        raise HubError(400, "", f"Invalid reference name: {name}")
    commit = repository.find(revision)
    if ref in repository.refs:
        raise HubError(409, "", f"Reference already exists: {ref}")
    repository.refs[ref] = commit.sha
    return as_json({})
