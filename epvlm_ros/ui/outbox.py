"""What waits to be sent to one page: bounded, however slow the page is."""

from __future__ import annotations

import asyncio
from collections import deque
import json
from typing import Any

MAX_WAITING = 500


class Outbox:
    """
    Messages in order, and the latest of each kind of which older ones are of no use.

    Texts are JSON objects, bytes are live pictures.
    """

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._waiting: deque[str] = deque()
        self._latest: dict[str, str | bytes] = {}
        self._news = asyncio.Event()
        self._is_full = False

    @property
    def is_full(self) -> bool:
        """Whether more waited than is kept: the page has to begin anew."""
        return self._is_full

    def put(self, message: dict[str, Any]) -> None:
        """Send a message after those that wait."""
        if len(self._waiting) >= self._max_waiting:
            self._is_full = True
        else:
            self._waiting.append(json.dumps(message, allow_nan=False))
        self._news.set()

    def put_latest(self, kind: str, message: dict[str, Any] | bytes) -> None:
        """Send a message in the place of the one of its kind that waits."""
        self._latest[kind] = (
            message if isinstance(message, bytes) else json.dumps(message, allow_nan=False))
        self._news.set()

    def forget(self, kind: str) -> None:
        """Take back what waits of a kind."""
        self._latest.pop(kind, None)

    async def get(self) -> str | bytes | None:
        """Return what is to be sent next, None once the outbox was full."""
        while not (self._waiting or self._latest or self._is_full):
            self._news.clear()
            await self._news.wait()
        if self._is_full:
            return None
        if self._waiting:
            return self._waiting.popleft()
        return self._latest.pop(next(iter(self._latest)))
