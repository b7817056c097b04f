"""
A streamed chat completion: what each event adds to the answer.

https://platform.openai.com/docs/api-reference/chat-streaming: chunks with the next text and the
log-probabilities of its tokens, one that says why the answer ended, one with the usage, then
``[DONE]``.
"""

from __future__ import annotations

from collections.abc import Collection
import math
import time
from typing import Any, NamedTuple

from epvlm_ros.vlm.engine.answer import AT_ITS_END, AT_TOKEN_LIMIT
from epvlm_ros.vlm.remote.json_fields import describe_error, parse_object, take
from epvlm_ros.vlm.remote.server_error import ServerError

DONE = '[DONE]'
_ENDINGS = {'stop': AT_ITS_END, 'length': AT_TOKEN_LIMIT}


class StreamedToken(NamedTuple):
    """
    A token of an answer, as the server describes it.

    ``margin`` is its log-probability above that of the likeliest other one; NaN if the server
    names no other.
    """

    log_probability: float
    margin: float


class ChatStream:
    """
    Collects an answer from the events of a stream; it was asked for when this was made.

    Parameters
    ----------
    end_tokens : collection of str
        Tokens that end an answer, which servers list as its last one; they do not count.
    max_tokens : int
        That were asked for.

    """

    def __init__(self, end_tokens: Collection[str], max_tokens: int) -> None:
        self._end_tokens, self._max_tokens = end_tokens, max_tokens
        self.text = ''
        self.tokens: list[StreamedToken] = []
        self.ending = ''  # not yet, else one of AT_...
        self.num_prompt_tokens: int | None = None
        self.is_done = False
        self.start_s = time.perf_counter()
        self.first_token_s: float | None = None  # none yet

    def begin_again(self) -> None:
        """Forget what a stream said that ended before its first token."""
        self.ending, self.num_prompt_tokens = '', None

    def read(self, data: str) -> str:
        """
        Take the data of an event and return the text that it adds.

        Raises
        ------
        ServerError
            If the server says that it failed, or the event is not as it should be.

        """
        if data == DONE:
            self._finish()
            return ''
        chunk = parse_object(data, 'an event')
        if chunk.get('error') is not None:
            raise ServerError(
                f'the server broke off: {describe_error(chunk)}; its log may tell more',
                is_passing=True)
        usage: dict[str, Any] = take(chunk, 'usage', dict, {})
        if usage:
            self.num_prompt_tokens = take(usage, 'usage.prompt_tokens', int)
        choices: list[Any] = take(chunk, 'choices', list)
        if not choices:
            return ''
        choice = take({'choices[0]': choices[0]}, 'choices[0]', dict)
        delta: dict[str, Any] = take(choice, 'choices[0].delta', dict, {})
        text = take(delta, 'choices[0].delta.content', str, '')
        self._take_tokens(choice, text)
        if not self.text:  # some detokenizers leave a blank before the first word
            text = text.lstrip()
        reason = take(choice, 'choices[0].finish_reason', str, '')
        if reason:
            if reason not in _ENDINGS:
                raise ServerError(
                    f'the server ended the answer with finish_reason {reason[:40]!r}: its log '
                    'may tell why')
            self.ending = _ENDINGS[reason]
        self.text += text
        return text

    def _take_tokens(self, choice: dict[str, Any], text: str) -> None:
        path = 'choices[0].logprobs'
        logprobs: dict[str, Any] = take(choice, path, dict, {})
        entries: list[Any] = take(logprobs, f'{path}.content', list, [])
        if text and not entries:
            raise ServerError(
                f"the server's {path} is missing beside a text: let it return log-probabilities")
        for entry in entries:
            token = take({'content[0]': entry}, 'content[0]', dict)
            name = take(token, f'{path}.content.token', str)
            if name not in self._end_tokens:
                self.first_token_s = self.first_token_s or time.perf_counter()
                self.tokens.append(_read_token(token, name, f'{path}.content'))
        if len(self.tokens) > self._max_tokens:
            raise ServerError(
                f'the server sent {len(self.tokens)} tokens, {self._max_tokens} were asked for: '
                'it ignores max_tokens; check what runs at server')

    def _finish(self) -> None:
        if not self.ending:
            raise ServerError(
                'the server ended its stream without a finish_reason: its log may tell why',
                is_passing=True)
        self.is_done = True


def _read_token(token: dict[str, Any], name: str, path: str) -> StreamedToken:
    log_probability = take(token, f'{path}.logprob', float)
    others = []
    for entry in take(token, f'{path}.top_logprobs', list, []):
        other = take({'top_logprobs[0]': entry}, 'top_logprobs[0]', dict)
        found = take(other, f'{path}.top_logprobs.logprob', float)
        if (take(other, f'{path}.top_logprobs.token', str), found) != (name, log_probability):
            others.append(found)
    return StreamedToken(log_probability, log_probability - max(others) if others else math.nan)
