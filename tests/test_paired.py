"""McNemar's exact test."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_ela.evaluation.intervals import mcnemar

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80)


def arrays(rows: list[tuple[bool, bool]]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.array(rows, bool).reshape(-1, 2).T
    return a, b


def test_a_published_table():
    # Two media for a culture (Armitage and Berry 1994, p. 127); StatsDirect gives exact P = .0129.
    counts = {(True, True): 20, (True, False): 12, (False, True): 2, (False, False): 16}
    found = mcnemar(*arrays([row for row, n in counts.items() for _ in range(n)]))
    assert (found["only_a"], found["only_b"]) == (12, 2)
    assert found["p"] == pytest.approx(0.0129, abs=5e-5)


@given(pairs)
def test_it_is_twice_the_smaller_tail_of_a_fair_coin(rows):
    found = mcnemar(*arrays(rows))
    n, fewer = found["only_a"] + found["only_b"], min(found["only_a"], found["only_b"])
    assert n == sum(a != b for a, b in rows)
    tail = sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    assert found["p"] == pytest.approx(min(1, 2 * tail))


@given(pairs, st.randoms(use_true_random=False))
def test_neither_order_nor_agreement_counts_and_the_sides_are_alike(rows, random):
    a, b = arrays(rows)
    found = mcnemar(a, b)
    assert mcnemar(b, a)["p"] == pytest.approx(found["p"])
    others = [*rows, (True, True), (False, False)]
    random.shuffle(others)
    assert mcnemar(*arrays(others)) == found


@given(pairs)
def test_the_net_gain_is_the_difference_of_right_answers(rows):
    a, b = arrays(rows)
    found = mcnemar(a, b)
    assert found["only_b"] - found["only_a"] == int(b.sum()) - int(a.sum())


@pytest.mark.parametrize(
    ("a", "b"),
    [([True], [True, False]), ([1, 0], [True, False]), ([[True]], [[True]]), ([0.5], [0.5])],
)
def test_it_refuses_what_is_not_paired(a, b):
    with pytest.raises(ValueError, match="must be bool, of one shape"):
        mcnemar(a, b)
