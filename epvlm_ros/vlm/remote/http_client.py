"""HTTP to a server that may do anything: all is bounded in size and time, faults have remedies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
import os
import time
from typing import Any, Iterator, TypeVar

import aiohttp
from epvlm_ros.clean_text import clean_text
from epvlm_ros.vlm.remote.json_fields import describe_error, parse_object
from epvlm_ros.vlm.remote.server_error import ServerError

LOOK_EVERY_S = 0.02  # whether an answer is still wanted
MAX_REPLY_BYTES = 1 << 24  # of the longest answer a token may take 4 kB
MAX_OBJECT_BYTES = 1 << 20  # of replies that are one object of JSON
MAX_SHOWN = 300  # characters of what a server says
KEY_VARIABLE = 'EPVLM_SERVER_KEY'
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses that may be others a moment later
_AT_FAULT = (408, 425, 429)  # beside all from 500 on: the server, not the question

Result = TypeVar('Result')


def read_key() -> str:
    """Return the key for a server, empty for none; a ValueError if it cannot be sent."""
    key = os.environ.get(KEY_VARIABLE, '')
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ValueError(
            f'{KEY_VARIABLE} holds blanks at its ends or characters that do not print: correct it')
    return key


class HttpClient:
    """
    Requests to one server, each on a connection and an event loop of its own.

    Whoever calls waits; nothing runs between two calls. For one thread at a time.

    Parameters
    ----------
    url : str
        Of the server, without ``/v1``.
    key : str
        Sent as a bearer token; empty sends none. It is in no text of an error.
    timeout_s : float
        Longest time between two signs of life, see ``note_progress``.

    """

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._url, self._key, self._timeout_s = url.rstrip('/'), key, timeout_s
        self._progress_s = 0.0
        self.num_bytes_sent = self.num_bytes_received = 0

    def run(
        self, work: Coroutine[Any, Any, Result], check_limits: Callable[[], None],
    ) -> Result:
        """
        Run a coroutine that uses this client, and return what it returns.

        ``check_limits`` is called some fifty times a second; what it raises ends the work, and
        closes its connection. Raises a ServerError if there is no sign of life for too long.
        """
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(self._supervise(work, check_limits))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()  # does not wait for a thread that still looks up a name

    def note_progress(self) -> None:
        """Take note of a sign of life, such as a token; mere bytes are none."""
        self._progress_s = time.monotonic()

    async def get_object(self, path: str) -> dict[str, Any]:
        """Return the JSON object at a path."""
        async with self._request('GET', path) as response:
            body = await _read(response, MAX_OBJECT_BYTES)
            self.num_bytes_received += len(body)
            if len(body) > MAX_OBJECT_BYTES:
                raise ServerError(
                    f'the server sent more than {MAX_OBJECT_BYTES} bytes as {path}: check what '
                    'runs at server')
            return parse_object(body, path)

    async def post(self, path: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """Send JSON and yield the pieces of the stream of events that comes back."""
        num_bytes = 0
        async with self._request('POST', path, body) as response:
            kind = response.content_type
            if kind != 'text/event-stream':
                start = await _read(response, MAX_SHOWN)
                raise ServerError(
                    f'the server sent {kind} ({self._clean(start)!r}), not the events of a '
                    'stream: check what runs at server')
            async for piece in response.content.iter_any():
                num_bytes += len(piece)
                self.num_bytes_received += len(piece)
                if num_bytes > MAX_REPLY_BYTES:
                    raise ServerError(
                        f'the server sent more than {MAX_REPLY_BYTES} bytes as one answer: check '
                        'what runs at server')
                yield piece

    async def _supervise(
        self, work: Coroutine[Any, Any, Result], check_limits: Callable[[], None],
    ) -> Result:
        self.note_progress()
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_EVERY_S)
                if not task.done():
                    check_limits()
                    self._check_progress()
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # taken note of, whatever ends the work

    def _check_progress(self) -> None:
        if time.monotonic() - self._progress_s > self._timeout_s:
            raise ServerError(
                f'{self._url} sent no token for {self._timeout_s:g} s: look whether it is '
                'overloaded, or raise server_timeout')

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; the response has a good status and is not compressed."""
        headers = {'Accept-Encoding': 'identity'}  # a small reply cannot become a large one
        if body is not None:
            headers['Content-Type'] = 'application/json'
            self.num_bytes_sent += len(body)
        if self._key:
            headers['Authorization'] = f'Bearer {self._key}'
        with self._explained():
            async with aiohttp.ClientSession(
                    cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=None)) as session:
                async with session.request(
                        method, self._url + path, data=body, headers=headers,
                        allow_redirects=False) as response:
                    await self._check_response(response)
                    yield response

    async def _check_response(self, response: aiohttp.ClientResponse) -> None:
        status = response.status
        if 300 <= status < 400:
            to = self._clean(response.headers.get('Location', 'nowhere'))
            raise ServerError(
                f'{self._url} redirects to {to}, which is not followed: give that URL as server, '
                'if it is the right one')
        coding = response.headers.get('Content-Encoding', 'identity')
        if coding != 'identity':
            raise ServerError(
                f'the server sent a reply compressed by {self._clean(coding)}, which was not '
                'asked for: turn that off there')
        if status == 200:
            return
        body = await _read(response, MAX_OBJECT_BYTES)
        said = self._clean(_describe_body(body))
        if status in (401, 403):
            raise ServerError(
                f'{self._url} wants another key (status {status}: {said}): set the environment '
                f'variable {KEY_VARIABLE}', is_fault=False)
        retry_after_s = _parse_retry_after(response.headers.get('Retry-After', ''))
        later = f', and asks for {retry_after_s:g} s without questions' if retry_after_s else ''
        remedy = {
            400: 'it refuses the question', 404: 'correct server or server_model',
            413: 'lower keep_ratio, max_pixels or server_jpeg_quality',
            429: f'it is overloaded{later}: ask less often'}
        raise ServerError(
            f'{self._url} answered with status {status} ({said}): '
            f'{remedy.get(status, f"its log may tell why{later}")}',
            is_passing=status in _PASSING, is_fault=status in _AT_FAULT or status >= 500,
            retry_after_s=retry_after_s)

    def _clean(self, said: str | bytes) -> str:
        """Return what a server says in one line, cut, and without the key."""
        text = said.decode(errors='replace') if isinstance(said, bytes) else said
        if self._key:
            text = text.replace(self._key, f'${KEY_VARIABLE}')
        return clean_text(' '.join(text.split()), MAX_SHOWN)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what aiohttp raises into errors with a remedy."""
        try:
            yield
        except aiohttp.ClientConnectorCertificateError as error:
            raise ServerError(
                f'{self._url} has a certificate that is not trusted ({self._clean(str(error))}): '
                'set SSL_CERT_FILE to the file of its authority') from error
        except aiohttp.ClientConnectorError as error:
            reason = self._clean(error.strerror or str(error.os_error))
            raise ServerError(
                f'cannot reach {self._url} ({reason}): start the server, or correct server',
                is_passing=True) from error
        except (aiohttp.ServerConnectionError, aiohttp.ClientPayloadError,
                aiohttp.ClientOSError) as error:
            raise ServerError(
                f'{self._url} broke the connection ({self._clean(str(error))}): look whether it '
                'still runs', is_passing=True) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise ServerError(
                f'{self._url} sent what is no HTTP ({self._clean(str(error))}): check what runs '
                'at server') from error


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return a body, of a longer one at least a byte more than ``max_bytes``."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > max_bytes:
            break
    return bytes(body)


def _describe_body(body: bytes) -> str | bytes:
    try:
        return describe_error(parse_object(body, 'an error'))
    except ServerError:
        return body or b'no text'


def _parse_retry_after(value: str) -> float:
    """Return seconds, given as such or as a date; 0 for anything else."""
    if value.isdecimal() and value.isascii():
        return float(value[:12])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
