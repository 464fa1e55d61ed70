"""What is fitted on validation: temperature, bias, threshold, uncertain band; and coverage."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import balanced_accuracy_score

from hf_ela.evaluation.calibration import (
    FEWEST_IN_ROW,
    MOST_UNCERTAIN,
    certainty,
    coverage_curve,
    fit_calibration,
    fit_false_alarms,
    fit_frequencies,
    fit_threshold,
    fit_uncertain,
    is_certain,
    measure_coverage,
    measure_false_alarms,
)
from hf_ela.evaluation.metrics import confusion
from hf_ela.models.calibrated import sigmoid

THRESHOLDS = [0.0, 0.2, 0.35, 0.5, 0.8, 1.0]
# Few different scores: many are tied, on the threshold, or as far from it on both sides.
SCORES = [0.0, 0.1, 0.2, 1 / 3, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95, 1.0]
rows = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(SCORES) | st.floats(0, 1)), max_size=60
)
thresholds = st.sampled_from(THRESHOLDS)
shares = st.sampled_from([0.51, 0.75, 0.9, 1.0])


def arrays(rows: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row[0] for row in rows], int), np.array([row[1] for row in rows], float)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("bias", [-1.5, 0.0, 0.7])
def test_calibration_is_recovered(temperature, bias):
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 2, size=20_000)
    labels = rng.uniform(size=20_000) < expit(true_logits)
    found = fit_calibration(labels, temperature * true_logits - bias)
    assert found == (pytest.approx(temperature, rel=0.05), pytest.approx(bias, abs=0.2))


@given(
    st.lists(st.tuples(st.booleans(), st.floats(-50, 50)), min_size=2, max_size=40),
    st.floats(-2, 2),
    st.floats(0.06, 19),
)
@example([(False, 0.0), (False, -43.0), (True, -4.0)], 0.0, 6.0)  # it stopped on a slope
def test_no_other_calibration_is_likelier(rows, other_bias, other_temperature):
    labels, logits = np.array([label for label, _ in rows]), np.array([x for _, x in rows])

    def loss(temperature, bias):
        return np.logaddexp(0, np.where(labels, -1, 1) * (logits + bias) / temperature).mean()

    temperature, bias = fit_calibration(labels, logits)
    fake, real = logits[labels], logits[~labels]
    if fake.size and real.size and fake.min() <= real.max():
        assert loss(temperature, bias) <= loss(other_temperature, other_bias) + 1e-3
    else:
        assert (temperature, bias) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "logits"),
    [([1, 1, 1], [-2, 3, 1]), ([0, 1, 1], [1, 2, 3]), ([0, 1], [0, 0]), ([], [])],
    ids=["one class", "separable", "all zero", "empty"],
)
def test_calibration_that_the_data_does_not_set_changes_nothing(labels, logits):
    assert fit_calibration(labels, logits) == (1.0, 0.0)


def test_temperature_stays_in_bounds_when_scores_are_the_wrong_way_round():
    assert fit_calibration([1, 1, 0, 0], [-9, -8, 7, 6])[0] == pytest.approx(20, rel=1e-3)
    huge = [1e4, -1e4, 1e4, -1e4, -1e4]
    assert fit_calibration([1, 1, 0, 0, 0], huge)[0] == pytest.approx(20, rel=1e-3)


def test_infinite_logits_are_refused():
    with pytest.raises(ValueError, match=r"must be finite. Received: inf"):
        fit_calibration([1, 0], [np.inf, 0])


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.1, 10))
def test_sigmoid_undoes_logit(probability, temperature):
    found = sigmoid(temperature * logit(probability), temperature)
    assert found == pytest.approx(probability, rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9], 0.25),
        ([1, 1, 1, 1], [0.1, 0.2, 0.3, 0.9], 0.5),
        ([0, 1, 1], [0.3, 0.3, 0.3], 0.5),
        ([], [], 0.5),
        # Both candidates are equally good: the one nearer to .5 wins, on either side.
        ([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.6], 0.55),
        ([0, 1, 0, 1], [0.4, 0.5, 0.7, 0.9], 0.45),
    ],
    ids=["separable", "one class", "one score", "empty", "tie to the right", "tie to the left"],
)
def test_threshold(labels, scores, expected):
    assert fit_threshold(labels, scores) == pytest.approx(expected)


@pytest.mark.parametrize("low", [0.3, np.nextafter(0.3, 1)], ids=["rounds up", "rounds down"])
def test_threshold_between_neighbouring_floats_still_separates(low):
    scores = np.array([low, np.nextafter(low, 1)])
    separated = {"tp": 1, "fn": 0, "fp": 0, "tn": 1}
    assert confusion([0, 1], scores, fit_threshold([0, 1], scores)) == separated


@given(rows)
def test_no_other_cut_between_scores_is_better(rows):
    labels, scores = arrays(rows)
    distinct = np.unique(scores)
    if len(set(labels)) < 2 or len(distinct) < 2:
        assert fit_threshold(labels, scores) == 0.5
        return
    best = balanced_accuracy_score(labels, scores >= fit_threshold(labels, scores))
    for cut in distinct[1:]:
        assert best >= balanced_accuracy_score(labels, scores >= cut) - 1e-12


# ---------------------------------------------------------------------------- the uncertain band


def outside(
    labels: np.ndarray, scores: np.ndarray, threshold: float, width: float
) -> tuple[int, float]:
    """Images farther from the threshold than a width, and the accuracy among them."""
    there = certainty(scores, threshold) > width
    right = ((scores >= threshold) == (labels == 1))[there]
    return int(there.sum()), float(right.mean()) if there.any() else 0.0


def sample(n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated scores: the nearer to one half, the more often wrong."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(0.8, 0.8, size=n)
    return (rng.uniform(size=n) < scores).astype(int), scores


@given(rows, thresholds, shares)
def test_the_band_is_the_narrowest_that_reaches_the_accuracy_or_else_the_best(
    rows, threshold, certain
) -> None:
    labels, scores = arrays(rows)
    band = fit_uncertain(labels, scores, threshold, certain)
    if not rows:
        assert band is None
        return
    # By definition: every band, from none up, that leaves enough images outside.
    widths = [-1.0, *np.unique(certainty(scores, threshold))]
    choices = [outside(labels, scores, threshold, width) for width in widths]
    choices = [one for one in choices if one[0] >= (1 - MOST_UNCERTAIN) * len(rows)]
    enough = [one for one in choices if one[1] >= certain]
    count, accuracy = enough[0] if enough else max(choices, key=lambda one: (one[1], one[0]))
    there = is_certain(scores, band)
    assert there.sum() == count
    assert ((scores >= threshold) == (labels == 1))[there].mean() == pytest.approx(accuracy)


@given(rows, thresholds, shares)
def test_a_band_contains_the_threshold_and_ends_at_scores(rows, threshold, certain) -> None:
    labels, scores = arrays(rows)
    band = fit_uncertain(labels, scores, threshold, certain)
    if band is not None:
        assert band[0] <= threshold <= band[1]
        assert set(band) <= {threshold, *scores.tolist()}
        assert not is_certain(scores, band).all()


def test_both_ends_of_a_band_are_uncertain() -> None:
    band = fit_uncertain([1, 0, 1, 0, 1, 0], [0.9, 0.1, 0.45, 0.58, 0.95, 0.02], 0.5, 0.9)
    assert band == (0.45, 0.58)
    found = is_certain([np.nextafter(0.45, 0), 0.45, 0.5, 0.58, np.nextafter(0.58, 1)], band)
    assert found.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([1, 0, 1], [0.9, 0.1, 0.6]),  # all right
        ([1, 0, 1, 0], [0.1, 0.9, 0.9, 0.1]),  # as often wrong far away as near
        ([1, 1, 0, 0], [0.55, 0.6, 0.9, 0.95]),  # worse far away
        ([], []),
    ],
    ids=["right", "no better", "worse", "empty"],
)
def test_where_a_band_does_not_help_there_is_none(labels, scores) -> None:
    assert fit_uncertain(labels, scores, 0.5, 0.9) is None


def test_of_an_unreachable_accuracy_comes_the_best_within_half_of_the_images() -> None:
    scores = np.array([0.5, 0.52, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95])
    labels = np.array([0, 0, 0, 1, 0, 1, 1, 0])  # three of the last four and of the last five
    assert fit_uncertain(labels, scores, 0.5, 0.9) == (0.5, 0.55)
    everything = fit_uncertain([0] * 8, scores, 0.5, 0.9)
    assert everything is None  # wrong about all, whatever the band


def test_a_larger_share_takes_a_wider_band_and_the_share_holds_on_other_images() -> None:
    widths = []
    for certain in (0.8, 0.85, 0.9):
        band = fit_uncertain(*sample(), 0.5, certain)
        assert band is not None
        widths.append(band[1] - band[0])
        found = measure_coverage(*sample(seed=1), 0.5, band)
        assert found["accuracy"]["value"] == pytest.approx(certain, abs=0.02)
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_measures_count_the_images_that_they_are_about() -> None:
    labels, scores = [1, 0, 1, 0, 1], [0.9, 0.1, 0.45, 0.58, 0.02]
    found = measure_coverage(labels, scores, 0.5, (0.45, 0.58))
    assert (found["coverage"]["value"], found["coverage"]["n"]) == (0.6, 5)
    assert (found["accuracy"]["value"], found["accuracy"]["n"]) == (pytest.approx(2 / 3), 3)
    for cell in found.values():
        assert cell["low"] < cell["value"] < cell["high"]
    everything = measure_coverage(labels, scores, 0.5, None)
    assert (everything["coverage"]["value"], everything["accuracy"]["value"]) == (1.0, 0.4)
    nothing = measure_coverage(labels, scores, 0.5, (0.0, 1.0))
    assert nothing["coverage"]["value"] == 0.0
    assert nothing["accuracy"] == {"value": None, "low": None, "high": None, "n": 0}


@given(rows, thresholds, st.integers(1, 12))
def test_each_row_of_the_curve_is_what_its_band_leaves(rows, threshold, points) -> None:
    labels, scores = arrays(rows)
    curve = coverage_curve(labels, scores, threshold, points)
    assert len(curve) == (points if rows else 0)
    for i, row in enumerate(curve):
        found = measure_coverage(labels, scores, threshold, row["uncertain"])
        assert row["coverage"] == found["coverage"]["value"] >= (1 - i / points) - 1e-12
        assert row["accuracy"] == found["accuracy"]["value"]
    assert all(first["coverage"] >= second["coverage"] for first, second in pairwise(curve))
    json.dumps(curve, allow_nan=False)


def test_of_ten_images_the_curve_leaves_out_one_after_the_other() -> None:
    scores = np.linspace(0.55, 1, 10)
    curve = coverage_curve([0] * 3 + [1] * 7, scores, 0.5)
    assert [row["coverage"] for row in curve] == pytest.approx(np.linspace(1, 0.1, 10))
    assert [row["accuracy"] for row in curve[:5]] == pytest.approx([0.7, 7 / 9, 7 / 8, 1, 1])


def test_certainty_is_the_share_of_the_way() -> None:
    found = certainty([0.0, 0.2, 0.4, 0.7, 1.0], 0.4)
    assert found == pytest.approx([1, 0.5, 0, 0.5, 1])


# ------------------------------------------------------------------------------- false alarms


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]),
)
def test_a_threshold_for_false_alarms_is_the_lowest_that_keeps_them(rows, share) -> None:
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    real = scores[labels == 0] / 20
    threshold = fit_false_alarms(labels, scores / 20, share)
    if not real.size:
        assert threshold == 1
        return
    assert (real >= threshold).sum() <= share * real.size
    lower = np.nextafter(threshold, -1)
    assert threshold == 0 or (real >= lower).sum() > share * real.size
    (point,) = measure_false_alarms(labels, scores / 20, {"any": threshold}).values()
    assert point["false_alarms"]["value"] <= share
    assert point["false_alarms"]["n"] + point["recall"]["n"] == labels.size


def test_an_operating_point_is_measured_with_its_threshold_included() -> None:
    labels, scores = [1, 1, 1, 0, 0], [0.9, 0.7, 0.2, 0.7, 0.1]
    found = measure_false_alarms(labels, scores, {"0.5": 0.7, "0.01": 0.8})
    assert found["0.5"]["recall"]["value"] == pytest.approx(2 / 3)
    assert found["0.5"]["false_alarms"]["value"] == 0.5
    assert found["0.01"]["recall"]["value"] == pytest.approx(1 / 3)
    assert found["0.01"]["false_alarms"]["value"] == 0.0
    assert measure_false_alarms(labels, scores, {}) == {}


class TestFrequencies:
    def test_shares_are_weighted_by_class(self) -> None:
        # 60 reals and 20 fakes below, 20 reals and 20 fakes above: .25 and .5 of both classes.
        labels = [0] * 60 + [1] * 20 + [0] * 20 + [1] * 20
        scores = [0.05] * 80 + [1.0] * 40
        assert fit_frequencies(labels, [*scores]) == [
            {"up_to": 1.0, "fake": 0.5, "n": 120}  # 40 images are too few for a row
        ]
        low, high = fit_frequencies(labels * 2, scores * 2)
        assert low == {"up_to": 0.1, "fake": pytest.approx(0.5 / (0.5 + 0.75)), "n": 160}
        assert high == {"up_to": 1.0, "fake": pytest.approx(0.5 / (0.5 + 0.25)), "n": 80}

    @given(rows)
    def test_rows_hold_each_image_once(self, rows) -> None:
        labels, scores = arrays(rows * 5)
        found = fit_frequencies(labels, scores)
        if len({*labels.tolist()}) < 2:
            assert found == []
            return
        assert sum(row["n"] for row in found) == len(labels)
        assert found[-1]["up_to"] == 1
        ends = [row["up_to"] for row in found]
        assert ends == sorted({*ends})
        assert len(found) == 1 or all(row["n"] >= FEWEST_IN_ROW for row in found)
        for row, low in zip(found, [-1, *ends], strict=False):
            inside = (scores > low) & (scores <= row["up_to"])
            assert row["n"] == inside.sum()
            of_class = [(labels[inside] == one).sum() / (labels == one).sum() for one in (0, 1)]
            assert row["fake"] == pytest.approx(of_class[1] / sum(of_class))
