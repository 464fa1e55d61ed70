"""Collections: made by title, filled item by item."""

import re
from hashlib import sha1
from typing import Any

from hub_server.http import HubError, Request, Response, as_json, route

COLLECTION = "/api/collections/{user}/{name}"


def _found(request: Request) -> dict[str, Any]:
    slug = f"{request.parts['user']}/{request.parts['name']}"
    if slug not in request.hub.collections:
        raise HubError(404, "", "Collection not found")
    return request.hub.collections[slug]


@route("POST", "/api/collections")
def create(request: Request) -> Response:
    asked = request.json
    owner, title = asked["namespace"], asked["title"]
    request.check_write(owner)
    words = re.sub(r"\W+", "-", title.lower())
    slug = f"{owner}/{words}-{sha1(title.encode(), usedforsecurity=False).hexdigest()[:24]}"
    if slug in request.hub.collections:
        return as_json({"error": "You already have a collection of this title", "slug": slug}, 409)
    request.hub.collections[slug] = {
        "slug": slug, "title": title, "owner": {"name": owner}, "items": [], "position": 0,
        "private": bool(asked.get("private")), "theme": "green", "upvotes": 0,
        "lastUpdated": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip
    return as_json(request.hub.collections[slug])


@route("GET", COLLECTION)
def get(request: Request) -> Response:
    return as_json(_found(request))


@route("POST", COLLECTION + "/items?")  # "item" before the clients of 2026
def add(request: Request) -> Response:
    request.check_write(request.parts["user"])
    collection, asked = _found(request), request.json["item"]
    request.named(f"{asked['type']}s", asked["id"])  # it exists
    if any(
        (item["type"], item["id"]) == (asked["type"], asked["id"]) for item in collection["items"]
    ):
        raise HubError(409, "", "Item already in collection")
    item = {"_id": str(len(collection["items"])), **asked, "position": len(collection["items"])}
    collection["items"].append(item)
    return as_json(collection)
