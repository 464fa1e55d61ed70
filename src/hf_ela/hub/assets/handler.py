"""Serve this model as an Inference Endpoint: images in, labels with scores out.

Send an image (Content-Type image/jpeg or another one), with parameters in the address:

    curl "$ENDPOINT?top_k=1" -H "Content-Type: image/jpeg" --data-binary @painting.jpg

or JSON with an image in base64, or a list of them:

    {"inputs": "/9j/4AAQ...", "parameters": {"top_k": 1, "threshold": 0.5}}

The answer is [{"label": "fake", "score": 0.93}, {"label": "real", "score": 0.07}], or a list of
these; the first entry also has "probability", P(fake), which does not depend on the threshold. With
"function_to_apply": "none", the scores are log odds. With "max_false_alarms": 0.02, an image is
called fake only from the threshold at which at most that share of human-made ones was. With
"abstain": true, the answer about an image for which the model abstains begins with
{"label": "uncertain", "score": 0.58}; its score is that of the next entry.

If the image itself allows no certain answer, since it is too small or shows nothing, the first
entry has a "reason" that says so, asked or not; otherwise it may have a "frequency", a sentence
about held-out pictures with such a score. If the file says how the picture was made, it has
"claims", which never move a score. If the model was trained on synthetic samples, it has a "notice"
that says so.

JSON carries the file unchanged, as base64 of either alphabet or a data: URI; the toolkit converts
an image body to RGB first, which loses what the file says, and can slightly change the score of a
picture with transparency or 16 bits. A refused request gets status 400 and {"error": "why"}; a
refused image among several gets {"error": "why"} in its place.
"""

import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).absolute().parent
# The code that made this model lies beside it as a wheel; it is not installed.
(package,) = FOLDER.glob("hf_ela-*.whl")
sys.path.insert(0, str(package))
os.environ.setdefault("KERAS_BACKEND", "jax")  # for a model that was released without ONNX

from hf_ela import ElaClassifier
from hf_ela.serving.requests import Requests


class EndpointHandler:
    """The class that the inference toolkit looks for: made once, called for each request."""

    def __init__(self, path: str = "") -> None:
        """Load the model from the folder `path`; by default from the folder of this file."""
        folder = Path(path) if path else FOLDER
        self.requests = Requests(ElaClassifier.from_pretrained(folder))

    def __call__(self, data: dict[str, Any]) -> list[Any]:
        """Answer a request with "inputs" and, optionally, "parameters".

        Raises:
            RequestError: The request is refused. The toolkit answers it with status 400.
            RuntimeError: It failed for another reason, which only the log names.
        """
        return self.requests.answer(data)
