"""Which tokens of a scene are computed anew."""

from epvlm_ros.vlm.scene_memory.refresh_plan import RefreshPlan
from hypothesis import given, settings, strategies
import numpy as np
import pytest

SECOND = 1_000_000_000


def filled(num_tokens, threshold=8.0, max_age_ns=0):
    plan = RefreshPlan(num_tokens, threshold, max_age_ns)
    plan.mark_computed(np.arange(num_tokens), 0)
    return plan


def change(num_tokens, **by_token):
    counts = np.zeros(num_tokens, np.float32)
    for token, count in by_token.items():
        counts[int(token[1:])] = count
    return counts


def test_nothing_is_known_at_first_and_the_important_comes_first():
    plan = RefreshPlan(4, 8.0)
    assert not plan.is_known.any()
    assert plan.choose(2, 0, np.array([0.1, 0.9, 0.2, 0.8])).tolist() == [1, 3]


def test_what_was_computed_before_all_was_known_comes_once_more():
    plan = RefreshPlan(6, 8.0)
    for now_s, tokens in enumerate(([0, 1], [2, 3], [4, 5], [0, 1], [2, 3])):
        if now_s == 3:
            plan.add_change(change(6, t5=9.0), now_s * SECOND)
            tokens = [0, 5]  # what changed goes first
        elif now_s == 4:
            tokens = [1, 2]
        chosen = plan.choose(2, now_s * SECOND)
        assert chosen.tolist() == tokens
        plan.mark_computed(chosen, now_s * SECOND)
    assert plan.choose(6, 5 * SECOND).tolist() == [3]
    plan.mark_computed(np.array([3]), 5 * SECOND)
    assert plan.choose(6, 6 * SECOND).size == 0


def test_what_changes_while_a_scene_is_filled_is_not_put_off():
    plan = RefreshPlan(6, 8.0)
    plan.mark_computed(np.array([0, 1]), 0)
    plan.add_change(change(6, t0=9.0, t1=20.0), SECOND)
    # two of what changed and two of what was never computed
    assert plan.choose(2, SECOND).tolist() == [0, 1, 2, 3]
    assert plan.choose(1, SECOND).tolist() == [1, 2]  # the stronger change, the next token
    plan.mark_computed(np.arange(6), SECOND)
    plan.add_change(change(6, t0=9.0, t1=20.0, t2=30.0), 2 * SECOND)
    assert plan.choose(2, 2 * SECOND).tolist() == [1, 2]


def test_a_still_scene_needs_nothing():
    plan = filled(4)
    plan.add_change(np.full(4, 8.0, np.float32), SECOND)  # at the threshold, not above it
    assert plan.choose(4, SECOND).size == 0
    assert not plan.is_stale.any()


def test_slow_change_adds_up():
    plan = filled(3)
    for step in range(4):
        assert plan.choose(3, step * SECOND).size == 0
        plan.add_change(change(3, t1=2.5), step * SECOND)
    assert plan.choose(3, 4 * SECOND).tolist() == [1]


def test_what_waits_longest_comes_first_then_what_changed_most():
    plan = filled(5)
    plan.add_change(change(5, t4=9.0), 1 * SECOND)
    plan.add_change(change(5, t0=20.0, t2=90.0, t4=0.0), 2 * SECOND)
    assert plan.choose(1, 2 * SECOND).tolist() == [4]
    assert plan.choose(2, 2 * SECOND).tolist() == [2, 4]
    plan.mark_computed(np.array([2, 4]), 2 * SECOND)
    assert plan.is_stale.tolist() == [True, False, False, False, False]
    assert plan.choose(5, 3 * SECOND).tolist() == [0]


def test_doubt_is_no_change_and_both_can_be_cleared():
    plan = filled(3)
    plan.add_change(change(3, t0=9.0), SECOND)
    plan.mark_doubtful(SECOND)
    assert plan.is_stale.tolist() == [True, False, False]
    assert plan.is_doubtful.tolist() == [False, True, True]
    plan.clear(np.array([False, True, False]))
    assert plan.choose(3, 2 * SECOND).tolist() == [0, 2]
    plan.clear(np.array([True, False, False]))
    assert plan.choose(3, 2 * SECOND).tolist() == [2]
    plan.add_change(change(3, t0=2.0), 3 * SECOND)  # what was cleared does not add up
    assert plan.choose(3, 3 * SECOND).tolist() == [2]


def test_every_token_is_renewed_in_time():
    plan = filled(10, max_age_ns=5 * SECOND)
    renewed = np.zeros(10, np.int64)
    for now_s in range(1, 21):
        tokens = plan.choose(10, now_s * SECOND)
        assert len(tokens) <= 10
        plan.mark_computed(tokens, now_s * SECOND)
        renewed[tokens] += 1
        assert plan.ages_ns(now_s * SECOND).max() <= 6 * SECOND
    assert renewed.min() >= 3
    assert renewed.max() <= 9  # not all of them all the time


@settings(max_examples=50, deadline=None)
@given(strategies.integers(0, 2 ** 32 - 1), strategies.integers(1, 4))
def test_none_starves(seed, budget):
    random = np.random.default_rng(seed)
    plan = filled(12)
    since = np.full(12, -1)  # when each began to wait
    for now in range(40):
        busy = random.random(12) < 0.5
        plan.add_change(np.where(busy, random.uniform(9.0, 99.0, 12), 0.0), now)
        since[busy & (since < 0)] = now
        tokens = plan.choose(budget, now)
        assert len(tokens) == min(budget, np.count_nonzero(since >= 0))
        waiting = np.flatnonzero(since >= 0)
        others = np.setdiff1d(waiting, tokens)
        if len(others) and len(tokens):
            assert since[tokens].max() <= since[others].min()
        plan.mark_computed(tokens, now)
        since[tokens] = -1


def test_unknown_tokens_have_no_age():
    plan = RefreshPlan(2, 8.0)
    plan.mark_computed(np.array([1]), 3)
    assert plan.ages_ns(10).tolist() == [-1, 7]
    with pytest.raises(ValueError):
        plan.add_change(np.zeros(3, np.float32), 11)
