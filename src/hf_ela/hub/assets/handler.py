"""Serves this model as an Inference Endpoint: one image or several in, labels with scores out.

As an image (Content-Type image/jpeg or another one), with parameters in the address:

    curl "$ENDPOINT?top_k=1" -H "Content-Type: image/jpeg" --data-binary @painting.jpg

or as JSON, an image in base64 or a list of such:

    {"inputs": "/9j/4AAQ...", "parameters": {"top_k": 1, "threshold": 0.5}}

The answer is [{"label": "fake", "score": 0.93}, {"label": "real", "score": 0.07}], or a list of
such. With the parameter "abstain": true, where the model had better not decide, the answer begins
with {"label": "uncertain", "score": 0.58}; the score is that of the entry after it. In JSON the
file arrives as it is; an image body is turned to RGB by the toolkit first, which can change the
score of a picture with transparency or 16 bits a little. What is refused is answered with status
400 and {"error": "why"}; one of several images with {"error": "why"} in its place.
"""

import base64
import binascii
import logging
import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).absolute().parent
# The code that made this model lies beside it, as a wheel: nothing else of it is installed.
(package,) = FOLDER.glob("hf_ela-*.whl")
sys.path.insert(0, str(package))
os.environ.setdefault("KERAS_BACKEND", "jax")  # for a model that was released without ONNX

from PIL import Image

from hf_ela import ElaClassifier
from hf_ela.errors import ImageError

MAX_BYTES = 20 * 2**20
MAX_IMAGES = 16


class RequestError(ValueError):
    """A request that is refused; the message is for its sender."""


class EndpointHandler:
    """What the inference toolkit looks for: made once, then called with every request."""

    def __init__(self, path: str = "") -> None:
        """Load the model from the folder `path`, by default the one of this file."""
        self.classifier = ElaClassifier.from_pretrained(Path(path) if path else FOLDER)

    def __call__(self, data: dict[str, Any]) -> list[Any]:
        """Answer the request `data`: "inputs", and perhaps "parameters".

        Raises:
            RequestError: The request is refused. The toolkit answers it with status 400.
            RuntimeError: It failed for another reason, which only the log tells.
        """
        try:
            return self._answer(data)
        except RequestError:
            raise
        except Exception:  # whatever it is, the sender gets no path and no traceback
            logging.exception("A request failed.")
            raise RuntimeError("The request failed; the log of the endpoint says why.") from None

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
        for image in images:  # one by one, so that only one is in memory as pixels
            try:
                (score,) = self.classifier.scores([_image(image)])
                if isinstance(score, ImageError):
                    raise RequestError(f"The image is refused: {score.reason}.")
            except RequestError as error:
                if images is not inputs:
                    raise
                answers.append({"error": str(error)})
            else:
                answer = [{"label": "fake", "score": score}, {"label": "real", "score": 1 - score}]
                if score < threshold:
                    answer.reverse()
                if abstain and self.classifier.is_uncertain(score):
                    answer.insert(0, {"label": "uncertain", "score": answer[0]["score"]})
                answers.append(answer[:top_k])
        return answers if images is inputs else answers[0]


def _image(value: object) -> bytes | Image.Image:
    """Return the image that a request holds in one of several forms."""
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
                "An image in JSON must be the base64 text of a file, or a data: URI with it. "
                f"Received: {value[:40]!r}"
            ) from None
    if not isinstance(value, bytes):
        raise RequestError(
            "`inputs` must be an image: its bytes, or base64 text, or a list of such. "
            f"Received: {type(value).__name__}."
        )
    if len(value) > MAX_BYTES:
        raise RequestError(
            f"An image must have at most {MAX_BYTES:,} bytes. Received: {len(value):,}."
        )
    return value


def _parameters(values: object, threshold: float) -> tuple[int, float, bool]:
    """Return `top_k`, `threshold` and `abstain`; from an address the numbers come as text."""
    given: dict[str, Any] = {"top_k": 3, "threshold": threshold, "abstain": False}
    if values is not None and not isinstance(values, dict):
        raise RequestError(f"`parameters` must be an object. Received: {type(values).__name__}.")
    for name, value in (values or {}).items():
        if name not in given:
            raise RequestError(f"`parameters` knows {', '.join(given)}. Received: {name[:40]!r}.")
        if value is not None:
            given[name] = value
    top_k, number = _number(given["top_k"]), _number(given["threshold"])
    if not (1 <= top_k < float("inf") and top_k.is_integer()):
        raise RequestError(
            f"`top_k` must be a whole number from 1. Received: {given['top_k']!r:.40}."
        )
    if not 0 <= number <= 1:
        raise RequestError(
            f"`threshold` must be a number from 0 to 1. Received: {given['threshold']!r:.40}."
        )
    if not isinstance(given["abstain"], bool):
        raise RequestError(f"`abstain` must be true or false. Received: {given['abstain']!r:.40}.")
    if given["abstain"] and number != threshold:
        raise RequestError(
            "`abstain` goes with the threshold of the model, around which its uncertain scores "
            f"lie. Received: both, with threshold={number}. Leave one out."
        )
    return int(top_k), number, given["abstain"]


def _number(value: object) -> float:
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    return float("nan")
