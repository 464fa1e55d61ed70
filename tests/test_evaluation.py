"""Metrics, intervals, the table per source, and McNemar's exact test."""

import json
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from hf_ela.evaluation.intervals import chance_calibration_error, mcnemar, measure
from hf_ela.evaluation.metrics import (
    METRICS,
    ArtMetrics,
    calibration_bins,
    compute_metrics,
    confusion,
    expected_calibration_error,
    metrics_of_counts,
)
from hf_ela.evaluation.summary import by_source, spread

# The confusion matrix of the published model on its 279 test images.
PUBLISHED = {"tp": 117, "fn": 23, "fp": 18, "tn": 121}


def published() -> tuple[np.ndarray, np.ndarray]:
    counts = list(PUBLISHED.values())
    return np.repeat([1, 1, 0, 0], counts), np.repeat([0.9, 0.2, 0.8, 0.1], counts)


def drawn(n: int, seed: int, gap: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(n) % 2
    return labels, np.clip(rng.normal(0.5 + gap * (labels - 0.5), 0.2), 0, 1)


# Few different scores, so that many are tied, and some lie on the threshold or on a bin's edge.
tied = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.6, 0.8, 0.95, 1.0])),
    min_size=1,
    max_size=60,
)


def arrays(rows: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def by_scikit_learn(y: np.ndarray, s: np.ndarray, threshold: float) -> dict[str, float | None]:
    """The ten metrics by another hand; what is not defined is None."""
    called = s >= threshold
    values = {
        "accuracy": sk.accuracy_score(y, called),
        "precision": sk.precision_score(y, called, zero_division=np.nan),
        "recall": sk.recall_score(y, called, zero_division=np.nan),
        "f1": sk.f1_score(y, called, zero_division=np.nan),
        "specificity": sk.recall_score(y, called, pos_label=0, zero_division=np.nan),
        "brier": sk.brier_score_loss(y, s, pos_label=1),
        "ece": expected_calibration_error(y, s),
    }
    if 0 < y.sum() < y.size:
        values |= {
            "balanced_accuracy": sk.balanced_accuracy_score(y, called),
            "roc_auc": sk.roc_auc_score(y, s),
            "average_precision": sk.average_precision_score(y, s),
        }
    found = {name: float(values.get(name, np.nan)) for name in METRICS}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


# --- values ---------------------------------------------------------------------------------


def test_published_confusion_gives_published_figures():
    labels, scores = published()
    assert confusion(labels, scores, 0.5) == PUBLISHED
    result = measure(labels, scores, 0.5)
    assert {name: round(result[name]["value"], 4) for name in METRICS[:5]} == {
        "accuracy": 0.8530,
        "precision": 0.8667,
        "recall": 0.8357,
        "f1": 0.8509,
        "specificity": 0.8705,
    }
    assert result["accuracy"]["n"] == 279


@given(rows=tied, threshold=st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]))
def test_metrics_are_those_of_scikit_learn(rows, threshold):
    labels, scores = arrays(rows)
    assert sum(confusion(labels, scores, threshold).values()) == len(rows)
    found = compute_metrics(labels, scores, threshold)
    assert list(found) == list(METRICS)
    assert found == pytest.approx(by_scikit_learn(labels, scores, threshold), abs=1e-12)


def test_scores_that_a_resample_leaves_out_count_nothing():
    labels, scores = drawn(300, seed=3)
    rows = np.random.default_rng(4).integers(300, size=300)
    distinct = np.unique(scores)
    fake, real = (
        np.bincount(
            np.searchsorted(distinct, scores[rows][labels[rows] == c]), minlength=distinct.size
        )
        for c in (1, 0)
    )
    assert (fake + real == 0).any()
    quick = metrics_of_counts(distinct, fake, real, 0.5)
    assert quick == pytest.approx(compute_metrics(labels[rows], scores[rows], 0.5), abs=1e-12)


def test_resamples_measured_together_are_those_measured_alone():
    rng = np.random.default_rng(0)
    distinct = np.sort(rng.random(30))
    fake, real = rng.integers(0, 3, (2, 50, 30))
    fake[7], real[8], real[9] = 0, 0, real[9] * (distinct < 0.5)  # undefined: recall, specificity
    fake[9] *= distinct < 0.5  # ... and precision
    together = metrics_of_counts(distinct, fake, real, 0.5)
    alone = [metrics_of_counts(distinct, *row, 0.5) for row in zip(fake, real, strict=True)]
    for name in METRICS:
        np.testing.assert_allclose(together[name], [row[name] for row in alone], atol=1e-12)
    assert [int(np.isnan(together[name]).sum()) for name in ("recall", "precision")] == [1, 1]


def test_intervals_do_not_depend_on_how_many_resamples_fit_at_once(monkeypatch):
    labels, scores = drawn(50, seed=0)
    found = measure(labels, scores, 0.5), chance_calibration_error(scores)
    monkeypatch.setattr("hf_ela.evaluation.intervals.CELLS", 50 * 7)
    again = measure(labels, scores, 0.5), chance_calibration_error(scores)
    for name in METRICS:
        assert again[0][name] == pytest.approx(found[0][name], abs=1e-12)
    assert again[1] == pytest.approx(found[1], abs=1e-12)


def test_metric_needs_no_network_and_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    labels, scores = drawn(30, seed=5)
    found = ArtMetrics().compute(references=labels, predictions=scores, threshold=0.4)
    assert found == compute_metrics(labels, scores, 0.4)
    assert list(tmp_path.rglob("*")) == []


# --- the undefined --------------------------------------------------------------------------


OF_BOTH = {"balanced_accuracy", "roc_auc", "average_precision"}  # need both classes


@pytest.mark.parametrize(
    ("labels", "scores", "undefined"),
    [
        ([], [], set(METRICS)),
        ([1, 1], [0.2, 0.9], {"specificity", *OF_BOTH}),
        ([0, 0], [0.2, 0.1], {"precision", "recall", "f1", *OF_BOTH}),
        ([1, 0], [0.1, 0.1], {"precision"}),
    ],
    ids=["empty", "only fake", "only real", "nothing called fake"],
)
def test_undefined_is_none(labels, scores, undefined):
    result = measure(labels, scores, 0.5, resamples=20)
    assert {name for name, row in result.items() if row["value"] is None} == undefined
    for name, row in result.items():
        assert row["n"] == len(labels)
        bounds = [row["low"], row["high"]]
        if name in undefined:
            assert bounds == [None, None]
        else:
            assert bounds[0] <= row["value"] <= bounds[1]
    json.dumps(result, allow_nan=False)


def test_resamples_without_the_metric_do_not_count():
    """One of two real images is called fake, so a quarter of the resamples has no precision."""
    result = measure([0, 0], [0.9, 0.1], 0.5)
    assert (result["precision"]["low"], result["precision"]["high"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [0.5], r"equally long.*\(2,\) and \(1,\)"),
        ([[1]], [[0.5]], "one-dimensional"),
        ([1, 2], [0.5, 0.5], r"1 \(fake\) or 0 \(real\). Received: 2"),
        (["fake"], [0.5], "Received: fake"),
        ([1, 0], [0.5, 1.5], "from 0 to 1. Received: 1.5"),
        ([1, 0], [0.5, float("nan")], "Received: nan"),
    ],
)
def test_wrong_input_is_named(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        measure(labels, scores, 0.5)


# --- intervals ------------------------------------------------------------------------------


def test_accuracy_interval_is_close_to_wilson():
    labels, scores = published()
    interval = measure(labels, scores, 0.5)["accuracy"]
    wilson = binomtest(238, 279).proportion_ci(method="wilson")
    assert (round(wilson.low, 3), round(wilson.high, 3)) == (0.807, 0.890)
    assert interval["low"] == pytest.approx(wilson.low, abs=0.01)
    assert interval["high"] == pytest.approx(wilson.high, abs=0.01)


def test_intervals_contain_their_value_and_have_a_width():
    data = drawn(400, seed=2)
    found = measure(*data, 0.5, resamples=200, seed=7)
    for name, row in found.items():
        assert row["low"] <= row["value"] <= row["high"], name
        assert 0.005 < row["high"] - row["low"] < 0.2, name
    assert measure(*data, 0.5, resamples=200, seed=7) == found
    assert measure(*data, 0.5, resamples=200, seed=8) != found
    for seed in range(5):  # a single resample may lie on either side
        for name, row in measure(*data, 0.5, resamples=1, seed=seed).items():
            assert row["low"] <= row["value"] <= row["high"], name


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_intervals_cover_the_truth(metric):
    """Of a hundred 95 % intervals 95 +- 2.2 should hold the true value."""
    truth = compute_metrics(*drawn(200_000, seed=0), 0.5)[metric]
    intervals = [measure(*drawn(150, seed=s), 0.5, resamples=200)[metric] for s in range(1, 101)]
    assert 87 <= sum(i["low"] <= truth <= i["high"] for i in intervals) <= 100
    # An interval that always covers says nothing.
    assert np.mean([i["high"] - i["low"] for i in intervals]) < 0.16


def test_without_groups_images_are_drawn_within_each_class():
    labels, scores = drawn(60, seed=3)
    result = measure(labels, scores, 0.5, resamples=40, seed=5)
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(40):
        right = []
        for label in (1, 0):
            s = scores[labels == label]
            right += [*((s[rng.integers(len(s), size=len(s))] >= 0.5) == label)]
        draws.append(np.mean(right))
    cell = result["accuracy"]
    low, high = np.percentile([cell["value"], *draws], [2.5, 97.5])
    assert (cell["low"], cell["high"]) == (pytest.approx(low), pytest.approx(high))
    assert set(cell) == {"value", "low", "high", "n"}
    assert measure(labels, scores, 0.5, [None] * 60, resamples=40, seed=5) == result


def test_copies_in_one_group_add_no_certainty():
    labels, scores = drawn(40, seed=4)
    names = [f"{number:03d}" for number in range(40)]
    once = measure(labels, scores, 0.5, names, resamples=200)
    many = measure(*(np.repeat(x, 9) for x in (labels, scores)), 0.5, np.repeat(names, 9).tolist(),
                   resamples=200)  # fmt: skip
    for name in METRICS:
        assert many[name] == {
            **{key: pytest.approx(once[name][key]) for key in ("value", "low", "high")},
            "n": 360,
            "groups": 40,
        }


def test_intervals_of_groups_cover_the_truth_where_those_of_images_do_not():
    """Images of an artist are all easy or all hard, as likely: in truth accuracy is .5."""
    held = {"groups": 0, "images": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        artists = [f"{label}{number}" for label in (0, 1) for number in range(20)]
        right = np.repeat(rng.random(40) < 0.5, 10)
        labels = np.repeat([0] * 20 + [1] * 20, 10)
        scores = np.where(right == labels, 0.9, 0.1)
        for name, groups in (("groups", np.repeat(artists, 10).tolist()), ("images", None)):
            cell = measure(labels, scores, 0.5, groups, resamples=150)["accuracy"]
            held[name] += cell["low"] <= 0.5 <= cell["high"]
    assert held["groups"] >= 50
    assert held["images"] < 40


def test_groups_are_drawn_with_as_many_of_each_kind():
    """All fakes wrong, all reals right: accuracy is .5 as long as both stay as many."""
    labels, scores = np.repeat([1, 0], 30), np.full(60, 0.1)
    for groups in (
        np.repeat([f"{number:02d}" for number in range(20)], 3).tolist(),  # of one class each
        [str(number) for number in range(30)] * 2,  # of both
    ):
        cells = measure(labels, scores, 0.5, groups, resamples=50)
        assert cells["accuracy"]["low"] == cells["accuracy"]["high"] == 0.5
        assert cells["roc_auc"]["low"] == 0.5


def test_an_image_without_a_group_is_one():
    labels, scores = drawn(10, seed=6)
    assert measure(labels, scores, 0.5, ["a"] * 4 + [None] * 6)["ece"]["groups"] == 7
    with pytest.raises(ValueError, match="2 groups for 10 labels"):
        measure(labels, scores, 0.5, ["a", "b"])


# --- calibration error ----------------------------------------------------------------------


@given(rows=tied, bins=st.integers(1, 20))
def test_ece_equals_scikit_learns_calibration_curve(rows, bins):
    labels, scores = arrays(rows)
    images, mean_score, share = calibration_bins(labels, scores, bins)
    expected_share, expected_mean = calibration_curve(labels, scores, n_bins=bins)
    filled = images > 0
    np.testing.assert_allclose(share[filled], expected_share)
    np.testing.assert_allclose(mean_score[filled], expected_mean)
    weighted = images[filled] @ np.abs(expected_share - expected_mean) / len(rows)
    assert expected_calibration_error(labels, scores, bins) == pytest.approx(weighted)


def test_ece_by_chance_holds_that_of_calibrated_scores_and_not_that_of_wrong_ones():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(40):
        scores = rng.uniform(size=279)
        found = chance_calibration_error(scores, resamples=200)
        error, of_wrong = (
            expected_calibration_error(rng.uniform(size=279) < truth, scores)
            for truth in (scores, 0.5)
        )
        inside.append(found["low"] <= error <= found["high"])
        assert of_wrong > found["high"]
    assert 35 <= sum(inside) < 40


def test_ece_by_chance_has_mean_and_quantiles_of_its_draws():
    scores = np.random.default_rng(1).beta(0.5, 0.5, 279)
    found = chance_calibration_error(scores, resamples=4000)
    rng = np.random.default_rng(2)
    draws = [
        expected_calibration_error(rng.uniform(size=279) < scores, scores) for _ in range(4000)
    ]
    expected = [np.mean(draws), *np.quantile(draws, [0.025, 0.975])]
    assert [found["value"], found["low"], found["high"]] == pytest.approx(expected, rel=0.03)
    again = chance_calibration_error([0.01])  # nearly all draws are below their mean
    assert again["low"] <= again["value"] <= again["high"]


def test_ece_by_chance_of_certain_scores_is_none_at_all_and_none_without_images():
    certain = chance_calibration_error([0.0, 1.0, 1.0])
    assert (certain["value"], certain["low"], certain["high"]) == (0, 0, 0)
    assert chance_calibration_error([]) == {"value": None, "low": None, "high": None, "n": 0}
    with pytest.raises(ValueError, match="probabilities from 0 to 1"):
        chance_calibration_error([1.2])


# --- table per source -----------------------------------------------------------------------


def test_table_per_source():
    sources = ["b", "a", "b", None, "b", "", float("nan"), "b"]
    labels = [1, 0, 1, 1, 0, 0, 1, 1]
    scores = [0.9, 0.2, 0.3, 0.9, 0.4, 0.1, 0.9, 0.5]
    a, b = by_source(sources, labels, scores, 0.5)
    assert (a["source"], a["n"], a["fake"], a["real"]) == ("a", 1, 0, 1)
    assert list(a["recall"]) == ["real"]
    assert (b["source"], b["n"], b["fake"], b["real"]) == ("b", 4, 3, 1)
    assert b["mean_score"] == pytest.approx(0.525)
    assert b["accuracy"]["value"] == 0.75
    assert b["recall"]["fake"]["value"] == pytest.approx(2 / 3)
    assert b["recall"]["real"]["value"] == 1.0
    json.dumps([a, b], allow_nan=False)
    assert by_source([None, None], [1, 0], [0.5, 0.5], 0.5) == []
    with pytest.raises(ValueError, match="1 sources for 2 labels"):
        by_source(["a"], [1, 0], [0.5, 0.5], 0.5)


def test_groups_of_a_source_are_counted():
    sources, groups = ["a", "a", "a", "b", None], ["x", "x", None, "y", "z"]
    found = by_source(sources, [1, 0, 1, 1, 0], [0.5] * 5, 0.5, groups)
    assert [(row["n"], row["groups"]) for row in found] == [(3, 2), (1, 1)]
    unknown = by_source(sources, [1, 0, 1, 1, 0], [0.5] * 5, 0.5, [None] * 5)
    assert unknown == by_source(sources, [1, 0, 1, 1, 0], [0.5] * 5, 0.5)
    assert "groups" not in unknown[0]


def test_source_interval_is_wilsons():
    """Wilson's interval of 10 of 10, by its closed form: n / (n + z^2) to 1."""
    (row,) = by_source(["x"] * 10, [1] * 10, [0.9] * 10, 0.5)
    assert row["accuracy"] == {
        "value": 1.0,
        "low": pytest.approx(10 / (10 + 1.959964**2)),
        "high": pytest.approx(1.0),
        "n": 10,
    }


def test_spread_counts_each_source_once_and_leaves_tiny_ones_out():
    sources = ["big"] * 10 + ["small"] * 5 + ["tiny"] * 4 + ["art"] * 6
    labels = [1] * 19 + [0] * 6
    scores = [0.9] * 10 + [0.9] + [0.1] * 4 + [0.1] * 4 + [0.1] * 3 + [0.9] * 3
    found = spread(by_source(sources, labels, scores, 0.5))
    assert found["fake"] == {
        "mean": pytest.approx((1 + 0.2) / 2),
        "minimum": pytest.approx(0.2),
        "worst": "small",
        "sources": 2,
    }
    assert found["real"] == {"mean": 0.5, "minimum": 0.5, "worst": "art", "sources": 1}
    nothing = {"mean": None, "minimum": None, "worst": None, "sources": 0}
    assert spread([]) == {"fake": nothing, "real": nothing}


# --- McNemar's test -------------------------------------------------------------------------

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80)


def both(rows: list[tuple[bool, bool]]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.array(rows, bool).reshape(-1, 2).T
    return a, b


def test_a_published_table():
    # Two media for a culture (Armitage and Berry 1994, p. 127); StatsDirect gives exact P = .0129.
    counts = {(True, True): 20, (True, False): 12, (False, True): 2, (False, False): 16}
    found = mcnemar(*both([row for row, n in counts.items() for _ in range(n)]))
    assert (found["only_a"], found["only_b"]) == (12, 2)
    assert found["p"] == pytest.approx(0.0129, abs=5e-5)


@given(pairs)
def test_it_is_twice_the_smaller_tail_of_a_fair_coin(rows):
    found = mcnemar(*both(rows))
    n, fewer = found["only_a"] + found["only_b"], min(found["only_a"], found["only_b"])
    assert n == sum(a != b for a, b in rows)
    assert found["only_b"] - found["only_a"] == sum(b - a for a, b in rows)
    tail = sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    assert found["p"] == pytest.approx(min(1, 2 * tail))


@given(pairs, st.randoms(use_true_random=False))
def test_neither_order_nor_agreement_counts_and_the_sides_are_alike(rows, random):
    a, b = both(rows)
    found = mcnemar(a, b)
    assert mcnemar(b, a)["p"] == pytest.approx(found["p"])
    others = [*rows, (True, True), (False, False)]
    random.shuffle(others)
    assert mcnemar(*both(others)) == found


@pytest.mark.parametrize(
    ("a", "b"),
    [([True], [True, False]), ([1, 0], [True, False]), ([[True]], [[True]]), ([0.5], [0.5])],
)
def test_it_refuses_what_is_not_paired(a, b):
    with pytest.raises(ValueError, match="must be bool, of one shape"):
        mcnemar(a, b)


def test_ece_has_fifteen_bins_of_equal_width() -> None:
    """One fifteenth lies between the scores, and one tenth above both."""
    assert expected_calibration_error([1, 0], [0.05, 0.08]) == pytest.approx((0.95 + 0.08) / 2)
    assert expected_calibration_error([1, 0], [0.05, 0.06]) == pytest.approx(1 / 2 - 0.055)
