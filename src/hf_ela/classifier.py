"""Predict with a saved model: images in, calibrated probabilities out."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from hf_ela._threads import thread_count
from hf_ela.errors import ModelError
from hf_ela.hub.locate import locate
from hf_ela.images.sources import ImageSource, is_one_image
from hf_ela.models.detector import Detector
from hf_ela.models.folder import read_model, read_network, write_model
from hf_ela.models.onnx_runtime import OnnxModel, check_providers
from hf_ela.models.score import LabelScore, PredictOptions
from hf_ela.models.settings import Runtime
from hf_ela.recipes.schema import Recipe

if TYPE_CHECKING:
    from hf_ela.backend import keras
    from hf_ela.models.explain import Evidence

OneImage = TypeVar("OneImage", bound=ImageSource)


class ElaClassifier(Detector):
    """Tells AI-generated (``fake``) from human-made (``real``) images.

    Beside the attributes of `Detector`:

    Attributes:
        data: What is recorded of the training data, or None.
        revision: The 40-character commit of the Hub that it was loaded from, or None.
        digest: Of the settings that it was loaded with, which have the checksum of every file.
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
        self._source: str | None = None
        self._find_weights: Callable[[], Path] | None = None
        self._again: dict[str, Any] | None = None
        self.digest = ""

    def __repr__(self) -> str:
        """Return where the model is from, its recipe and its threshold."""
        source = f"{self._source}, " if self._source else ""
        revision = f"revision={self.revision!r}, " if self.revision else ""
        return (
            f"{type(self).__name__}({source}{revision}recipe={self.recipe.name!r}, "
            f"threshold={self.threshold:.3f})"
        )

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
        threads: int | None = None,
        providers: Sequence[str] | None = None,
    ) -> Self:
        """Load a model from the Hub, or what `save_pretrained` wrote.

        Two files are downloaded from one commit (`revision` of the result names it): the settings,
        and either the ONNX network or the weights. Both are validated first. No code of the
        repository is run, and nothing is unpickled. Offline, the client's cache is used: a commit
        is the same as online, a branch or tag is what it was when last loaded.

        Args:
            source: ``user/repo`` on the Hub, or a saved folder, or a run folder, whose `weights/`
                is loaded. An existing folder takes precedence over a repository of that name; a
                `Path` is always a folder. None loads the model that comes with this package, a
                research baseline; its card lies beside it, see `hf_ela.hub.locate.packaged_model`.
            revision: Branch, tag or commit of the repository; the head of main by default.
            token: Access token of the Hub; by default that of ``hf auth login`` or HF_TOKEN.
            cache_dir: Where downloads are kept; by default the cache of `huggingface_hub`.
            local_files_only: Use only the local cache.
            runtime: ``onnx`` or ``keras``; by default ONNX where the model was saved with it, which
                does not need Keras and starts in a fraction of its time. The scores differ by less
                than 1e-4.
            threads: How many threads read and score images, and the network of one image, up to 8.
                By default OMP_NUM_THREADS, or all cores that this process and its container may
                use. Scores do not depend on it. A backend of Keras has a setting of its own.
            providers: What ONNX Runtime computes with, by its own names in order of preference,
                such as ``["CUDAExecutionProvider"]``. A warning names what is missing, and the CPU
                computes, as by default.

        Raises:
            ValueError: `threads` is below 1; or ONNX Runtime knows no such provider, or is not
                what runs the model.
            ModelNotFoundError: The repository or the revision does not exist or is not visible to
                this token; or this package was built without a model.
            ModelError: The folder does not exist or does not hold a usable model: settings are
                missing, corrupt or of a newer hf-ela, or the weights or the ONNX file are missing,
                corrupt or of another network.
            HubUnreachableError: The Hub did not answer, and the cache does not hold the model.
            BackendError: The Keras runtime was requested, and Keras or its backend is not
                installed.
        """
        thread_count(threads)  # refused before anything is downloaded
        check_providers(providers)
        find = partial(
            locate, source, token=token, cache_dir=cache_dir, local_files_only=local_files_only
        )
        folder, commit = find(revision=revision, runtime=runtime)
        model, settings = read_model(folder, runtime, threads, providers)
        found = cls.from_settings(model, settings)
        found.data, found.revision, found.threads = settings.data, commit, threads
        found._source = repr("packaged model" if source is None else os.fspath(source))
        # From the same commit, even if the branch has moved on.
        found._find_weights = lambda: find(revision=commit, runtime="keras")[0]
        found._again = {
            "source": source if commit or source is None else folder.absolute(),
            "revision": commit,
            "cache_dir": cache_dir,
            "runtime": runtime,
            "threads": threads,
            "providers": providers,
        }
        found.digest = sha256(settings.model_dump_json().encode()).hexdigest()
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy what was loaded as where it is from, with the digest of its settings.

        The settings hold the checksum of every other file. A token is never part of it.
        """
        if self._again is None:  # a network in memory
            return object.__new__, (type(self),), vars(self)
        kept = ("temperature", "threshold", "uncertain")
        state = {name: vars(self)[name] for name in kept}
        return _load_again, (type(self), self._again, self.digest), state

    def _read_network(self) -> "keras.Model":
        """Load, and download if needed, the Keras network of a model that runs as ONNX."""
        if self._find_weights is None:
            return super()._read_network()
        return read_network(self._find_weights())

    @overload
    def predict(  # type: ignore[overload-overlap]  # a path is iterable too; the first match counts
        self, images: OneImage, **how: Unpack[PredictOptions]
    ) -> list[LabelScore]: ...
    @overload
    def predict(  # type: ignore[overload-overlap]  # as above, a list before any other iterable
        self, images: list[OneImage] | tuple[OneImage, ...], **how: Unpack[PredictOptions]
    ) -> list[list[LabelScore]]: ...
    @overload
    def predict(
        self, images: Iterable[OneImage], **how: Unpack[PredictOptions]
    ) -> Iterator[list[LabelScore]]: ...
    def predict(
        self,
        images: Any,
        *,
        batch_size: int = 32,
        progress: bool = False,
        abstain: bool = False,
        max_false_alarms: float | None = None,
    ) -> list[LabelScore] | list[list[LabelScore]] | Iterator[list[LabelScore]]:
        """Return the probability of each class, in the shape of a ``transformers`` pipeline.

        An image gives ``[{"label": "fake", "score": 0.93}, {"label": "real", "score": 0.07}]``.
        The scores are calibrated probabilities, moved so that the threshold becomes .5. The first
        entry is the predicted label and has the larger score.

        With `abstain`, the answer for an image that `is_uncertain` begins with one more entry,
        ``{"label": "uncertain", "score": 0.58}``, so that the first entry is always the one to act
        upon. Its score is that of the entry after it, and not a probability of being uncertain.
        `LabelScore` says what else the first entry can hold.

        Args:
            images: One image, that is, anything `load_image` takes: a path, bytes, a binary file
                object, a PIL image, a uint8 array, a row of `datasets`. Or a sequence of images,
                which gives a list. Or any other iterable, such as a generator, which gives an
                iterator; it draws `batch_size` images at a time, only when their results are
                requested. Threads decode paths, bytes, arrays and rows; a file object or a PIL
                image is read by the caller.
            batch_size: Images drawn at a time, each with `recipe.evaluation_views` views. The Keras
                runtime scores them in one step.
            progress: Show progress on standard error: a bar, or in a log a line every ten seconds.
            abstain: Answer ``uncertain`` for images for which the model abstains.
            max_false_alarms: Call an image fake from the threshold at which at most this share of
                the human-made validation images was: 0.05, 0.02 or 0.01.

        Raises:
            ValueError: The model has no threshold for `max_false_alarms`.
            ImageError: An image is refused. An iterator raises it in place of the image's result,
                after the results of all images before it. `scores` goes on instead.
            TypeError: An image has none of the types above.
        """
        threshold = self.threshold_for(max_false_alarms)
        answer = partial(self.answer, threshold=threshold, abstain=abstain)
        if is_one_image(images):
            return next(self.answers([images], answer, 1, progress=progress))
        answers = self.answers(images, answer, batch_size, progress=progress)
        return list(answers) if isinstance(images, Sequence) else answers

    def explain(self, image: ImageSource) -> "Evidence":
        """Return the score of each view of an image, and where it lies; `overlay` draws it.

        Raises:
            ImageError: The image is refused.
        """
        from hf_ela.models.explain import evidence

        return evidence(self, image)

    def save_pretrained(self, folder: str | os.PathLike[str], *, onnx: bool = True) -> None:
        """Write the model in float32, without optimizer state, for Keras and as ONNX.

        The folder is written beside its place and then renamed. An earlier saved model is replaced;
        if the process is killed between the two renames, it remains as ``.NAME.*.old``.

        Args:
            folder: A new or empty folder, or that of a saved model.
            onnx: Write `model.onnx` and `network.onnx` too, which takes seconds and requires the
                `train` extra.

        Raises:
            ModelError: `folder` exists and is not a saved model.
            ExportError: The ONNX files cannot be made.
            BackendError: Keras or a backend of it is not installed.
        """
        write_model(Path(folder), self, data=self.data, onnx=onnx)

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

        The commit holds the model and its endpoint handler, and leaves the card and all other files
        unchanged. ``hf-ela push`` sends a run with its card, figures and record.

        Args:
            repo_id: ``user/repo``; created if it does not exist.
            branch: Branch of the commit; created from main if it does not exist.
            tag: ``vX.Y.Z``, created after verification and never moved.
            private: Make a new repository private; an existing public repository is refused.
            create_pr: Open a pull request instead of committing to the branch.
            message: Message of the commit.
            token: Access token; by default that of ``hf auth login`` or HF_TOKEN.
            onnx: As for `save_pretrained`.

        Returns:
            The 40-character commit that holds the model.

        Raises:
            ReleaseError: It cannot be sent, or the download differs.
            ExportError: The ONNX files cannot be made.
            HubUnreachableError: The Hub did not answer.
        """
        from hf_ela.hub.plan import PushOptions
        from hf_ela.hub.push import push_model

        options = PushOptions(branch, tag, private, create_pr, message)
        with TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "model", onnx=onnx)
            return push_model(Path(folder) / "model", repo_id, options, token=token)


def _load_again(kind: type[ElaClassifier], where: dict[str, Any], digest: str) -> ElaClassifier:
    """Load what was pickled, from the same commit or folder.

    Raises:
        ModelError: The folder holds another model now; or as `ElaClassifier.from_pretrained`.
    """
    found = kind.from_pretrained(**where)
    if found.digest != digest:
        place = where["source"] or "The packaged model"
        raise ModelError(f"{place} is not what was pickled. Restore it, or pickle it again.")
    return found
