"""
No cache gives a picture the result of other kept tokens.

vLLM keeps three things of a picture by one key: its patches, what the encoder made of them, and
the keys and values of the prompt. Answers are held against an engine without any of these.
"""

import numpy as np
from own_engine import MODEL_TYPES
import pytest
from served_models import keep_some, make_picture, start_engine

GRID = [8, 7]
SETS = [keep_some(56, 0.5, seed) for seed in range(4)]  # as many tokens each


@pytest.fixture(scope='module', params=['qwen2', 'qwen3'])  # Qwen3's processor has caching code
def name(request):
    return request.param


@pytest.fixture(scope='module')
def cached(name, own):
    return start_engine(own.save(name), MODEL_TYPES[name])


@pytest.fixture(scope='module')
def plain(name, own):
    return start_engine(own.save(name), MODEL_TYPES[name], has_caches=False)


@pytest.fixture
def picture(name, request):
    """Return a picture that no test before has shown."""
    return make_picture(name, *GRID, seed=sum(map(ord, request.node.name)))


def check(answers, expected):
    """Check that answers are those expected, which all differ from each other."""
    for place, one in enumerate(expected):
        for other in expected[:place]:
            assert np.abs(one.log_probabilities - other.log_probabilities).max() > 0.01
    for answer, one in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.log_probabilities, one.log_probabilities, atol=1e-3)
        assert answer.token_ids == one.token_ids


def one_by_one(engine, questions):
    return [engine.ask(question)[0] for question in questions]


def test_index_sets_of_one_picture_one_after_the_other(cached, plain, picture):
    questions = [cached.question([picture], [kept], [GRID]) for kept in SETS]
    expected = one_by_one(plain, questions)
    check(one_by_one(cached, questions), expected)
    again = one_by_one(cached, questions[::-1])[::-1]
    check(again, expected)
    assert all(answer.num_cached_tokens > 0 for answer in again)


def test_index_sets_of_one_picture_in_one_batch(cached, plain, picture):
    questions = [cached.question([picture], [kept], [GRID]) for kept in SETS]
    check(cached.ask(*questions), one_by_one(plain, questions))


def test_one_picture_twice_in_a_question(cached, plain, picture):
    questions = [
        cached.question([picture, picture], [SETS[first], SETS[second]], [GRID, GRID])
        for first, second in ((0, 1), (1, 0), (0, 2), (3, 1))]
    expected = one_by_one(plain, questions)
    check(one_by_one(cached, questions), expected)
    check(cached.ask(*questions), expected)


def test_some_pictures_of_a_question_are_known(name, cached, plain, picture):
    other = make_picture(name, *GRID, seed=12345)
    cached.ask(cached.question([picture], [SETS[1]], [GRID]))
    questions = [
        cached.question([other, picture], [SETS[0], SETS[1]], [GRID, GRID]),
        cached.question([picture, other], [SETS[1], SETS[2]], [GRID, GRID])]
    check(one_by_one(cached, questions), one_by_one(plain, questions))


def test_dense_and_sparse_questions_about_one_picture(cached, plain, picture):
    questions = [
        cached.question([picture]), cached.question([picture], [SETS[0]], [GRID]),
        cached.question([picture, picture])]
    expected = one_by_one(plain, questions)
    check(one_by_one(cached, questions), expected)
    check(one_by_one(cached, questions[::-1])[::-1], expected)
    check(cached.ask(*questions), expected)


def test_uuids_of_the_caller_do_not_stand_for_the_indices(cached, plain, picture):
    questions = [
        cached.question([picture], [kept], [GRID], uuids=['a picture']) for kept in SETS]
    questions.append(cached.question([picture], uuids=['a picture']))
    expected = one_by_one(plain, [
        *(cached.question([picture], [kept], [GRID]) for kept in SETS),
        cached.question([picture])])
    check(one_by_one(cached, questions), expected)
    check(one_by_one(cached, questions[::-1])[::-1], expected)
    check(cached.ask(*questions), expected)


def test_a_uuid_without_a_picture_is_known_with_its_indices_only(cached, picture):
    sent = cached.question([picture], [SETS[0]], [GRID], uuids=['once sent'])
    expected = one_by_one(cached, [sent])
    check(one_by_one(cached, [
        cached.question([None], [SETS[0]], [GRID], uuids=['once sent'])]), expected)
    for kept in (SETS[1], SETS[0][:-1]):
        with pytest.raises(ValueError, match='data is not provided'):
            cached.ask(cached.question([None], [kept], [GRID], uuids=['once sent']))


def test_another_grid_of_a_known_picture_is_refused(cached, picture):
    cached.ask(cached.question([picture], [SETS[0]], [GRID]))
    with pytest.raises(ValueError, match=r'token_grids\[0\]: 7 x 8 tokens'):
        cached.ask(cached.question([picture], [SETS[0]], [GRID[::-1]]))


def test_refused_questions_leave_the_engine_as_it_was(cached, plain, picture):
    question = cached.question([picture], [SETS[0]], [GRID])
    for kept in ([], [56], [3, 3], [5, 4]):
        with pytest.raises(ValueError, match='kept_indices'):
            cached.ask(cached.question([picture], [kept], [GRID]))
    check(cached.ask(question), plain.ask(question))
