"""The exceptions of this package.

Every message says what failed, the value received if there was one, and one remedy.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class HfElaError(Exception):
    """Base of every error that this package raises on purpose.

    A message of several lines is passed line by line: a file name in it can hold a line end, which
    must not be printed as one.
    """

    def __str__(self) -> str:
        """Return the lines of the message."""
        return "\n".join(map(str, self.args))


class ImageError(HfElaError, ValueError):
    """An image was refused.

    Attributes:
        name: The file's path as given, or a stand-in such as ``<bytes>``.
        reason: The reason in words, without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        """Store the name and the reason; the message is ``name: reason``."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """Let the error be pickled, to return from a worker process."""
        return type(self), (self.name, self.reason)


class ImageNotReadableError(ImageError):
    """The path is missing, is a folder, or cannot be read."""


class EmptyImageError(ImageError):
    """The source has no bytes, or no pixels."""


class NotAnImageError(ImageError):
    """The bytes do not belong to a known format."""


class TruncatedImageError(ImageError):
    """The bytes begin as an image but cannot be decoded to the end."""


class ImageTooLargeError(ImageError):
    """The image has more pixels than the limit."""


class UnsupportedModeError(ImageError):
    """The pixel layout has no defined conversion to RGB."""


class RecipeError(HfElaError, ValueError):
    """A recipe, or an override of one, is not valid."""


class DataError(HfElaError):
    """A dataset cannot be used as asked."""


class DatasetNotFoundError(DataError):
    """The folder, repository or revision does not exist, or is not visible to this token."""


class LabelError(DataError):
    """The class names are not ``fake`` and ``real`` and no label map was given."""


class TooManyRejectedError(DataError):
    """More images were refused than the limit allows."""


class ModelError(HfElaError):
    """A folder or repository does not hold a usable model."""


class ModelNotFoundError(ModelError):
    """The repository or revision does not exist, or is not visible to this token.

    Also raised where the packaged model is requested and the package was built without one.
    """


class ExportError(HfElaError):
    """A model cannot be exported, or the export does not give Keras's probabilities."""


class HubUnreachableError(HfElaError):
    """The Hub did not answer."""


class ReleaseError(HfElaError):
    """A release cannot be made or sent."""


class CardError(ReleaseError):
    """A model card breaks the Hub's rules, or cannot be merged with the earlier one."""


class HeadMovedError(ReleaseError):
    """The repository's head is no longer the one that the release was planned on."""


class VerificationError(ReleaseError):
    """The download from the Hub differs from what was released."""


class RunError(HfElaError):
    """A folder cannot take results, a run cannot continue, or a setting or an extra is wrong."""


class BackendError(HfElaError, ImportError):
    """No Keras backend is installed."""


INSTALLED_FROM = "."
"""What pip installs this package from: a checkout, as long as it is not published."""


def install_command(extra: str) -> str:
    """Return the command that installs this package with an extra, such as ``train``."""
    return f'pip install "{INSTALLED_FROM}[{extra}]"'


@contextmanager
def needs_extra(extra: str, work: str) -> Iterator[None]:
    """Name the extra if a module that is imported in the block is missing.

    Args:
        extra: Name of the extra, such as ``train``.
        work: What needs it, as the subject of a sentence: ``Evaluation``.

    Raises:
        RunError: A module is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise RunError(
            f"{work} requires the `{extra}` extra (module {error.name!r} is missing). "
            f"Install it: {install_command(extra)}"
        ) from error
