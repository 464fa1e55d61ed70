"""The detector: a network with its recipe and calibration, from views to probabilities of fake."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from hf_ela._terminal import progress_bar
from hf_ela._threads import Shared, batched, in_threads
from hf_ela.ela.views import evaluation_views
from hf_ela.errors import ImageError, ModelError
from hf_ela.images.containers import MAX_PIXELS, memory_errors
from hf_ela.images.info import ImageInfo
from hf_ela.images.loading import ImageSource, LoadedImage, load_image
from hf_ela.images.sources import is_one_image, name_of
from hf_ela.images.traces import traced
from hf_ela.models.calibrated import Calibrated
from hf_ela.models.doubt import doubt
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.models.score import LabelScore, Score
from hf_ela.models.settings import Runtime, Settings
from hf_ela.recipes.schema import LABELS, Recipe

if TYPE_CHECKING:
    from hf_ela.backend import keras

Probabilities = Callable[[np.ndarray], np.ndarray]
"""From N views, uint8, to N x 2 probabilities in the order of `LABELS`: a Keras network, or
`OnnxModel.probabilities`."""

_IN_FLIGHT = Shared(MAX_PIXELS)
"""Pixels that threads hold at once: one image of the largest size, or many small ones."""


class Detector(Calibrated):
    """Scores images by a network, and says what the scores mean.

    Beside the attributes of `Calibrated`:

    Attributes:
        labels: ``("fake", "real")``.
        runtime: What computes the probabilities: ``onnx`` or ``keras``.
        recipe: How an image becomes views, and which network scores them.
        threads: How many threads read images and score them; None for `thread_count`.
    """

    labels = LABELS

    def __init__(
        self,
        model: "keras.Model | OnnxModel",
        recipe: Recipe,
        temperature: float = 1.0,
        threshold: float = 0.5,
        uncertain: tuple[float, float] | None = None,
    ) -> None:
        """Wrap a trained network, Keras or ONNX; see the class for the other arguments."""
        self.runtime: Runtime
        self._probabilities: Probabilities
        self._network: keras.Model | None
        if isinstance(model, OnnxModel):
            self.runtime, self._probabilities, self._network = "onnx", model.probabilities, None
        else:
            self.runtime, self._network = "keras", model
            self._probabilities = keras_probabilities(model)
        self.recipe = recipe
        self.temperature = temperature
        self.threshold = threshold
        self.uncertain = uncertain
        self.false_alarms = {}
        self.frequencies = {}
        self.threads: int | None = None

    @classmethod
    def from_settings(cls, model: "keras.Model | OnnxModel", settings: Settings) -> Self:
        """Wrap a network with the settings of its `hf_ela.json`."""
        found = cls(
            model, settings.recipe, settings.temperature, settings.threshold, settings.uncertain
        )
        found.false_alarms = {**settings.false_alarms}
        found.frequencies = {**settings.frequencies}
        return found

    @property
    def model(self) -> "keras.Model":
        """The Keras network of `recipe`: uint8 views in, softmax in the order of `labels` out.

        Raises:
            ModelError: The detector was made from an ONNX model alone, or its weights are not
                usable.
            BackendError: Keras or its backend is not installed.
        """
        if self._network is None:
            self._network = self._read_network()
        return self._network

    def _read_network(self) -> "keras.Model":
        raise ModelError(
            "This detector was made from an ONNX model alone and has no Keras network. "
            "Load it with `ElaClassifier.from_pretrained`."
        )

    def scores(
        self, images: ImageSource | Iterable[ImageSource], *, batch_size: int = 32
    ) -> Generator[Score | ImageError]:
        """Yield the probability of fake of each image, or of one, or why it is refused, in order.

        Draws `batch_size` images at a time; from a sequence, the next batch too. Threads decode
        some while others are scored. Closing or dropping the iterator ends its threads. `label`
        names the class of a probability.
        """
        several: Any = [images] if is_one_image(images) else images
        if self.runtime == "onnx":  # one image after another in each thread, from file to score
            with in_threads(self._score_or_error, several, batch_size, self.threads) as calls:
                for call in chain.from_iterable(calls):
                    yield call()
            return
        with in_threads(self._views_or_error, several, batch_size, self.threads) as batches:
            for batch in batches:
                found = [call() for call in batch]
                readable = [one[0] for one in found if not isinstance(one, ImageError)]
                probabilities = iter(self.image_scores(readable, max(len(readable), 1)).tolist())
                for one in found:
                    yield (
                        one if isinstance(one, ImageError) else Score(next(probabilities), *one[1:])
                    )

    def answers(
        self,
        images: Iterable[ImageSource],
        answer: Callable[[Score], list[LabelScore]],
        batch_size: int,
        *,
        progress: bool,
    ) -> Iterator[list[LabelScore]]:
        """Yield the answer for each image, in order; see `ElaClassifier.predict`.

        Raises:
            ImageError: An image is refused, in place of its answer.
        """
        # Closed at the end: a raised refusal would keep it and its threads alive.
        with closing(self.scores(images, batch_size=batch_size)) as scores:
            total = len(images) if isinstance(images, Sequence) else None
            results = progress_bar(scores, "Predicting", total) if progress else scores
            for score in results:
                if isinstance(score, ImageError):
                    raise score
                yield answer(score)

    def views(self, image: Image.Image) -> np.ndarray:
        """Return what the network sees of an RGB image: ELA, pixels or both, as its recipe says.

        Returns:
            uint8 array, views x height x width x channels.
        """
        return evaluation_views(image, self.recipe, "as_is", key="")

    def view_logits(self, views: np.ndarray) -> np.ndarray:
        """Return the logit of each of the `views` of one image: float64, shape (views,)."""
        return np.asarray(view_logits(self._probabilities, [views])[0])

    def image_scores(self, views: Iterable[np.ndarray], batch_size: int = 32) -> np.ndarray:
        """Return the probability of fake of images, given the views of each: float64, shape (N,).

        Arguments are those of `view_logits`.
        """
        return self.calibrated(image_logits(self._probabilities, views, batch_size))

    def examined(self, loaded: LoadedImage) -> tuple[str, ImageInfo]:
        """Return why an image allows no certain verdict, or "", and its facts with its traces."""
        info = traced(loaded)
        return doubt(info, self.recipe), info

    def _views_or_error(self, image: ImageSource) -> tuple[np.ndarray, str, ImageInfo] | ImageError:
        try:
            with _IN_FLIGHT.room() as take, memory_errors(name_of(image)):
                loaded = load_image(image, before_decoding=take)
                return self.views(loaded.pixels), *self.examined(loaded)
        except ImageError as error:
            return error

    def _score_or_error(self, image: ImageSource) -> Score | ImageError:
        found = self._views_or_error(image)
        if isinstance(found, ImageError):
            return found
        return Score(float(self.image_scores([found[0]])[0]), *found[1:])


def keras_probabilities(model: "keras.Model") -> Probabilities:
    """Return the `Probabilities` of a network of `build_model`."""

    def probabilities(views: np.ndarray) -> np.ndarray:
        # Padded to a power of two: few shapes are compiled, and one image does not pay for a full
        # batch.
        filling = 2 ** (len(views) - 1).bit_length() - len(views)
        rows = np.concatenate([views, np.zeros((filling, *views.shape[1:]), views.dtype)])
        return np.asarray(model.predict_on_batch(rows))[: len(views)]

    return probabilities


def image_logits(
    probabilities: Probabilities, views: Iterable[np.ndarray], batch_size: int = 32
) -> np.ndarray:
    """Return the logit of each image: the one definition of the score, before the temperature.

    The logit of an image is the mean of its `view_logits`; arguments and errors are the same.

    Returns:
        float64 array, one value for each image.
    """
    return np.asarray(view_logits(probabilities, views, batch_size).mean(axis=1))


def view_logits(
    probabilities: Probabilities, views: Iterable[np.ndarray], batch_size: int = 32
) -> np.ndarray:
    """Return the logit of each view of each image.

    It is log p(fake) - log p(real) of the softmax, with both probabilities at least the smallest
    normal float32, which limits logits to ±87.3.

    Args:
        probabilities: Scores the views.
        views: For each image a uint8 array, views x height x width x channels, of one shape.
        batch_size: Images per step.

    Returns:
        float64 array, images x views; 0 x 1 if there are no images.

    Raises:
        ModelError: The network's output is not finite.
    """
    logits = [_batch_logits(probabilities, batch) for batch in batched(views, batch_size)]
    return np.concatenate(logits) if logits else np.empty((0, 1))


def _batch_logits(probabilities: Probabilities, views: list[np.ndarray]) -> np.ndarray:
    outputs = np.asarray(probabilities(np.concatenate(views)), np.float64)
    if not np.isfinite(outputs).all():
        raise ModelError(
            "The network's output must be finite. Received: NaN or infinity. "
            "Its training diverged: train again with a lower learning rate."
        )
    logs = np.log(np.maximum(outputs, np.finfo(np.float32).tiny))
    return np.asarray((logs[:, 0] - logs[:, 1]).reshape(len(views), -1))
