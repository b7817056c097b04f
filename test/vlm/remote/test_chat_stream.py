"""What the events of a chat completion add to an answer, and those that are not as they should."""

import json

from chat_server import chunk, usage
from epvlm_ros.vlm.remote.chat_stream import ChatStream
from epvlm_ros.vlm.remote.server_error import ServerError
import pytest


def read(*events, max_tokens=8):
    stream = ChatStream({'<|im_end|>'}, max_tokens)
    return stream, [stream.read(data) for data in events]


def test_an_answer_is_put_together():
    stream, texts = read(
        chunk(), chunk('a', -0.5, -2.0), chunk(' dog', -0.25, -3.0),
        chunk(finish='stop', token='<|im_end|>'), usage(17), '[DONE]')
    assert texts == ['', 'a', ' dog', '', '', '']
    assert (stream.text, stream.ending, stream.num_prompt_tokens) == ('a dog', 'end', 17)
    assert stream.tokens == [(-0.5, 1.5), (-0.25, 2.75)]
    assert stream.is_done


def test_a_token_that_was_sampled_is_compared_with_all_others():
    stream, _ = read(chunk('b', -2.0, -0.5))
    assert stream.tokens == [(-2.0, -1.5)]


def test_the_token_limit_is_told():
    stream, _ = read(chunk('a', finish='length'), '[DONE]')
    assert stream.ending == 'limit'


def change(path, value):
    """Return a chunk with another value, or without it, at a path of keys."""
    found = json.loads(chunk('a'))
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(found)


CHOICE = ['choices', 0]
TOKEN = [*CHOICE, 'logprobs', 'content', 0]


@pytest.mark.parametrize('data, words', [
    ('{', "'{' as an event, which is no JSON"),
    ('[1]', 'an event is [1], not an object'),
    ('[' * 100_000, 'which is no JSON'),
    ('{}', 'choices is missing, not a list'),
    ('{"choices": {}}', 'choices is {}, not a list'),
    ('{"choices": [3]}', 'choices[0] is 3, not an object'),
    (change([*CHOICE, 'delta', 'content'], 5), 'choices[0].delta.content is 5, not a text'),
    (change([*CHOICE, 'delta'], 'a'), "choices[0].delta is 'a', not an object"),
    (change([*CHOICE, 'logprobs'], None), 'choices[0].logprobs is missing beside a text'),
    (change([*CHOICE, 'logprobs', 'content'], {}), 'logprobs.content is {}, not a list'),
    (change([*TOKEN, 'logprob'], '-1'), "content.logprob is '-1', not a number"),
    (change([*TOKEN, 'logprob'], float('nan')), 'content.logprob is nan, not a number'),
    (change([*TOKEN, 'logprob'], True), 'content.logprob is True, not a number'),
    (change([*TOKEN, 'top_logprobs'], [1]), 'top_logprobs[0] is 1, not an object'),
    (change([*CHOICE, 'finish_reason'], 'abort'), "finish_reason 'abort'"),
    ('{"choices": [], "usage": {"prompt_tokens": 1.5}}',
     'usage.prompt_tokens is 1.5, not an integer'),
    ('{"error": {"message": "out of\\nmemory"}}', 'the server broke off: out of memory'),
    ('[DONE]', 'without a finish_reason'),
])
def test_what_is_not_as_it_should_be_is_named(data, words):
    with pytest.raises(ServerError) as error:
        read(data)
    assert words in str(error.value) and '\n' not in str(error.value)
    assert len(str(error.value)) < 500


def test_more_tokens_than_were_asked_for_are_refused():
    with pytest.raises(ServerError, match='sent 3 tokens, 2 were asked for'):
        read(*[chunk('a')] * 3, max_tokens=2)
