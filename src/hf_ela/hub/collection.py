"""Put what was released into a Collection of the Hub."""

import re
from collections.abc import Sequence

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hf_ela.errors import ReleaseError
from hf_ela.hub.client import Repository, hub_errors

_SLUG = r"[\w.-]+/[\w.-]+-[0-9a-f]{24}"
"""What the address of a collection ends with."""


def collect(api: HfApi, name: str, repositories: Sequence[Repository], *, private: bool) -> str:
    """Add repositories to a collection; those that it holds already stay.

    Args:
        api: The client of the Hub.
        name: Slug of the collection, or the title of one of the owner of the first repository,
            which is made if new.
        repositories: What to add; they exist.
        private: Make a new collection private.

    Returns:
        The address of the collection.

    Raises:
        ReleaseError: The collection does not exist, or this token may not change it.
        HubUnreachableError: The Hub did not answer.
    """
    first = repositories[0]
    with hub_errors(first):
        try:
            slug = name
            if not re.fullmatch(_SLUG, name, re.ASCII):
                owner, _, _ = first.id.partition("/")
                made = api.create_collection(name, namespace=owner, private=private, exists_ok=True)
                slug = made.slug
            for one in repositories:
                found = api.add_collection_item(slug, one.id, one.kind, exists_ok=True)
        except HfHubHTTPError as error:
            if error.response.status_code in (403, 404):
                raise ReleaseError(
                    f"The Hub has no collection {name!r} that this token may change. All else is "
                    "done: correct `collection` and repeat the command, or give a title to make "
                    "one."
                ) from error
            raise
    return found.url
