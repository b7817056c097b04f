"""Standing questions are checked when they are set up, wherever they come from."""

import json

from epvlm_ros.watches import (
    ACTIVITY, APPEARED, INTERVAL, Region, StandingQuestion, WatchDefaults)
import pytest

QUERY = {'question': 'What moves?'}


def make(**changes):
    return StandingQuestion(**{
        'watch_id': 'door', 'query': QUERY, 'condition': ACTIVITY, **changes})


@pytest.mark.parametrize('changes, words', [
    ({'watch_id': ''}, 'watch_id is empty'),
    ({'watch_id': 'x' * 129}, 'watch_id has 129 characters: give at most 128'),
    ({'watch_id': 'a\nb'}, 'watch_id a\\nb holds characters that do not print'),
    ({'condition': 'often'}, "condition is 'often': give one of activity, appeared, interval"),
    ({'level': float('nan')}, 'level is nan'),
    ({'level': -1.0}, 'level is -1.0'),
    ({'min_gap': float('inf')}, 'min_gap is inf'),
    ({'max_rate': float('nan')}, 'max_rate is nan'),
    ({'max_rate': 0.5}, 'max_rate is 0.5: give at least 1'),
    ({'interval': 5.0}, 'interval is 5.0, which condition activity does not use'),
    ({'condition': APPEARED, 'interval': 5.0}, 'interval is 5.0, which condition appeared'),
    ({'condition': INTERVAL}, 'interval is 0'),
    ({'condition': INTERVAL, 'interval': float('nan')}, 'interval is nan'),
    ({'condition': INTERVAL, 'interval': 5.0, 'level': 1.0}, 'level is 1.0, which condition int'),
    ({'condition': INTERVAL, 'interval': 5.0, 'region': Region(0, 0, 9, 9)}, 'region is 9 x 9'),
    ({'condition': INTERVAL, 'interval': 5.0, 'min_gap': 6.0}, 'min_gap is 6.0, longer than'),
    ({'region': Region(0, 0, 9, 0)}, 'region 9 x 0 at (0, 0) is empty'),
    ({'region': Region(0, 0, 0, 9)}, 'is empty'),
    ({'region': Region(3, 0, 0, 0)}, 'region 0 x 0 at (3, 0) is empty'),
    ({'region': Region(-1, 0, 9, 9)}, 'has a negative number'),
    ({'query': {}}, 'has no question'),
    ({'query': {'question': 'x', 'mood': 'good'}}, "the query has mood 'good'"),
    ({'query': {'question': 'x', 'keep_ratio': 'half'}}, "the query has keep_ratio 'half'"),
    ({'query': {'question': 'x', 'max_new_tokens': -1}}, 'max_new_tokens out of range'),
    ({'query': {'question': 'x', 'num_moments': 2 ** 32}}, 'num_moments out of range'),
    ({'query': {'question': 'x', 'num_moments': 1.5}}, 'the query has num_moments 1.5'),
    ({'query': {'question': 'x', 'choices': [1]}}, 'choices that are no text')])
def test_what_is_not_allowed_is_refused_in_a_line_that_names_it(changes, words):
    with pytest.raises(ValueError) as error:
        make(**changes)
    assert words in str(error.value) and '\n' not in str(error.value)


def test_an_interval_is_no_shorter_than_questions_may_follow_each_other():
    defaults = WatchDefaults(max_rate=20.0)
    make(condition=INTERVAL, interval=3.0).check_pace(defaults)
    make(condition=INTERVAL, interval=1.0, max_rate=60.0).check_pace(defaults)
    with pytest.raises(ValueError, match='interval is 2.0, .* 3 seconds, or a max_rate of 30'):
        make(condition=INTERVAL, interval=2.0).check_pace(defaults)


def test_what_is_written_is_read():
    standing = make(
        condition=APPEARED, level=2.5, region=Region(1, 2, 30, 40), min_gap=3.0, max_rate=7.0,
        query={'question': 'Who?', 'keep_ratio': 0.3, 'choices': ['a', 'b'], 'camera': 'rear',
               'num_moments': 3})
    again = StandingQuestion.from_dict(json.loads(json.dumps(standing.to_dict())))
    assert again == standing
    assert (again.question, again.camera) == ('Who?', 'rear')


@pytest.mark.parametrize('changes, words', [
    ({'region': [1, 2, 3]}, 'region is [1, 2, 3]'),
    ({'region': [0.5, 0, 9, 9]}, 'region is [0.5, 0, 9, 9]'),
    ({'level': 'high'}, 'level is high: give a number'),
    ({'level': True}, 'level is True'),
    ({'watch_id': 7}, 'watch_id'),
    ({'query': 'what?'}, 'has no question'),
    ({'mood': 'good'}, 'has mood')])
def test_values_of_a_file_are_checked_as_those_of_messages(changes, words):
    with pytest.raises(ValueError) as error:
        StandingQuestion.from_dict({**make().to_dict(), **changes})
    assert words in str(error.value)
    with pytest.raises(ValueError, match='has no watch_id'):
        StandingQuestion.from_dict([])
