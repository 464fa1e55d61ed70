"""Serve this model as an Inference Endpoint: images in, labels with scores out.

Send an image (Content-Type image/jpeg or another one), with parameters in the address:

    curl "$ENDPOINT?top_k=1" -H "Content-Type: image/jpeg" --data-binary @painting.jpg

or JSON with an image in base64, or a list of them:

    {"inputs": "/9j/4AAQ...", "parameters": {"top_k": 1, "threshold": 0.5}}

The answer is [{"label": "fake", "score": 0.93}, {"label": "real", "score": 0.07}], or a list of
these. With the parameter "abstain": true, the answer about an image for which the model abstains
begins with {"label": "uncertain", "score": 0.58}; its score is that of the next entry. If the image
itself allows no certain answer, since it is too small or shows nothing, the first entry has a
"reason" that says so, asked or not. If the file says how the picture was made, it has "claims",
which never move a score. If the model was trained on synthetic samples, it has a "notice" that says
so. JSON carries the file unchanged; the toolkit converts an image body to RGB first, which loses
what the file says, and can slightly change the score of a
picture with transparency or 16 bits. A refused request gets status 400 and {"error": "why"}; a
refused image among several gets {"error": "why"} in its place.
"""

import base64
import binascii
import logging
import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).absolute().parent
# The code that made this model lies beside it as a wheel; it is not installed.
(package,) = FOLDER.glob("hf_ela-*.whl")
sys.path.insert(0, str(package))
os.environ.setdefault("KERAS_BACKEND", "jax")  # for a model that was released without ONNX

from PIL import Image

from hf_ela import ElaClassifier
from hf_ela._text import synthetic_notice
from hf_ela._threads import within
from hf_ela.errors import ImageError
from hf_ela.models.score import Score

MAX_BYTES = 20 * 2**20
MAX_IMAGES = 16
SECONDS = 20
"""Most seconds for an image: a file can be made so that its decoding takes minutes."""


class RequestError(ValueError):
    """A refused request; the message is for its sender."""


class EndpointHandler:
    """The class that the inference toolkit looks for: made once, called for each request."""

    def __init__(self, path: str = "") -> None:
        """Load the model from the folder `path`; by default from the folder of this file."""
        self.classifier = ElaClassifier.from_pretrained(Path(path) if path else FOLDER)
        self.notice = synthetic_notice(self.classifier.data)

    def __call__(self, data: dict[str, Any]) -> list[Any]:
        """Answer a request with "inputs" and, optionally, "parameters".

        Raises:
            RequestError: The request is refused. The toolkit answers it with status 400.
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
        top_k, threshold, abstain = _parameters(data.get("parameters"), self.classifier.threshold)
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
                score = self._score(_image(image))
            except RequestError as error:
                if images is not inputs:
                    raise
                answers.append({"error": str(error)})
            else:
                answer: list[Any] = self.classifier.answer(
                    score, threshold=threshold, abstain=abstain
                )
                if self.notice:
                    answer[0] = {**answer[0], "notice": self.notice}
                answers.append(answer[:top_k])
        return answers if images is inputs else answers[0]

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


def _image(value: object) -> bytes | Image.Image:
    """Return the image in a request."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, str):
        if len(value) > MAX_BYTES * 4 / 3 + 100:
            raise RequestError(f"An image must have at most {MAX_BYTES:,} bytes. Received: more.")
        encoded = value.partition(",")[2] if value.startswith("data:") else value
        try:
            value = base64.b64decode("".join(encoded.split()), validate=True)
        except (binascii.Error, ValueError):
            raise RequestError(
                "An image in JSON must be a file as base64 text, or a data: URI of it. "
                f"Received: {value[:40]!r}"
            ) from None
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


def _parameters(values: object, threshold: float) -> tuple[int, float, bool]:
    """Return `top_k`, `threshold` and `abstain`; in an address, numbers are text."""
    given: dict[str, Any] = {"top_k": 3, "threshold": threshold, "abstain": False}
    if values is not None and not isinstance(values, dict):
        raise RequestError(f"`parameters` must be an object. Received: {type(values).__name__}.")
    for name, value in (values or {}).items():
        if name not in given:
            raise RequestError(
                f"`parameters` may have {', '.join(given)}. Received: {name[:40]!r}."
            )
        if value is not None:
            given[name] = value
    top_k, number = _number(given["top_k"]), _number(given["threshold"])
    if not (1 <= top_k < float("inf") and top_k.is_integer()):
        raise RequestError(
            f"`top_k` must be a whole number, at least 1. Received: {given['top_k']!r:.40}."
        )
    if not 0 <= number <= 1:
        raise RequestError(
            f"`threshold` must be a number from 0 to 1. Received: {given['threshold']!r:.40}."
        )
    if not isinstance(given["abstain"], bool):
        raise RequestError(f"`abstain` must be true or false. Received: {given['abstain']!r:.40}.")
    if given["abstain"] and number != threshold:
        raise RequestError(
            "`abstain` works only with the threshold of the model. Received: both, with "
            f"threshold={number}. Omit one of them."
        )
    return int(top_k), number, given["abstain"]


def _number(value: object) -> float:
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    return float("nan")
