"""What is fitted on validation: temperature, bias and threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import balanced_accuracy_score

from hf_ela.evaluation.calibration import fit_calibration, fit_threshold
from hf_ela.evaluation.metrics import confusion
from hf_ela.models.detector import sigmoid

# Few different scores, so that many are tied.
tied = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.6, 0.8, 0.95, 1.0])),
    min_size=1,
    max_size=60,
)


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


def test_calibration_survives_huge_logits():
    temperature, _ = fit_calibration([1, 1, 0, 0, 0], [1e4, -1e4, 1e4, -1e4, -1e4])
    assert temperature == pytest.approx(20, rel=1e-3)


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
    assert confusion([0, 1], scores, fit_threshold([0, 1], scores)) == {
        "tp": 1,
        "fn": 0,
        "fp": 0,
        "tn": 1,
    }


@given(rows=tied)
def test_no_other_cut_between_scores_is_better(rows):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    distinct = np.unique(scores)
    if len(set(labels)) < 2 or len(distinct) < 2:
        assert fit_threshold(labels, scores) == 0.5
        return
    best = balanced_accuracy_score(labels, scores >= fit_threshold(labels, scores))
    for cut in distinct[1:]:
        assert best >= balanced_accuracy_score(labels, scores >= cut) - 1e-12
