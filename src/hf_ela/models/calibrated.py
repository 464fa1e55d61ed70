"""What a probability means: a label, whether it is certain, and an answer in words."""

from dataclasses import asdict
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from typing_extensions import TypedDict  # pydantic needs it until Python 3.12

from hf_ela.models.score import LabelScore, Score

Probability = Annotated[float, Field(ge=0, le=1)]


class FrequencyRow(TypedDict):
    """Held-out images with scores above those of the row before, up to `up_to`.

    `fake` is the share that was AI-generated, each class weighted as if there were equally many of
    both; `n` counts the scores, of an image as it is and aligned where it has both.
    """

    up_to: Probability
    fake: Probability
    n: Annotated[int, Field(ge=0)]


SourcesKnown = Literal["known", "unseen"]
"""Whether the sources of images were trained on."""
Frequencies = dict[SourcesKnown, list[FrequencyRow]]
"""Rows by score, from 0 to 1."""
_SOURCES = {"known": "from sources it was trained on", "unseen": "from sources it had never seen"}


class Calibrated:
    """A model's own temperature, threshold and uncertain band, and what it says with them.

    Attributes:
        temperature: The logit of an image is divided by it.
        threshold: Probability of fake from which on an image is called fake.
        uncertain: Lowest and highest probability of fake, around the threshold, for which the model
            abstains; None for a model that always answers. `hf_ela.evaluation.calibration` fits it.
        false_alarms: Thresholds at which at most a share of the human-made validation images is
            called fake, by that share as text: ``{"0.05": 0.748, ...}``; none for some models.
        frequencies: How often held-out images with such a score were fake; none for some models.
    """

    temperature: float
    threshold: float
    uncertain: tuple[float, float] | None
    false_alarms: dict[str, float]
    frequencies: Frequencies

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Return the probabilities of fake of uncalibrated logits: float64, the same shape."""
        return sigmoid(logits, self.temperature)

    def threshold_for(self, max_false_alarms: float | None) -> float:
        """Return the lowest threshold for a share of human-made images called fake, or the model's.

        Args:
            max_false_alarms: Largest share, in validation, below 1; None for the model's own
                threshold.

        Raises:
            ValueError: The model has no threshold for so small a share.
        """
        if max_false_alarms is None:
            return self.threshold
        found = [
            one for share, one in self.false_alarms.items() if float(share) <= max_false_alarms < 1
        ]
        if not found:
            known = ", ".join(self.false_alarms)
            raise ValueError(
                "`max_false_alarms` must be a share for which this model has a threshold: "
                f"{known or 'it has none'}. Received: {max_false_alarms:g}."
            )
        return min(found)

    def label(self, score: float, threshold: float | None = None) -> str:
        """Return ``fake`` for a probability of fake at or above the threshold, else ``real``."""
        return "fake" if score >= (self.threshold if threshold is None else threshold) else "real"

    def is_uncertain(self, score: float, threshold: float | None = None) -> bool:
        """Return whether a probability of fake lies in the band `uncertain`, ends included.

        So does every `Score` with a doubt, and, under a threshold above the model's, what only the
        model's would call fake.
        """
        if getattr(score, "doubt", "") or self.threshold <= score < (threshold or 0):
            return True
        return self.uncertain is not None and self.uncertain[0] <= score <= self.uncertain[1]

    def frequency(self, score: float) -> str:
        """Return how often held-out images with such a score were fake, as a sentence, or "".

        A `Score` with a doubt has none: its image is unlike those images.
        """
        if getattr(score, "doubt", ""):
            return ""
        found = [
            (_SOURCES[sources], f"about {round(100 * row['fake'])}")
            for sources, rows in self.frequencies.items()
            if (row := next((row for row in rows if score <= row["up_to"]), None))
        ]
        if not found:
            return ""
        (sources, count), *others = found
        more = "".join(f"; {sources}, {count}" for sources, count in others)
        return (
            f"Of 100 pictures with such a score {sources}, {count} were AI-generated{more}. "
            "Measured on held-out pictures, weighted as if half of all were AI-generated."
        )

    def answer(
        self, score: float, *, threshold: float | None = None, abstain: bool = False
    ) -> list[LabelScore]:
        """Return the answer in words for a probability of fake.

        The scores of the entries are moved with the threshold to .5, so that the label decided on
        has the larger one. What else the first entry holds, `LabelScore` says.

        Args:
            score: Calibrated probability of fake, such as from `scores`.
            threshold: Probability from which on an image is called fake; that of the model by
                default.
            abstain: As for `predict`.
        """
        uncertain = abstain and self.is_uncertain(score, threshold)
        if threshold is None or uncertain:  # it leans where the model does
            threshold = self.threshold
        fake = about_half(score, threshold)
        entries = [LabelScore(label="fake", score=fake), LabelScore(label="real", score=1 - fake)]
        if self.label(score, threshold) == "real":
            entries.reverse()
        if uncertain:
            entries.insert(0, LabelScore(label="uncertain", score=entries[0]["score"]))
        if isinstance(score, Score):
            if score.doubt:
                entries[0]["reason"] = score.doubt
            if score.info and score.info.claims:
                entries[0]["claims"] = [*map(asdict, score.info.claims)]
        return entries


def about_half(score: float, threshold: float) -> float:
    """Return a probability with its odds divided by those of the threshold, which becomes .5."""
    fake, real = score * (1 - threshold), (1 - score) * threshold
    if not fake + real:  # a score of 0 or 1 at a threshold of the same
        return 0.5
    shown = float(fake / (fake + real))
    return max(shown, 0.5) if score >= threshold else min(shown, 0.5)  # not moved by rounding


def sigmoid(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the probability of fake of logits (log odds of fake), divided by the temperature."""
    # The logistic function, written so that no logit overflows.
    return np.asarray(np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64) / temperature)))
