"""Prediction: the score, the order of an answer, images in any form, batches, refusals."""

import copy
import io
import math
import sys
import threading
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bad_files import encode, picture
from hf_ela import ElaClassifier
from hf_ela.ela.views import evaluation_views
from hf_ela.errors import ImageNotReadableError, ImageTooLargeError, ModelError, NotAnImageError
from hf_ela.models.calibrated import about_half, sigmoid
from hf_ela.models.detector import image_logits, keras_probabilities
from hf_ela.models.score import Score
from networks import CROPS, classifier_of, crops_classifier, images

THRESHOLD = 0.4  # of the classifiers here


def fake_scores(predictions: Any) -> list[float]:
    """Return the probabilities behind answers, which move the threshold to one half."""
    shown = [entry["score"] for one in predictions for entry in one if entry["label"] == "fake"]
    return [about_half(score, 1 - THRESHOLD) for score in shown]


@pytest.fixture(scope="module", params=["onnx", "keras"])
def classifier(request, saved_crops) -> ElaClassifier:
    return ElaClassifier.from_pretrained(saved_crops, runtime=request.param)


class TestPredict:
    def test_is_the_mean_logit_over_the_temperature(self, classifier) -> None:
        image = picture(200, 100)
        views = evaluation_views(image, CROPS, "as_is", key="")
        assert views.shape == (4, 32, 32, 9)
        probabilities = np.asarray(crops_classifier().model(views), np.float64)
        logits = [math.log(fake) - math.log(real) for fake, real in probabilities]
        expected = 1 / (1 + math.exp(-np.mean(logits) / 1.7))
        assert 0.01 < expected < 0.99
        assert fake_scores([classifier.predict(image)]) == pytest.approx([expected], abs=1e-4)
        assert sum(entry["score"] for entry in classifier.predict(image)) == pytest.approx(1)

    def test_the_first_entry_is_the_label_by_the_threshold(self, classifier) -> None:
        predictions = classifier.predict(images(16))
        scores = [*classifier.scores(images(16))]
        assert min(scores) < 0.4 <= max(scores)
        for score, answer in zip(scores, predictions, strict=True):
            assert [entry["label"] for entry in answer][score < 0.4] == "fake"
            assert answer[0]["label"] == classifier.label(score)
            assert answer == classifier.answer(score)
            assert answer[0]["score"] >= 0.5
        assert [classifier.label(score) for score in (0.39, 0.4, 1.0)] == ["real", "fake", "fake"]

    def test_the_order_of_an_answer(self) -> None:
        unsure = ElaClassifier(crops_classifier().model, CROPS, 1.7, 0.4, (0.3, 0.6))
        fake, real = (
            {"label": "fake", "score": 0.6},
            {"label": "real", "score": 0.4},
        )  # odds 1.5 : 1
        assert unsure.answer(0.5) == [fake, pytest.approx(real)]
        assert unsure.answer(0.4) == [{**fake, "score": 0.5}, {**real, "score": 0.5}]
        assert [entry["label"] for entry in unsure.answer(0.5, threshold=0.51)] == ["real", "fake"]
        uncertain = {"label": "uncertain", "score": 0.6}
        assert unsure.answer(0.5, abstain=True) == [uncertain, fake, pytest.approx(real)]
        assert [len(unsure.answer(s, abstain=True)) for s in (0.29, 0.3, 0.6, 0.61)] == [2, 3, 3, 2]
        # Whatever the threshold, the entries are sorted by score.
        for score, threshold in product(np.linspace(0, 1, 21).tolist(), (0, 0.1, 0.5, 0.77, 1)):
            first, second = unsure.answer(score, threshold=threshold)
            assert first["score"] >= second["score"]
            assert first["label"] == unsure.label(score, threshold)

    def test_a_score_in_words_of_frequency(self) -> None:
        known = ElaClassifier(crops_classifier().model, CROPS)
        assert known.frequency(0.2) == ""
        known.frequencies = {"known": [{"up_to": 0.3, "fake": 0.041, "n": 80}]}
        held_out = " Measured on held-out pictures, weighted as if half of all were AI-generated."
        first = "Of 100 pictures with such a score from sources it was trained on, about 4 were "
        assert known.frequency(0.3) == f"{first}AI-generated.{held_out}"
        assert known.frequency(0.31) == ""
        known.frequencies["unseen"] = [{"up_to": 1.0, "fake": 0.125, "n": 50}]
        both = "AI-generated; from sources it had never seen, about 12."
        assert known.frequency(0.3) == f"{first}{both}{held_out}"
        assert known.frequency(Score(0.3, "too small")) == ""

    def test_abstains_only_when_asked_and_only_in_the_band(self) -> None:
        certain, many = crops_classifier(), images(4)
        plain = certain.predict(many)
        ordered = sorted(certain.scores(many))
        band = (min(ordered[1], 0.4), max(ordered[2], 0.4))  # its ends belong to it
        unsure = ElaClassifier(certain.model, CROPS, 1.7, 0.4, band)
        assert unsure.predict(many) == plain
        found = unsure.predict(many, abstain=True)
        for answer, score in zip(found, unsure.scores(many), strict=True):
            assert answer == unsure.answer(score, abstain=True)
            assert unsure.is_uncertain(score) == (band[0] <= score <= band[1])
        assert 2 <= sum(answer[0]["label"] == "uncertain" for answer in found) < 4
        alone = unsure.predict(many[0], abstain=True)
        assert [entry["label"] for entry in alone] == [entry["label"] for entry in found[0]]
        assert list(unsure.predict(iter(many), abstain=True)) == found
        # A model without a band always decides.
        assert certain.predict(many, abstain=True) == plain

    @given(number=st.integers(1, 7), batch_size=st.integers(1, 8))
    def test_batches_change_nothing(self, classifier, number, batch_size) -> None:
        many = classifier.predict(images(number), batch_size=batch_size)
        one_by_one = [classifier.predict(image) for image in images(number)]
        assert fake_scores(many) == pytest.approx(fake_scores(one_by_one), abs=1e-6)
        assert len({round(score, 4) for score in fake_scores(many)}) == number

    def test_of_nothing_there_is_no_certain_answer_by_keras_either(self) -> None:
        certain, many = crops_classifier(), [Image.new("RGB", (300, 200)), picture()]
        found = certain.predict(many, abstain=True)
        assert [answer[0]["label"] == "uncertain" for answer in found] == [True, False]
        blank, other = certain.predict(many)
        assert blank[0].pop("reason") == found[0][0]["reason"]
        assert [blank, other] == [found[0][1:], found[1]]

    def test_an_image_that_does_not_fit_in_memory_is_refused(self) -> None:
        class Hungry(ElaClassifier):
            def views(self, image: Image.Image) -> np.ndarray:
                return np.empty(2**60, np.uint8) if image.width == 99 else super().views(image)

        hungry = Hungry(crops_classifier().model, CROPS)
        first, second = hungry.scores([encode(picture(99, 60), "PNG"), picture()])
        assert isinstance(first, ImageTooLargeError)
        assert first.reason == "does not fit in memory"
        assert isinstance(second, float)
        with pytest.raises(ImageTooLargeError, match="fit in memory"):
            hungry.explain(picture(99, 60))

    def test_takes_one_image_of_every_kind(self, classifier, tmp_path) -> None:
        image = picture()
        data = encode(image, "PNG")
        path = tmp_path / "a.png"
        path.write_bytes(data)
        kinds: list[Any] = [str(path), path, data, bytearray(data), memoryview(data)]
        kinds += [io.BytesIO(data), image, np.asarray(image), {"bytes": data, "path": None}]
        expected = classifier.predict(image)
        assert [classifier.predict(kind) for kind in kinds] == [expected] * len(kinds)
        with path.open("rb") as file:
            assert classifier.predict(file) == expected
        assert list(classifier.scores(str(path))) == pytest.approx(fake_scores([expected]))

    def test_is_shown_in_a_line(self, classifier, saved_crops) -> None:
        expected = f"ElaClassifier({str(saved_crops)!r}, recipe={classifier.recipe.name!r}, "
        assert repr(classifier) == f"{expected}threshold={classifier.threshold:.3f})"

    def test_gives_a_list_for_a_list(self, classifier) -> None:
        expected = [classifier.predict(picture())]
        assert classifier.predict([picture()]) == expected
        assert classifier.predict((picture(),)) == expected
        assert classifier.predict([]) == []

    def test_draws_one_batch_at_a_time(self, classifier) -> None:
        drawn = 0

        def endless() -> Iterator[bytes]:
            nonlocal drawn
            while True:
                drawn += 1
                yield encode(picture(seed=drawn), "PNG")

        results = classifier.predict(endless(), batch_size=3)
        assert drawn == 0
        found = []
        for number in range(1, 8):
            found.append(next(results))
            assert drawn == -(-number // 3) * 3
        expected = classifier.predict([picture(seed=i) for i in (1, 2, 3)], batch_size=3)
        assert found[:3] == expected

    def test_raises_the_refusal_of_an_image(self, classifier) -> None:
        with pytest.raises(ImageNotReadableError, match=r"^missing\.png: "):
            classifier.predict("missing.png")
        with pytest.raises(ImageNotReadableError, match=r"^missing\.png: "):
            classifier.predict([picture(), "missing.png"])
        results = classifier.predict(iter([picture(), b"text, not an image", picture()]))
        first, alone = fake_scores([next(results), classifier.predict(picture())])
        assert first == pytest.approx(alone)
        with pytest.raises(NotAnImageError):
            next(results)

    def test_scores_gives_refusals_in_place(self, classifier) -> None:
        files = [encode(image, "PNG") for image in images(5)]
        sources = [b"text, not an image", *files[:3], "missing.png", *files[3:], images(1)[0]]
        expected = fake_scores(classifier.predict(file) for file in files)
        for batch_size in (1, 3, 32):
            found = list(classifier.scores(sources, batch_size=batch_size))
            assert [type(found[i]) for i in (0, 4)] == [NotAnImageError, ImageNotReadableError]
            scores = [score for score in found if isinstance(score, float)]
            assert scores == pytest.approx([*expected, expected[0]], abs=1e-6)

    def test_refuses_what_is_no_image(self, classifier) -> None:
        with pytest.raises(TypeError, match="Received: int"):
            classifier.predict(5)
        with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
            classifier.predict([picture()], batch_size=0)

    def test_shows_progress_on_a_terminal(self, classifier, monkeypatch, capsys) -> None:
        quiet = classifier.predict(images(2))
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", terminal)
        assert classifier.predict(images(2), progress=True) == quiet
        assert "Predicting" in terminal.getvalue()
        assert capsys.readouterr() == ("", "")

    def test_no_thread_is_left(self, classifier) -> None:
        file = encode(picture(), "PNG")
        started = threading.active_count()
        for sources in ([file] * 50, iter([file] * 50)):
            results = classifier.scores(sources, batch_size=20)
            next(results)
            assert threading.active_count() > started
            del results  # abandoned
            assert threading.active_count() == started
        with pytest.raises(NotAnImageError) as refused:  # the error holds on to what raised it
            classifier.predict([file] * 30 + [b"no image"] + [file] * 30)
        assert threading.active_count() == started
        assert refused.value.name == "<bytes>"


def test_a_classifier_in_memory_is_copied() -> None:
    made = crops_classifier()
    again = copy.copy(made)
    assert again.model is made.model
    assert again.predict(picture()) == made.predict(picture())


def test_both_runtimes_agree_within_a_ten_thousandth(saved_crops, saved_resized, pictures) -> None:
    sources: list[Any] = images(16)
    sources += pictures
    for folder in (saved_crops, saved_resized):
        by_onnx, by_keras = (
            ElaClassifier.from_pretrained(folder, runtime=runtime) for runtime in ("onnx", "keras")
        )
        scores = [list(one.scores(sources)) for one in (by_onnx, by_keras)]
        assert np.abs(np.subtract(*scores)).max() < 1e-4
        assert np.ptp(scores[0]) > 0.1
        assert len({round(score, 6) for score in scores[0]}) == len(sources)
        assert by_onnx.explain(sources[0]).scores == pytest.approx(
            by_keras.explain(sources[0]).scores, abs=1e-4
        )


class TestImageLogits:
    @pytest.fixture(scope="class")
    @classmethod
    def views(cls) -> list[np.ndarray]:
        return [evaluation_views(image, CROPS, "as_is", key="") for image in images(5)]

    def test_is_what_predict_is_built_on(self, views) -> None:
        classifier = crops_classifier()
        probabilities = keras_probabilities(classifier.model)
        logits = image_logits(probabilities, views, batch_size=2)
        assert logits.dtype == np.float64
        scores = fake_scores(classifier.predict(images(5), batch_size=2))
        assert scores == pytest.approx((1 / (1 + np.exp(-logits / 1.7))).tolist(), rel=1e-12)
        assert image_logits(probabilities, iter(views), batch_size=2).tolist() == logits.tolist()
        assert image_logits(probabilities, []).shape == (0,)

    def test_stays_finite_when_the_softmax_is_saturated(self, views) -> None:
        sure = classifier_of(CROPS, temperature=0.05)
        *_, bias = sure.model.weights
        for sign, score in ((1, 1.0), (-1, 0.0)):
            bias.assign([sign * 1e4, 0])
            (logit,) = image_logits(keras_probabilities(sure.model), views[:1])
            assert logit == pytest.approx(sign * 87.3, abs=0.1)
            assert fake_scores([sure.predict(picture())]) == [score]
        bias.assign([np.nan, 0])
        with pytest.raises(ModelError, match="training diverged: train again"):
            sure.predict(picture())

    def test_no_logit_overflows(self) -> None:
        with np.errstate(all="raise", under="ignore"):
            found = sigmoid([-1e6, 0, 1e6, 2], temperature=0.5)
        assert found == pytest.approx([0, 0.5, 1, 1 / (1 + math.exp(-4))])


def test_an_image_that_is_opened_is_left_open(saved_crops, tmp_path) -> None:
    picture().save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        answer = ElaClassifier.from_pretrained(saved_crops).predict(image)
        assert answer == ElaClassifier.from_pretrained(saved_crops).predict(tmp_path / "a.png")
        assert image.getpixel((0, 0)) is not None
