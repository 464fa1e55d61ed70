"""A request of an Inference Endpoint to its answer: images in, labels with scores out."""

import base64
import binascii
import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from hf_ela._text import synthetic_notice
from hf_ela._threads import within
from hf_ela.errors import ImageError
from hf_ela.models.score import LabelScore, Score

if TYPE_CHECKING:
    from hf_ela.classifier import ElaClassifier

MAX_BYTES = 20 * 2**20
MAX_IMAGES = 16
SECONDS = 20
"""Most seconds for an image: a file can be made so that its decoding takes minutes."""
FUNCTIONS = ("softmax", "sigmoid", "none")
"""What can be applied to the network's output: the first two are the same for two classes."""


class RequestError(ValueError):
    """A refused request; the message is for its sender."""


class Parameters(NamedTuple):
    """How a request is to be answered."""

    top_k: int = 3
    threshold: float | None = None
    abstain: bool = False
    function_to_apply: str = "softmax"
    max_false_alarms: float | None = None


class Requests:
    """Answers requests with one model."""

    def __init__(self, classifier: "ElaClassifier") -> None:
        """Answer with a loaded model."""
        self.classifier = classifier
        self.notice = synthetic_notice(classifier.data)

    def answer(self, data: dict[str, Any]) -> list[Any]:
        """Answer a request with "inputs" and, optionally, "parameters".

        Raises:
            RequestError: The request is refused.
            RuntimeError: It failed for another reason, which only the log names.
        """
        try:
            return self._answer(data)
        except RequestError:
            raise
        except Exception:  # the sender must see neither paths nor a traceback
            logging.exception("A request failed.")
            raise RuntimeError("The request failed. See the log of the endpoint.") from None

    def _answer(self, data: dict[str, Any]) -> list[Any]:
        how = _parameters(data.get("parameters"), self.classifier)
        inputs = data.get("inputs")
        images = inputs if isinstance(inputs, list) else [inputs]
        if not 1 <= len(images) <= MAX_IMAGES:
            raise RequestError(
                f"`inputs` must be one image or a list of 1 to {MAX_IMAGES}. "
                f"Received: a list of {len(images)}. Send them in several requests."
            )
        answers: list[Any] = []
        for image in images:  # one by one, so that the pixels of only one are in memory
            try:
                answers.append(self._about(_image(image), how))
            except RequestError as error:
                if images is not inputs:
                    raise
                answers.append({"error": str(error)})
        return answers if images is inputs else answers[0]

    def _about(self, image: bytes | Image.Image, how: Parameters) -> list[Any]:
        score = self._score(image)
        entries = self.classifier.answer(score, threshold=how.threshold, abstain=how.abstain)
        if how.function_to_apply == "none":
            entries = [LabelScore(**{**one, "score": _log_odds(one["score"])}) for one in entries]
        more = {"frequency": self.classifier.frequency(score), "notice": self.notice}
        first = {**entries[0], "probability": float(score)}
        first |= {name: text for name, text in more.items() if text}
        return [first, *entries[1 : how.top_k]]

    def _scores(self, image: bytes | Image.Image) -> list[Score | ImageError]:
        return list(self.classifier.scores([image]))

    def _score(self, image: bytes | Image.Image) -> Score:
        try:
            (score,) = within(SECONDS, self._scores, image)
        except TimeoutError:
            raise RequestError(
                f"No answer within {SECONDS} seconds: the image is too large, or the server busy."
            ) from None
        if isinstance(score, ImageError):
            raise RequestError(f"The image is refused: {score.reason}.")
        return score


def _log_odds(score: float) -> float:
    """Return the log odds of a probability, from -37 to 37: JSON has no infinity."""
    inside = min(max(score, 2**-53), 1 - 2**-53)
    return math.log(inside) - math.log1p(-inside)


def _image(value: object) -> bytes | Image.Image:
    """Return the image in a request."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, str):
        if len(value) > MAX_BYTES * 4 / 3 + 100:
            raise RequestError(f"An image must have at most {MAX_BYTES:,} bytes. Received: more.")
        value = _decoded(value)
    if not isinstance(value, bytes):
        raise RequestError(
            "`inputs` must be an image (bytes or base64 text), or a list of images. "
            f"Received: {type(value).__name__}."
        )
    if len(value) > MAX_BYTES:
        raise RequestError(
            f"An image must have at most {MAX_BYTES:,} bytes. Received: {len(value):,}."
        )
    return value


def _decoded(text: str) -> bytes:
    """Return the bytes in base64, of either alphabet, padded or not, or in a data: URI of it."""
    encoded = text.partition(",")[2] if text[:5].casefold() == "data:" else text
    encoded = "".join(encoded.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(
            "An image in JSON must be a file as base64 text, or a data: URI of it. "
            f"Received: {text[:40]!r}"
        ) from None


def _parameters(values: object, classifier: "ElaClassifier") -> Parameters:
    """Return how to answer, with the threshold; in an address, numbers are text."""
    if values is not None and not isinstance(values, dict):
        raise RequestError(f"`parameters` must be an object. Received: {type(values).__name__}.")
    given = {name: value for name, value in (values or {}).items() if value is not None}
    for name in given.keys() - {*Parameters._fields}:
        raise RequestError(
            f"`parameters` may have {', '.join(Parameters._fields)}. Received: {name[:40]!r}."
        )
    how = Parameters(**given)._replace(threshold=None)
    number = _number(given.get("threshold", classifier.threshold))
    top_k = _number(how.top_k)
    if not (1 <= top_k < math.inf and top_k.is_integer()):
        raise RequestError(
            f"`top_k` must be a whole number, at least 1. Received: {how.top_k!r:.40}."
        )
    if not 0 <= number <= 1:
        raise RequestError(
            f"`threshold` must be a number from 0 to 1. Received: {given['threshold']!r:.40}."
        )
    if not isinstance(how.abstain, bool):
        raise RequestError(f"`abstain` must be true or false. Received: {how.abstain!r:.40}.")
    if how.function_to_apply not in FUNCTIONS:
        raise RequestError(
            f"`function_to_apply` must be one of {', '.join(FUNCTIONS)}. "
            f"Received: {how.function_to_apply!r:.40}."
        )
    if how.max_false_alarms is not None:
        if "threshold" in given:
            raise RequestError("Give `threshold` or `max_false_alarms`. Received: both.")
        try:
            number = classifier.threshold_for(_number(how.max_false_alarms))
        except ValueError as error:
            raise RequestError(str(error)) from error
    elif how.abstain and number != classifier.threshold:
        raise RequestError(
            "`abstain` works only with the threshold of the model. Received: both, with "
            f"threshold={number}. Omit one of them."
        )
    return how._replace(top_k=int(top_k), threshold=number)


def _number(value: object) -> float:
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    return math.nan
