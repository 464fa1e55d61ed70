"""Put what was released into a Collection of the Hub."""

import re
from collections.abc import Sequence
from dataclasses import replace

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hf_ela.errors import ReleaseError
from hf_ela.hub.client import Repository, hub_errors

_SLUG = re.compile(r"(?:\S+/collections/)?(\S*/\S*|\S*-[0-9a-f]{24})")
"""What is meant for a slug, or for the address that ends with one: a title has words."""


def checked_collection(api: HfApi, name: str, model: Repository) -> str:
    """Return the slug of a collection that exists, or a title.

    Args:
        api: The client of the Hub.
        name: Slug, address or title.
        model: What is to go into it, for messages.

    Raises:
        ReleaseError: It is a slug or an address, and this token sees no such collection.
        HubUnreachableError: The Hub did not answer.
    """
    found = _SLUG.fullmatch(name)
    if not found:
        return name
    with hub_errors(replace(model, planning=True)):
        try:
            return api.get_collection(found[1]).slug
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403, 404):
                raise ReleaseError(
                    f"The Hub has no collection {name!r}, or this token cannot see it. Correct "
                    "`collection`: the slug is the end of its address. A title has no slash."
                ) from error
            raise


def collect(api: HfApi, name: str, repositories: Sequence[Repository], *, private: bool) -> str:
    """Add repositories to a collection; those that it holds already stay.

    Args:
        api: The client of the Hub.
        name: What `checked_collection` returned: a slug, or the title of a collection of the owner
            of the first repository, which is made if new.
        repositories: What to add; they exist.
        private: Make a new collection private.

    Returns:
        The address of the collection.

    Raises:
        ReleaseError: This token may not change the collection.
        HubUnreachableError: The Hub did not answer.
    """
    first = repositories[0]
    with hub_errors(first):
        try:
            slug = name
            if not _SLUG.fullmatch(name):
                owner, _, _ = first.id.partition("/")
                made = api.create_collection(name, namespace=owner, private=private, exists_ok=True)
                slug = made.slug
            for one in repositories:
                found = api.add_collection_item(slug, one.id, one.kind, exists_ok=True)
        except HfHubHTTPError as error:
            if error.response.status_code in (403, 404):
                raise ReleaseError(
                    f"This token may not change the collection {name!r}. All else is done: correct "
                    "`collection` and repeat the command, or give a title to make one."
                ) from error
            raise
    return found.url
