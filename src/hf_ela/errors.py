"""The exceptions of this package.

::

    HfElaError
    ├── ImageError (ValueError)         an image is refused; `.name`, `.reason`
    │   ├── ImageNotReadableError       missing, a folder, no permission
    │   ├── EmptyImageError             zero bytes, or no pixels
    │   ├── NotAnImageError             no decoder knows it
    │   ├── TruncatedImageError         starts as an image, cannot be decoded to the end
    │   ├── ImageTooLargeError          more pixels than the limit
    │   └── UnsupportedModeError        a pixel layout without a defined way to RGB
    ├── RecipeError (ValueError)        a recipe or an override that is not valid
    ├── DataError                       a dataset that cannot be used as asked
    │   ├── DatasetNotFoundError        no such folder, repository, revision, or not for this token
    │   ├── LabelError                  class names that are not `fake` and `real`
    │   └── TooManyRejectedError        more refused images than allowed
    ├── ModelError                      no usable model: damaged, of another kind, too new
    │   └── ModelNotFoundError          no such repository, revision, not for this token, not packed
    ├── ExportError                     no exporter, or an exported model that differs from Keras's
    ├── HubUnreachableError             no answer from the Hub
    ├── ReleaseError                    a release that cannot be made or sent
    │   ├── CardError                   a model card that the Hub would refuse, or cannot be merged
    │   ├── HeadMovedError              somebody else committed in between
    │   └── VerificationError           what the Hub gives back is not what was released
    ├── RunError                        a folder that results cannot go to, a run that diverged or
    │                                   cannot be resumed, or no extra `train`
    └── BackendError (ImportError)      no Keras backend is installed

Every message states the rule, then what was received, then what to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class HfElaError(Exception):
    """Base of every error that this package raises on purpose.

    A message of several lines is given line by line: names of files in one may hold line ends, and
    what is printed must not take these for its own.
    """

    def __str__(self) -> str:
        """Return the lines of the message."""
        return "\n".join(map(str, self.args))


class ImageError(HfElaError, ValueError):
    """An image was refused.

    Attributes:
        name: The file's path as given, or a stand-in such as ``<bytes>``.
        reason: Why, in words, without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        """Store the name and the reason; the message is ``name: reason``."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """Survive the way back from a worker process."""
        return type(self), (self.name, self.reason)


class ImageNotReadableError(ImageError):
    """The path is missing, is a folder, or may not be read."""


class EmptyImageError(ImageError):
    """There are no bytes, or no pixels."""


class NotAnImageError(ImageError):
    """No decoder knows the bytes."""


class TruncatedImageError(ImageError):
    """The bytes begin as an image but cannot be decoded to the end."""


class ImageTooLargeError(ImageError):
    """The image has more pixels than the limit."""


class UnsupportedModeError(ImageError):
    """The pixel layout has no defined way to RGB."""


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

    Or the package was to have a model in it, and was built without.
    """


class ExportError(HfElaError):
    """A model cannot be exported, or what was exported does not give Keras's probabilities."""


class HubUnreachableError(HfElaError):
    """The Hub did not answer."""


class ReleaseError(HfElaError):
    """A release cannot be made or sent."""


class CardError(ReleaseError):
    """A model card breaks the Hub's rules, or cannot be merged with the earlier one."""


class HeadMovedError(ReleaseError):
    """The repository's head is no longer what the release was planned on."""


class VerificationError(ReleaseError):
    """What the Hub gives back differs from what was released."""


class RunError(HfElaError):
    """A folder cannot take results, a run cannot go on, or what training takes is missing."""


class BackendError(HfElaError, ImportError):
    """No Keras backend is installed."""


INSTALLED_FROM = "."
"""What pip installs this package from: a checkout, as long as it is on no index."""


def install_command(extra: str) -> str:
    """Return the command that installs this package with an extra, such as ``train``."""
    return f'pip install "{INSTALLED_FROM}[{extra}]"'


@contextmanager
def needs_extra(extra: str, work: str) -> Iterator[None]:
    """Name the extra where a module that is imported here is missing.

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
