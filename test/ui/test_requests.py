"""Messages of pages: read, or refused by name."""

import json

from epvlm_ros.ui.requests import (
    AskRequest, CancelRequest, find_id, LiveRequest, parse_request, Question, SetRequest,
    UnwatchRequest, WatchRequest)
from hypothesis import given, strategies
import pytest


def parse(**fields):
    return parse_request(json.dumps(fields))


def test_every_kind_is_read():
    assert parse(type='ask', id=1, question='what?') == AskRequest(1, Question('what?'))
    assert parse(
        type='ask', id=2, question='which?', choices=['a', 'b'], seconds_ago=2, keep_ratio=0.5,
        max_new_tokens=4, deadline=1.5, camera='rear', num_moments=3) == AskRequest(
            2, Question('which?', ('a', 'b'), 2.0, 0.5, 4, 1.5, 'rear', 3))
    assert parse(type='cancel', id=3, asked=1) == CancelRequest(3, 1)
    assert parse(type='watch', id=4, question='who?', condition='interval', interval=2,
                 region=[1, 2, 3, 4]) == WatchRequest(
        4, Question('who?'), 'interval', interval=2.0, region=(1, 2, 3, 4))
    assert parse(type='unwatch', id=5, watch_id='w') == UnwatchRequest(5, 'w')
    assert parse(type='set', id=6, node='/n', name='p', value=[1, 2.5]) == SetRequest(
        6, '/n', 'p', (1.0, 2.5))
    assert parse(type='live', id=7, on=False) == LiveRequest(7, False)


@pytest.mark.parametrize('value', [True, 3, 2.5, 'text', ''])
def test_values_of_parameters_keep_their_type(value):
    read = parse(type='set', id=1, node='/n', name='p', value=value).value
    assert read == value and type(read) is type(value)


ASK = {'type': 'ask', 'id': 1, 'question': 'what?'}
SET = {'type': 'set', 'id': 1, 'node': '/n', 'name': 'p'}


@pytest.mark.parametrize('text, words', [
    ('', 'not JSON'), ('{', 'not JSON'), ('[]', 'is a list: send a JSON object'),
    ('1' * 10_000, 'not JSON'), ('null', 'is a NoneType'), ('{"id": NaN}', 'NaN is no number'),
    ('[' * 100_000, 'nested too deeply'),
    ({}, 'type is missing'), ({'type': 'dance', 'id': 1}, "type is 'dance': give ask"),
    ({'type': 7, 'id': 1}, 'type is 7: give a text'),
    ({'type': 'ask', 'id': 1}, 'question is missing'),
    ({**ASK, 'id': '1'}, "id is '1': give a whole number"),
    ({**ASK, 'id': True}, 'id is True'), ({**ASK, 'id': -1}, 'id is -1'),
    ({**ASK, 'question': ['what?']}, 'question is ['),
    ({**ASK, 'question': 'x' * 20_001}, 'question has 20001 characters: give at most 20000'),
    ({**ASK, 'question': 'a\0b'}, 'characters that no text has'),
    ({**ASK, 'question': '\ud800'}, 'characters that no text has'),
    ({**ASK, 'keep_ratio': '0.5'}, "keep_ratio is '0.5': give a finite number"),
    ({**ASK, 'deadline': 1e400}, 'Infinity is no number'),
    ({**ASK, 'max_new_tokens': 2 ** 32}, 'max_new_tokens is 4294967296'),
    ({**ASK, 'max_new_tokens': 1.5}, 'max_new_tokens is 1.5'),
    ({**ASK, 'num_moments': -1}, 'num_moments is -1'),
    ({**ASK, 'choices': 'a, b'}, 'choices: give a list'),
    ({**ASK, 'choices': ['a'] * 257}, 'choices: give a list of up to 256'),
    ({**ASK, 'choices': [1]}, 'choices is 1: give a text'),
    ({**ASK, 'colour': 'red'}, "'colour' is no field"),
    ({**ASK, 'type': 'watch', 'condition': 'never'}, "condition is 'never': give one of"),
    ({**ASK, 'type': 'watch', 'condition': 'activity', 'region': [0, 0, -1, 4]}, 'region is ['),
    ({**SET, 'value': 2 ** 63}, 'at most 64 bits'), ({**SET, 'value': {}}, 'value is {}'),
    ({**SET, 'value': [True]}, 'value is True: give a finite number'), (SET, 'value is missing'),
    ({'type': 'live', 'id': 1, 'on': 1}, 'on is 1: give true or false')])
def test_a_message_at_fault_is_refused_in_one_line(text, words):
    with pytest.raises(ValueError) as error:
        parse_request(text if isinstance(text, str) else json.dumps(text))
    assert words in str(error.value) and '\n' not in str(error.value)
    assert len(str(error.value)) < 400


@given(strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats()
    | strategies.text(max_size=5) | strategies.sampled_from(
        ['ask', 'cancel', 'watch', 'unwatch', 'set', 'live']),
    lambda inner: strategies.lists(inner, max_size=4) | strategies.dictionaries(
        strategies.sampled_from(['type', 'id', 'question', 'value', 'on', 'region', 'asked']),
        inner, max_size=5), max_leaves=10))
def test_anything_is_read_or_refused(message):
    try:
        parse_request(json.dumps(message))
    except ValueError:
        pass


def test_the_id_of_a_message_at_fault_is_found():
    assert find_id('{"id": 7, "type": "dance"}') == 7
    assert find_id('{"id": "7"}') is None and find_id('{') is None
