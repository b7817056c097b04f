"""A server and its model: asked again where that may help, left alone where it keeps failing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
import json
import random
import time
from typing import Any

from epvlm_ros.clean_text import clean_text
from epvlm_ros.vlm.config import ServerConfig
from epvlm_ros.vlm.engine import ServerStatus
from epvlm_ros.vlm.remote.chat_stream import ChatStream
from epvlm_ros.vlm.remote.circuit_breaker import CircuitBreaker
from epvlm_ros.vlm.remote.event_lines import EventLines
from epvlm_ros.vlm.remote.http_client import HttpClient
from epvlm_ros.vlm.remote.json_fields import take
from epvlm_ros.vlm.remote.server_error import ServerError

FIRST_PAUSE_S = 0.1  # before a question is sent again; doubles
MAX_NAME_LENGTH = 200
CheckLimits = Callable[[], None]
TakeText = Callable[[str], None]


class ModelServer:
    """
    Asks a model on a server, one question at a time.

    ``status`` is for any thread; ``key`` is as in ``HttpClient``.
    """

    def __init__(self, config: ServerConfig, key: str) -> None:
        self._config = config
        self._http = HttpClient(config.server, key, config.server_timeout)
        self._breaker = CircuitBreaker(config.server_max_failures, config.server_pause)
        self._model = config.server_model  # empty until it is found
        self._is_found = bool(config.server_model)
        self._num_asked = self._num_failed = self._num_retries = 0
        self._last_fault = ''
        self._latency_s: float | None = None

    @property
    def name(self) -> str:
        """Return the model and where it is, as far as that is known."""
        return f'{self._model or "the model"} at {self._config.server}'

    @property
    def status(self) -> ServerStatus:
        """Return what came of the questions."""
        return ServerStatus(
            self._breaker.state, self._num_asked, self._num_failed, self._num_retries, 0,
            self._breaker.num_failures, self._last_fault, self._latency_s,
            self._http.num_bytes_sent, self._http.num_bytes_received)

    def find_model(self, check_limits: CheckLimits) -> str:
        """
        Ask the server for its models and return the name of the one to ask.

        Raises
        ------
        ServerError
            If the server is not there; ``is_fault`` is false if it has no such model.

        """
        return self._http.run(self._find_model(), check_limits)

    def ask(
        self, body: dict[str, Any], stream: ChatStream, on_text: TakeText | None,
        check_limits: CheckLimits,
    ) -> None:
        """
        Ask a question, until its answer has ended.

        Parameters
        ----------
        body : dict
            The request, without the name of the model.
        stream : ChatStream
            A new one, which takes the answer.
        on_text : callable or None
            Gets each further piece of the text.
        check_limits : callable
            Called often; what it raises ends the question, see ``make_limits``.

        Raises
        ------
        ServerError
            If the server fails, or did so too often just before.

        """
        remaining_s = self._breaker.remaining_s
        if remaining_s:
            raise ServerError(
                f'the server failed {self._breaker.num_failures} times in a row and is left '
                f'alone for {remaining_s:.1f} s more (server_pause): {self._last_fault}')
        self._num_asked += 1
        try:
            self._http.run(self._try(body, stream, on_text, check_limits), check_limits)
        except ServerError as error:
            self._num_failed += 1
            self._last_fault = str(error)
            self._is_found = bool(self._config.server_model)  # it may come back with another one
            if error.is_fault:
                self._breaker.fail()
            raise
        self._breaker.succeed()

    async def _try(
        self, body: dict[str, Any], stream: ChatStream, on_text: TakeText | None,
        check_limits: CheckLimits,
    ) -> None:
        """Ask until there is a token, or no more hope."""
        for attempt in range(self._config.server_retries + 1):
            try:
                return await self._ask_once(body, stream, on_text, check_limits)
            except ServerError as error:
                pause_s = max(
                    error.retry_after_s,
                    FIRST_PAUSE_S * 2 ** attempt * random.uniform(0.5, 1.0))
                if (error.num_tokens or not error.is_passing
                        or attempt == self._config.server_retries
                        or pause_s > self._config.server_timeout):
                    raise
            self._num_retries += 1
            stream.begin_again()
            self._http.note_progress()
            await asyncio.sleep(pause_s)
            self._http.note_progress()

    async def _ask_once(
        self, body: dict[str, Any], stream: ChatStream, on_text: TakeText | None,
        check_limits: CheckLimits,
    ) -> None:
        model = self._model if self._is_found else await self._find_model()
        encoded = json.dumps({'model': model, **body}).encode()
        sent_s = time.perf_counter()
        lines = EventLines()
        try:
            async with aclosing(self._http.post('/v1/chat/completions', encoded)) as pieces:
                async for piece in pieces:
                    for data in lines.feed(piece):
                        had_tokens = len(stream.tokens)
                        text = stream.read(data)
                        if len(stream.tokens) > had_tokens or stream.is_done:
                            self._http.note_progress()
                        if stream.first_token_s is not None:
                            self._latency_s = stream.first_token_s - sent_s
                        if text and on_text is not None:
                            on_text(text)
                        if stream.is_done:
                            return
                        check_limits()
            raise ServerError(
                f'the server ended the stream after {len(stream.tokens)} tokens without [DONE]: '
                'look whether it still runs', is_passing=True)
        except ServerError as error:
            error.num_tokens = len(stream.tokens)
            raise

    async def _find_model(self) -> str:
        reply = await self._http.get_object('/v1/models')
        models: list[Any] = take(reply, 'data', list)
        names = [clean_text(take(take({'data[0]': model}, 'data[0]', dict), 'data[0].id', str),
                            MAX_NAME_LENGTH) for model in models]
        wanted = self._config.server_model
        if wanted not in names and (wanted or len(names) != 1):
            listed = f'{", ".join(names[:10])}: give one of these' if names else \
                'no model: load it there'
            raise ServerError(
                f'server_model is {wanted!r}, {self._config.server} lists {listed}',
                is_fault=False)
        self._model, self._is_found = wanted or names[0], True
        self._http.note_progress()
        return self._model
