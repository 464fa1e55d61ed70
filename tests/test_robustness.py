"""The robustness table: rows that are those of a plain evaluation, mistakes that show."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bad_files import encode
from conftest import picture
from hf_ela._text import perturbation_label
from hf_ela.backend import keras
from hf_ela.classifier import ElaClassifier
from hf_ela.errors import DataError, NotAnImageError
from hf_ela.evaluation import plots
from hf_ela.evaluation.intervals import measure
from hf_ela.evaluation.robustness import (
    CROP,
    JPEG_QUALITIES,
    NOISE,
    SUITE,
    WEBP_QUALITY,
    BalancedSample,
    crop,
    load_aligned,
    measure_robustness,
)
from hf_ela.recipes.loading import load_recipe

LABELS = [1, 0] * 8


@pytest.fixture(scope="module")
def classifier() -> ElaClassifier:
    """Calls an image fake whose error level is low, as that of the blown-up noise is."""
    overrides = [
        "input.size=32", "input.grid=2", "ela.qualities=[80]", "ela.signed=false",
        "ela.color=RGB", "ela.with_pixels=false", "network.patch=4", "network.widths=[4]",
        "network.blocks=1",
    ]  # fmt: skip
    dense = keras.layers.Dense(2, activation="softmax")
    layers = [keras.Input((32, 32, 3), dtype="uint8"), keras.layers.Rescaling(1.0)]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), dense])
    dense.set_weights([np.array([[-0.1, 0.1]] * 3), np.array([6.0, -6.0])])
    return ElaClassifier(model, load_recipe("scratch", overrides), threshold=0.5)


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [encode(picture(seed, fake=bool(label)), "PNG") for seed, label in enumerate(LABELS)]


@pytest.fixture(scope="module")
def table(classifier, images):
    return measure_robustness(classifier, images, LABELS, resamples=100)


def row(table, name):
    (found,) = (row for row in table["rows"] if row["perturbation"] == name)
    return found


def test_there_is_a_row_for_each_perturbation(table) -> None:
    assert [row["perturbation"] for row in table["rows"]] == ["none", *SUITE]
    assert (table["n"], table["threshold"]) == (16, 0.5)
    # The classifier is good enough for mistakes to show, and something changes its answers.
    plain = row(table, "none")
    assert plain["balanced_accuracy"]["value"] > 0.8
    assert plain["loss"] == 0
    assert max(row["loss"] for row in table["rows"]) > 0.2


def test_the_unperturbed_row_is_the_plain_evaluation(classifier, images, table) -> None:
    cells = measure(LABELS, list(classifier.scores(images)), classifier.threshold, resamples=100)
    for metric in ("balanced_accuracy", "recall", "specificity", "roc_auc"):
        assert row(table, "none")[metric] == pytest.approx(cells[metric])


def test_a_row_is_that_of_files_saved_so(classifier, images, table) -> None:
    saved = [encode(Image.open(BytesIO(image)), "JPEG", quality=50) for image in images]
    cells = measure(LABELS, list(classifier.scores(saved)), classifier.threshold, resamples=100)
    found = row(table, "jpeg_50")
    for metric in ("balanced_accuracy", "roc_auc"):
        assert found[metric] == pytest.approx(cells[metric])
    before = row(table, "none")["balanced_accuracy"]["value"]
    assert found["loss"] == pytest.approx(before - cells["balanced_accuracy"]["value"])


SOME = {"perturbations": ["jpeg_50", "blur"], "resamples": 100}


def test_the_threshold_is_that_of_the_classifier(classifier, images, table) -> None:
    eager = ElaClassifier(classifier.model, classifier.recipe, threshold=0.0)
    found = measure_robustness(eager, images, LABELS, **SOME)
    assert [row["perturbation"] for row in found["rows"]] == ["none", *SOME["perturbations"]]
    for one in found["rows"]:
        assert (one["recall"]["value"], one["specificity"]["value"]) == (1, 0)
        assert one["roc_auc"] == row(table, one["perturbation"])["roc_auc"]


def test_exchanged_labels_turn_every_row_round(classifier, images, table) -> None:
    turned = measure_robustness(classifier, images, [1 - label for label in LABELS], **SOME)
    for other in turned["rows"]:
        one = row(table, other["perturbation"])
        for metric in ("balanced_accuracy", "roc_auc"):
            assert one[metric]["value"] == pytest.approx(1 - other[metric]["value"])


def test_aligned_images_are_aligned_first(classifier, images) -> None:
    aligned = {"base": "aligned", "perturbations": []}
    found = row(measure_robustness(classifier, images, LABELS, **aligned), "none")
    scores = list(classifier.scores([load_aligned(image) for image in images]))
    cells = measure(LABELS, scores, classifier.threshold)
    assert found["roc_auc"] == pytest.approx(cells["roc_auc"])
    assert found["recall"] == pytest.approx(cells["recall"])


@pytest.mark.parametrize("labels", [[1] * 16, [2, 0] * 8, []])
def test_labels_without_both_classes_are_refused(classifier, images, labels) -> None:
    with pytest.raises(DataError, match="both classes, labelled 1"):
        measure_robustness(classifier, images[: len(labels)], labels)


def test_labels_of_another_number_are_refused(classifier, images) -> None:
    with pytest.raises(ValueError, match="16 images and 2 labels"):
        measure_robustness(classifier, images, [1, 0])


def test_a_refused_image_is_an_error(classifier, images) -> None:
    with pytest.raises(NotAnImageError):
        measure_robustness(classifier, [images[0], b"no image"], [1, 0])


# ------------------------------------------------------------------------------------ the sample


def drawn(contents: list[bytes], labels: list[int], most: int) -> BalancedSample:
    sample = BalancedSample(most)
    for content, label in zip(contents, labels, strict=True):
        sample.add(content, label)
    return sample


def test_a_sample_is_balanced_bounded_and_the_same_in_any_order() -> None:
    contents = [f"image {number}".encode() for number in range(60)]
    labels = [int(number < 50) for number in range(60)]
    images, found = drawn(contents, labels, 12).balanced()
    assert (len(set(images)), sum(found)) == (12, 6)
    assert [labels[contents.index(image)] for image in images] == found
    order = np.random.default_rng(0).permutation(60)
    again = drawn([contents[i] for i in order], [labels[i] for i in order], 12).balanced()
    assert again == (images, found)
    assert sum(drawn(contents, labels, 100).balanced()[1]) == 10  # as many as there are real ones
    assert drawn(contents[:50], labels[:50], 12).balanced() == ([], [])


def test_a_sample_goes_by_the_key_that_it_is_given() -> None:
    sample = BalancedSample(2)
    for content, label, key in ((b"a", 1, "2"), (b"b", 1, "1"), (b"c", 0, "3")):
        sample.add(content, label, key)
    assert sample.balanced() == ([b"b", b"c"], [1, 0])


# -------------------------------------------------------------------------------------- the plot


def test_the_plot_shows_one_table_or_two(table, classifier, images, tmp_path) -> None:
    other = measure_robustness(classifier, images, [1 - label for label in LABELS], **SOME)
    shown = {"one": {"a": table}, "again": {"a": table}, "two": {"a": table, "b": other}}
    pixels = {}
    for name, tables in shown.items():
        plots.robustness_table(tables, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            pixels[name] = np.asarray(image.convert("RGB"))
    assert (pixels["one"] == pixels["again"]).all()
    assert (pixels["one"] != pixels["two"]).any()
    assert 700 <= pixels["one"].shape[1] <= 2000


# ----------------------------------------------------------------------------- the perturbations

IMAGE = picture(3, fake=True, side=96)


def saved(image: Image.Image, image_format: str, quality: int) -> np.ndarray:
    file = BytesIO(encode(image, image_format, quality=quality))
    return np.asarray(Image.open(file).convert("RGB"))


def test_the_suite_is_what_tables_of_other_models_were_made_with() -> None:
    assert list(SUITE) == [
        *(f"jpeg_{quality}" for quality in (100, 95, 90, 80, 70, 60, 50, 40, 30)),
        "rescale_0.5", "rescale_0.75", "rescale_1.25", "rescale_1.5",
        "blur", "noise", "webp", "crop", "square_crop", "double_jpeg", "screenshot",
    ]  # fmt: skip
    assert [perturbation_label(name) for name in ("jpeg_50", "double_jpeg", "webp")] == [
        "JPEG 50", "double JPEG", "WebP",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SUITE)
def test_a_perturbation_gives_a_changed_image_always_the_same(name) -> None:
    before = IMAGE.tobytes()
    once, again = SUITE[name](IMAGE), SUITE[name](Image.fromarray(np.array(IMAGE)))
    assert once.mode == "RGB"
    assert (once.size, once.tobytes()) == (again.size, again.tobytes())
    assert once.tobytes() != before
    assert IMAGE.tobytes() == before


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(sorted(SUITE)))
def test_no_image_is_too_small(width, height, name) -> None:
    changed = SUITE[name](Image.new("RGB", (width, height), (10, 200, 90)))
    assert min(changed.size) >= 1


def test_saved_images_are_what_pillow_gives() -> None:
    for quality in JPEG_QUALITIES:
        assert (np.asarray(SUITE[f"jpeg_{quality}"](IMAGE)) == saved(IMAGE, "JPEG", quality)).all()
    assert (np.asarray(SUITE["webp"](IMAGE)) == saved(IMAGE, "WEBP", WEBP_QUALITY)).all()
    once = Image.fromarray(saved(IMAGE, "JPEG", 75))
    assert (np.asarray(SUITE["double_jpeg"](IMAGE)) == saved(once, "JPEG", 90)).all()


def test_rescale_multiplies_both_sides() -> None:
    wide = Image.new("RGB", (200, 120))
    for factor in (0.5, 0.75, 1.25, 1.5):
        assert SUITE[f"rescale_{factor:g}"](wide).size == (200 * factor, 120 * factor)


def test_crop_is_the_middle_off_the_jpeg_grid() -> None:
    y, x = np.mgrid[:200, :240].astype(np.uint8)
    kept = np.asarray(crop(Image.fromarray(np.dstack([x, y, x]))))
    left, top = (int(value) for value in kept[0, 0, :2])
    assert kept.shape[:2] == (200 * CROP, 240 * CROP)
    assert (left % 8, top % 8) == (4, 4)
    assert abs(left - 24) <= 8
    assert abs(top - 20) <= 8


def test_a_square_crop_leaves_no_shape_and_is_the_crop_of_a_square() -> None:
    assert (np.asarray(SUITE["square_crop"](IMAGE)) == np.asarray(crop(IMAGE))).all()
    y, x = np.mgrid[:100, :240].astype(np.uint8)
    kept = np.asarray(SUITE["square_crop"](Image.fromarray(np.dstack([x, y, x]))))
    assert kept.shape[:2] == (80, 80)
    left, top = (int(value) for value in kept[0, 0, :2])
    assert (left, top) == (84, 12)  # 80 and 10 would be in the middle, on the grid


def test_noise_has_its_strength_and_is_another_for_another_image() -> None:
    grey, brighter = (Image.new("RGB", (200, 200), (level,) * 3) for level in (128, 129))
    added = np.asarray(SUITE["noise"](grey), float) - 128
    assert added.std() == pytest.approx(NOISE, rel=0.03)
    assert abs(added.mean()) < 0.1
    other = np.asarray(SUITE["noise"](brighter), float) - 129
    assert abs(np.corrcoef(added.ravel(), other.ravel())[0, 1]) < 0.05


def test_screenshot_is_smaller_by_an_odd_factor_and_cut() -> None:
    assert SUITE["screenshot"](Image.new("RGB", (400, 300))).size == (332 - 6, 249 - 10)
