from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageChops

from bad_files import picture
from conftest import TINY
from hf_ela import ElaClassifier, error_level
from hf_ela.ela.views import Box, evaluation_views, view_boxes
from hf_ela.errors import NotAnImageError
from hf_ela.models.detector import Score, keras_probabilities, view_logits
from hf_ela.models.explain import LEGEND, MOST_CROPS, OVERLAY_SIDE, Evidence, overlay
from hf_ela.recipes.loading import load_recipe
from networks import classifier_of

CROPS = load_recipe("scratch", [*TINY, "input.grid=3"])
SHORTEST = ["input.shortest_side=48"]
RESIZED = load_recipe(
    "scratch",
    [*TINY, "augmentation=none", "input={kind='resize',before=64,size=32,training='as_is'}"],
)


@pytest.fixture(scope="module")
def classifier() -> ElaClassifier:
    return classifier_of(CROPS)


class TestBoxes:
    @pytest.mark.parametrize("size", [(36, 36), (37, 40), (61, 47), (200, 90)])
    def test_each_is_what_its_view_shows(self, size) -> None:
        image = picture(*size)
        views = evaluation_views(image, CROPS, "as_is", key="")
        boxes = view_boxes(size, CROPS)
        assert len(boxes) == len(views) == 9
        for box, view in zip(boxes, views, strict=True):
            part = image.crop((box.x, box.y, box.x + box.width, box.y + box.height))
            expected = error_level(part, CROPS.ela.qualities, **CROPS.ela.settings)
            assert np.array_equal(view, np.concatenate([expected, part], axis=-1))

    def test_of_an_image_smaller_than_a_crop_stay_inside(self) -> None:
        assert view_boxes((20, 50), CROPS)[0] == Box(4, 4, 16, 32)
        assert {(box.x, box.width) for box in view_boxes((20, 50), CROPS)} == {(4, 16)}

    def test_of_a_resized_image_is_all_of_it(self) -> None:
        assert view_boxes((200, 90), RESIZED) == [Box(0, 0, 200, 90)]


class TestEvidence:
    def test_says_whether_the_model_knows(self, classifier) -> None:
        score = classifier.explain(picture(150, 90)).score
        low, high = sorted((score, 0.4))
        for band, uncertain in ((None, False), ((low, high), True)):
            unsure = ElaClassifier(classifier.model, CROPS, 1.7, 0.4, band)
            assert unsure.explain(picture(150, 90)).uncertain is uncertain

    def test_the_score_is_that_of_the_mean_logit(self, classifier) -> None:
        image = picture(150, 90)
        found = classifier.explain(image)
        views = evaluation_views(image, CROPS, "as_is", key="")
        (logits,) = view_logits(keras_probabilities(classifier.model), [views])
        assert found.score == next(iter(classifier.scores([image])))
        assert found.score == classifier.calibrated(np.array([logits.mean()]))[0]
        assert found.scores == classifier.calibrated(logits).tolist()
        assert found.label == classifier.predict(image)[0]["label"]
        assert len(set(found.scores)) == 9  # or the test would show little

    def test_the_map_is_the_mean_of_crops_that_slide_most_of_those_around_a_pixel(
        self, classifier
    ) -> None:
        image = picture(70, 120)
        found = classifier.explain(image)
        assert (found.map.shape, found.map.dtype) == ((120, 70), np.float32)
        assert len(found.slid) > 2 * len(found.boxes)
        views = [
            np.concatenate([error_level(part, 80, signed=True, color="YCbCr", gain=1.0), part], -1)
            for part in (image.crop((x, y, x + w, y + h)) for x, y, w, h in found.slid)
        ]
        scores = classifier.calibrated(classifier.view_logits(np.stack(views)))
        for x in range(0, 70, 3):
            for y in range(0, 120, 3):
                weights = [
                    np.prod(np.sin(np.pi * (np.array([x - box.x, y - box.y]) + 0.5) / 32) ** 2)
                    * (0 <= x - box.x < 32 and 0 <= y - box.y < 32)
                    for box in found.slid
                ]
                expected = np.average(scores, weights=weights) if any(weights) else np.nan
                assert found.map[y, x] == pytest.approx(expected, abs=1e-5, nan_ok=True)
        assert np.isnan(found.map[:4]).all()  # on the grid

    @pytest.mark.parametrize("size", [(33, 40), (64, 64), (3000, 40), (900, 1200)])
    def test_crops_that_slide_keep_off_the_grid_and_are_few(self, classifier, size) -> None:
        found = classifier.explain(picture(*size))
        shrunk = max(*size, 384) / 384
        assert len(set(found.slid)) == len(found.slid) <= MOST_CROPS
        corners = np.array([[box.x, box.y] for box in found.slid]) / shrunk
        off = np.round(corners / 8 - 0.5) * 8 + 4
        assert np.abs(corners - off).max() <= 0.5  # rounded to whole pixels of the picture
        if size == (64, 64):  # as near to each other as the grid allows
            assert {box.x for box in found.slid} == {box.y for box in found.slid} == {4, 12, 20, 28}

    def test_the_map_has_the_scale_of_the_picture(self) -> None:
        recipe = load_recipe("scratch", [*TINY, "input.longest_side=none", *SHORTEST])
        found = classifier_of(recipe).explain(picture(300, 200))
        assert found.map.shape == (200, 300)
        assert {round(side / 133, 1) for box in found.slid for side in box[2:]} == {1}
        assert np.nanmin(np.abs(np.diff(found.map))) < np.nanmax(np.abs(np.diff(found.map))) < 0.05
        assert np.isfinite(found.map[20:-30, 20:-30]).all()

    def test_where_there_is_nothing_to_see_the_map_says_nothing(self, classifier) -> None:
        image = Image.new("RGB", (240, 160), "white")
        image.paste(picture(120, 160), (120, 0))
        found = classifier.explain(image)
        assert not found.score.doubt
        assert np.isnan(found.map[:, :112]).all()
        assert np.isfinite(found.map[10:-10, 130:-10]).all()
        assert all(box.x + box.width > 120 for box in found.slid)
        left = np.asarray(overlay(found))[: OVERLAY_SIDE // 2, : OVERLAY_SIDE // 3]
        assert (left == left[..., :1]).all()

    @pytest.mark.parametrize("image", [Image.new("RGB", (300, 200), "red"), picture(15, 90)])
    def test_a_picture_in_doubt_has_no_map(self, classifier, image) -> None:
        found = classifier.explain(image)
        assert found.slid == []
        assert np.isnan(found.map).all()
        assert len(found.scores) == 9

    def test_a_resized_image_has_one_view_of_all(self) -> None:
        found = classifier_of(RESIZED).explain(picture(70, 50))
        assert found.boxes == found.slid == [Box(0, 0, 70, 50)]
        assert found.map == pytest.approx(np.full((50, 70), found.score), abs=1e-6)

    def test_the_ela_picture_is_not_dark_for_one_bright_pixel(self, classifier) -> None:
        pixels = np.full((90, 90, 3), 128, np.uint8) + np.arange(90, dtype=np.uint8)[:, None, None]
        pixels[40, 40] = 255, 0, 0
        found = classifier.explain(pixels)
        plain = error_level(pixels, 80)
        assert plain.max() > 50
        assert np.mean(found.ela == 255) > 0.004
        assert (found.ela.dtype, found.ela.shape) == (np.uint8, (90, 90, 3))

    def test_what_is_no_image_is_refused(self, classifier) -> None:
        with pytest.raises(NotAnImageError):
            classifier.explain(b"no image")


class TestOverlay:
    def evidence(self, threshold: float, scores: tuple[float, float], doubt: str = "") -> Evidence:
        seen = np.full((50, 100), np.nan, np.float32)
        seen[:, :40], seen[:, 60:] = scores
        return Evidence(
            image=Image.new("RGB", (100, 50), (200, 200, 200)),
            label="fake",
            score=Score(0.5, doubt),
            uncertain=False,
            threshold=threshold,
            boxes=[Box(0, 0, 40, 50), Box(60, 0, 40, 50)],
            scores=list(scores),
            map=seen,
            slid=[],
            ela_quality=80,
            ela=Image.new("RGB", (100, 50)),
        )

    def test_red_for_fake_blue_for_real_dark_for_unseen(self) -> None:
        drawn = overlay(self.evidence(0.5, (0.95, 0.05)))
        assert drawn.width == OVERLAY_SIDE
        y = drawn.width // 4
        (r, g, b), (r2, g2, b2) = drawn.getpixel((100, y)), drawn.getpixel((OVERLAY_SIDE - 100, y))
        assert r > 190
        assert max(g, b) < 140
        assert b2 > 190
        assert max(r2, g2) < 140
        assert set(drawn.getpixel((OVERLAY_SIDE // 2, y))) == {90}

    def test_where_there_is_nothing_to_see_no_evidence_is_shown(self, classifier) -> None:
        for image in (Image.new("RGB", (300, 200), "red"), picture(9, 9)):
            found = classifier.explain(image)
            assert found.score.doubt
            drawn = np.asarray(overlay(found))
            assert (drawn == drawn[..., :1]).all()  # grey, the legend too
        said, other = (
            overlay(self.evidence(0.5, (0.95, 0.05), doubt)) for doubt in ("too small", "blank")
        )
        assert said.size == other.size
        assert ImageChops.difference(said, other).getbbox()[1] > said.height - LEGEND
        assert not (np.asarray(said)[-LEGEND:] == 255).all()

    @pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0])
    def test_the_colour_turns_at_the_threshold(self, threshold) -> None:
        drawn = overlay(self.evidence(threshold, (threshold, threshold)))
        assert set(drawn.getpixel((100, OVERLAY_SIDE // 4))) == {200}

    def test_the_colours_of_the_picture_do_not_pass_for_evidence(self) -> None:
        found = self.evidence(0.6, (0.6, 0.6))
        red = replace(found, image=Image.new("RGB", (100, 50), (200, 30, 30)))
        assert len(set(overlay(red).getpixel((100, OVERLAY_SIDE // 4)))) == 1

    def test_a_narrow_image_leaves_room_for_the_legend(self) -> None:
        found = self.evidence(0.5, (0.9, 0.1))
        image, seen = Image.new("RGB", (10, 900)), np.zeros((900, 10), "f4")
        drawn = overlay(replace(found, image=image, map=seen))
        assert drawn.width > 300
        assert drawn.height > OVERLAY_SIDE

    @pytest.mark.parametrize("size", [(5000, 1), (1, 5000)])
    def test_the_thinnest_image_is_drawn(self, classifier, size) -> None:
        drawn = overlay(classifier.explain(picture(*size)))
        assert max(drawn.size) >= OVERLAY_SIDE
