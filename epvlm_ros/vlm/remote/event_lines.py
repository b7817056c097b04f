"""
Server-sent events: the data of each, from bytes in pieces of any size.

https://html.spec.whatwg.org/multipage/server-sent-events.html: lines end with LF, CR or both, an
empty one ends an event, one that begins with a colon is a comment. Types and ids of events do not
matter here.
"""

from __future__ import annotations

from epvlm_ros.vlm.remote.server_error import ServerError

MAX_EVENT_BYTES = 1 << 18  # a token with its log-probabilities takes less than a thousandth


class EventLines:
    """Takes bytes and gives the data of whole events."""

    def __init__(self) -> None:
        self._rest = b''  # of a line that has not ended
        self._data: list[bytes] = []
        self._num_bytes = 0  # of the event so far
        self._ended_with_cr = False

    def feed(self, received: bytes) -> list[str]:
        """
        Return the data of the events that end in ``received``.

        Raises
        ------
        ServerError
            If an event is larger than 256 KiB, or no UTF-8.

        """
        if self._ended_with_cr and received.startswith(b'\n'):
            received = received[1:]
        self._ended_with_cr = received.endswith(b'\r') if received else self._ended_with_cr
        self._num_bytes += len(received)
        *lines, self._rest = (self._rest + received).replace(b'\r\n', b'\n').replace(
            b'\r', b'\n').split(b'\n')
        events = [event for event in map(self._take_line, lines) if event is not None]
        if events:
            self._num_bytes = len(self._rest)
        if self._num_bytes > MAX_EVENT_BYTES:
            raise ServerError(
                f'the server sent {self._num_bytes} bytes without the end of an event, more than '
                f'{MAX_EVENT_BYTES}: it does not stream answers; check what runs at server')
        return events

    def _take_line(self, line: bytes) -> str | None:
        """Return the data of an event that ends with this line."""
        if line:
            name, _, value = line.partition(b':')
            if name == b'data':
                self._data.append(value.removeprefix(b' '))
            return None
        data, self._data = b'\n'.join(self._data), []
        if not data:
            return None
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ServerError(
                'the server sent an event that is no UTF-8: check what runs at server') from None
