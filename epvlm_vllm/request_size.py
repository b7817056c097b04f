"""A limit on the size of requests: what is too large is refused before it is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
import os
from typing import Any

from fastapi import HTTPException

# Read here, because vLLM starts the middleware by its name alone.
VARIABLE, DEFAULT_BYTES = 'EPVLM_MAX_REQUEST_BYTES', 32 * 2 ** 20


class RequestSizeLimit:
    """
    ASGI middleware that answers 413 to a request whose body is too large.

    Four pictures of 1920 x 1080 as JPEG are about 3 MB, their kept indices less than 100 kB. A
    body of 80 MB takes seconds and half a GB to read as JSON, in the process that serves all.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app
        self._max_bytes = int(os.environ.get(VARIABLE, DEFAULT_BYTES))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request; what reads its body meets the limit."""
        if scope['type'] != 'http':
            await self._app(scope, receive, send)
            return
        length = dict(scope['headers']).get(b'content-length', b'0')
        num_declared, num_read = int(length) if length.isdigit() else 0, 0

        async def receive_some() -> Any:
            nonlocal num_read
            self._check(num_declared)
            message = await receive()
            num_read += len(message.get('body', b''))
            self._check(num_read)
            return message

        await self._app(scope, receive_some, send)

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise HTTPException(413, (
                f'the request has {num_bytes} bytes or more and at most {self._max_bytes} are '
                'read: send images in the size that the model takes, and in kept_indices each '
                'visual token once at most; the server takes more with --max-request-bytes'))
