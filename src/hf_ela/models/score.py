"""A probability of fake with what is known of its image, and an answer in words."""

from typing import Any, NotRequired, Self, TypedDict

from hf_ela.images.info import ImageInfo


class Score(float):
    """A probability of fake.

    Attributes:
        doubt: Why the image itself allows no certain verdict, whatever the probability; or "".
        info: Facts of the file, and what it claims; None for a probability without an image.
    """

    doubt: str
    info: ImageInfo | None

    def __new__(cls, value: float, doubt: str = "", info: ImageInfo | None = None) -> Self:
        """Attach the reason and the facts to a number."""
        score = super().__new__(cls, value)
        score.doubt, score.info = doubt, info
        return score

    def __getnewargs__(  # type: ignore[override]  # of one number
        self,
    ) -> tuple[float, str, ImageInfo | None]:
        """Pickle and copy it whole."""
        return float(self), self.doubt, self.info


class LabelScore(TypedDict):
    """A class name and its calibrated probability.

    The first entry of an answer has a `reason` if the image allows no certain verdict, and
    `claims`, those of `hf_ela.images.claims`, if the file says how it was made.
    """

    label: str
    score: float
    reason: NotRequired[str]
    claims: NotRequired[list[dict[str, Any]]]


class PredictOptions(TypedDict, total=False):
    """Options of `ElaClassifier.predict`."""

    batch_size: int
    progress: bool
    abstain: bool
    max_false_alarms: float | None
