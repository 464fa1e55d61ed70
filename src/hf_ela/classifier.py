"""Predict with a saved model: images in, calibrated probabilities out."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, overload

import numpy as np
from PIL import Image

from hf_ela.errors import ImageError
from hf_ela.hub.locate import locate
from hf_ela.images.loading import ImageSource
from hf_ela.models.detector import Detector
from hf_ela.models.folder import read_model, read_network, write_model
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.models.settings import Runtime
from hf_ela.recipes.schema import Recipe

if TYPE_CHECKING:
    from hf_ela.backend import keras
    from hf_ela.models.explain import Evidence

__all__ = ["ElaClassifier", "LabelScore"]

Source = TypeVar("Source", bound=ImageSource)


class LabelScore(TypedDict):
    """A class name and its calibrated probability."""

    label: str
    score: float


class ElaClassifier(Detector):
    """Tells AI-generated (``fake``) from human-made (``real``) images.

    Beside the attributes of `Detector`:

    Attributes:
        data: What is recorded of the training data, or None.
        revision: The 40-character commit of the Hub that it was loaded from, or None.
    """

    def __init__(
        self,
        model: "keras.Model | OnnxModel",
        recipe: Recipe,
        temperature: float = 1.0,
        threshold: float = 0.5,
        uncertain: tuple[float, float] | None = None,
        data: dict[str, Any] | None = None,
        revision: str | None = None,
    ) -> None:
        """Wrap a trained network, of Keras or as ONNX; see the classes for the other arguments."""
        super().__init__(model, recipe, temperature, threshold, uncertain)
        self.data = data
        self.revision = revision
        self._find_weights: Callable[[], Path] | None = None

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        runtime: Runtime | None = None,
    ) -> Self:
        """Load a model from the Hub, or what `save_pretrained` wrote.

        Two files are downloaded from one commit (`revision` of the result names it): settings,
        which are validated, and a file of the model: ONNX, which ONNX Runtime computes, or weights,
        which are put into a network of our own. Either is checked first. No code of the repository
        is run, nothing is unpickled. Without the network the client's cache serves: for a commit
        the same, for a branch or a tag what it was when last loaded.

        Args:
            source: ``user/repo`` on the Hub, or a saved folder, or a run folder, whose `weights/`
                is taken. A folder that exists goes before a repository of that name; a `Path` is
                always a folder. None is for the model that comes with this package, a research
                baseline; its card lies beside it, see `hf_ela.hub.locate.packaged_model`.
            revision: Branch, tag or commit of the repository; the head of main by default.
            token: Access token of the Hub; that of ``hf auth login`` or HF_TOKEN by default.
            cache_dir: Where downloads are kept, instead of the cache of `huggingface_hub`.
            local_files_only: Take what was downloaded before, and ask nobody.
            runtime: ``onnx`` or ``keras``; by default ONNX where the model was saved with it, which
                needs no Keras and starts in a fraction of its time. The scores differ by less than
                1e-4.

        Raises:
            ModelNotFoundError: The repository or the revision does not exist, or not for this
                token; or this package was built without a model.
            ModelError: There is no usable model: no folder, no or damaged settings, settings of a
                newer hf-ela, or weights or ONNX that are missing, damaged or of another network.
            HubUnreachableError: The Hub did not answer, and the cache does not hold the model.
            BackendError: Keras is to judge, and it or a backend of it is not installed.
        """
        find = partial(
            locate,
            source,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        folder, commit = find(revision=revision, runtime=runtime)
        model, settings = read_model(folder, runtime)
        found = cls.from_settings(model, settings)
        found.data, found.revision = settings.data, commit
        # From the same commit, wherever a branch has moved to.
        found._find_weights = lambda: find(revision=commit, runtime="keras")[0]
        return found

    def _read_network(self) -> "keras.Model":
        """Load, and download, the Keras network of a model that ONNX Runtime computes."""
        if self._find_weights is None:
            return super()._read_network()
        return read_network(self._find_weights())

    @overload
    def predict(  # type: ignore[overload-overlap]  # a path is iterable too; the first fit counts
        self,
        images: Source,
        *,
        batch_size: int = 32,
        progress: bool = False,
        abstain: bool = False,
    ) -> list[LabelScore]: ...
    @overload
    def predict(  # type: ignore[overload-overlap]  # as above, a list before any other iterable
        self,
        images: list[Source] | tuple[Source, ...],
        *,
        batch_size: int = 32,
        progress: bool = False,
        abstain: bool = False,
    ) -> list[list[LabelScore]]: ...
    @overload
    def predict(
        self,
        images: Iterable[Source],
        *,
        batch_size: int = 32,
        progress: bool = False,
        abstain: bool = False,
    ) -> Iterator[list[LabelScore]]: ...
    def predict(
        self,
        images: Any,
        *,
        batch_size: int = 32,
        progress: bool = False,
        abstain: bool = False,
    ) -> list[LabelScore] | list[list[LabelScore]] | Iterator[list[LabelScore]]:
        """Return the probability of each class, in the shape of a ``transformers`` pipeline.

        An image gives ``[{"label": "fake", "score": 0.93}, {"label": "real", "score": 0.07}]``.
        The scores are the calibrated probabilities. The first entry is the predicted label, which
        is fake from `threshold` on; so with a threshold other than 0.5 the first score of an
        image near it can be the smaller one.

        With `abstain`, the answer about an image that `is_uncertain` has one entry more in front,
        ``{"label": "uncertain", "score": 0.58}``: so the first entry stays what to act upon. Its
        score is that of the entry after it, the class that the image is nearest to; it is no
        probability of being uncertain, and the entries after it are those without `abstain`.

        Args:
            images: One image, that is anything `load_image` takes: a path, bytes, a binary file
                object, a PIL image, a uint8 array. Or a list or another sequence of images: gives
                a list. Or any other iterable, such as a generator: gives an iterator, which draws
                `batch_size` images at a time, and only when their results are asked for. Threads
                decode paths, bytes and arrays; a file object or a PIL image is read by the caller.
            batch_size: Images that are drawn at a time, each with `recipe.evaluation_views` views.
                Keras judges them in one step.
            progress: Show a bar on standard error.
            abstain: Say ``uncertain`` where the model had better not decide.

        Raises:
            ImageError: An image is refused. From an iterator it comes where the image's result
                would, after the results of all before it. `scores` goes on instead.
            TypeError: An image is of none of the types above.
        """
        if _is_one(images):
            return next(self._predictions([images], 1, progress, abstain))
        predictions = self._predictions(images, batch_size, progress, abstain)
        return list(predictions) if isinstance(images, Sequence) else predictions

    def explain(self, image: ImageSource) -> "Evidence":
        """Return what each view of an image says, and where in the image it lies.

        `hf_ela.models.explain.overlay` draws it.

        Raises:
            ImageError: The image is refused.
        """
        from hf_ela.models.explain import evidence

        return evidence(self, image)

    def save_pretrained(self, folder: str | os.PathLike[str], *, onnx: bool = True) -> None:
        """Write the model, without optimizer state, in float32; for Keras and as ONNX.

        The folder is written beside its place and then renamed. An earlier saved model there is
        replaced; killed between the two renames, it is left beside as ``.NAME.*.old``.

        Args:
            folder: A new or empty folder, or that of a saved model.
            onnx: Write `model.onnx` too. It takes seconds, and the extra ``train``.

        Raises:
            ModelError: At `folder` is something that is not a saved model.
            ExportError: The ONNX file cannot be made.
            BackendError: Keras or a backend of it is not installed.
        """
        write_model(
            Path(folder),
            self.model,
            self.recipe,
            temperature=self.temperature,
            threshold=self.threshold,
            uncertain=self.uncertain,
            data=self.data,
            onnx=onnx,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        branch: str = "main",
        tag: str | None = None,
        private: bool = False,
        create_pr: bool = False,
        message: str | None = None,
        token: str | None = None,
        onnx: bool = True,
    ) -> str:
        """Send the model to the Hub in one commit, and verify the download.

        It sends the model and its endpoint handler, and leaves the card and all else as they are.
        A run goes with its card, figures and record by ``push_to_hub.py``.

        Args:
            repo_id: ``user/repo``; made if there is none.
            branch: Where the commit goes; made from main if there is none.
            tag: ``vX.Y.Z``, made after verification; never moved.
            private: Make a new repository private; an existing public one is refused.
            create_pr: Open a pull request instead of committing to the branch.
            message: Of the commit.
            token: Access token; the one of ``hf auth login`` or HF_TOKEN by default.
            onnx: As for `save_pretrained`.

        Returns:
            The 40-character commit that holds the model.

        Raises:
            ReleaseError: It cannot be sent, or the download differs.
            ExportError: The ONNX file cannot be made.
            HubUnreachableError: The Hub did not answer.
        """
        from hf_ela.hub.plan import PushOptions
        from hf_ela.hub.push import push_model

        options = PushOptions(branch, tag, private, create_pr, message)
        with TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "model", onnx=onnx)
            return push_model(Path(folder) / "model", repo_id, options, token=token)

    def _predictions(
        self, images: Iterable[ImageSource], batch_size: int, progress: bool, abstain: bool
    ) -> Iterator[list[LabelScore]]:
        # Closed in the end: a refusal that is raised would hold on to it, and to its threads.
        with closing(self.scores(images, batch_size=batch_size)) as scores:
            results: Iterable[float | ImageError] = scores
            if progress:
                from rich.console import Console
                from rich.progress import track

                total = len(images) if isinstance(images, Sequence) else None
                results = track(scores, "Predicting", total, console=Console(stderr=True))
            for score in results:
                if isinstance(score, ImageError):
                    raise score
                entries = [LabelScore(label="fake", score=score)]
                entries.append(LabelScore(label="real", score=1 - score))
                if self.label(score) == "real":
                    entries.reverse()
                if abstain and self.is_uncertain(score):
                    entries.insert(0, LabelScore(label="uncertain", score=entries[0]["score"]))
                yield entries


def _is_one(images: object) -> bool:
    one = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray)
    return isinstance(images, one) or hasattr(images, "read") or not isinstance(images, Iterable)
