"""Which answers are compared with the dense model, and what is counted."""

from types import SimpleNamespace

from epvlm_ros.ros.query import Query
from epvlm_ros.ros.shadow_answers import ShadowAnswers, ShadowStatus
from epvlm_ros.vlm.engine import Agreement, OutOfMemory
import pytest

MOMENTS = ('a moment',)


class Engine:
    """An engine that says what it is told to."""

    def __init__(self):
        self.outcomes, self.asked = [], []

    def compare_with_dense(self, answer, moments, question, **options):
        assert moments == MOMENTS
        self.asked.append((answer.text, question, options['max_new_tokens'], options['choices']))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def add(shadow, text, ending='end'):
    query = Query('id', f'{text}?', '?', None, 5, None, ('frame',), 0, print, choices=('a', 'b'))
    shadow.add(query, MOMENTS, SimpleNamespace(text=text, ending=ending))


def test_every_nth_that_was_not_cut_off_the_last_of_them():
    engine = Engine()
    shadow = ShadowAnswers(engine, lambda: 2)
    for text, ending in (('one', 'end'), ('cut', 'deadline'), ('cut', 'stopped')):
        add(shadow, text, ending)
    assert not shadow.is_waiting
    shadow.compare(lambda: False)
    for text in ('two', 'three', 'four', 'five'):
        add(shadow, text, 'limit')
    engine.outcomes = [Agreement(True, True, -0.25)]
    shadow.compare(lambda: False)
    shadow.compare(lambda: False)
    assert engine.asked == [('four', 'four?', 5, ('a', 'b'))] and not shadow.is_waiting
    assert shadow.status == ShadowStatus(1, 1, 1, -0.25)


def test_what_is_broken_off_waits_and_what_fails_does_not():
    engine = Engine()
    shadow = ShadowAnswers(engine, lambda: 1)
    add(shadow, 'one')
    engine.outcomes = [None, Agreement(False, True, 0.5), OutOfMemory('too big')]
    shadow.compare(lambda: True)
    assert shadow.is_waiting and shadow.status.num_broken_off == 1
    shadow.compare(lambda: False)
    assert not shadow.is_waiting
    add(shadow, 'two')
    with pytest.raises(OutOfMemory):
        shadow.compare(lambda: False)
    assert not shadow.is_waiting
    assert shadow.status == ShadowStatus(1, 0, 1, 0.5, 1, 1)


def test_switched_off_nothing_waits():
    every = [1]
    shadow = ShadowAnswers(Engine(), lambda: every[0])
    add(shadow, 'one')
    every[0] = 0
    add(shadow, 'two')
    assert not shadow.is_waiting
