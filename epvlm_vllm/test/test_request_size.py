"""The limit on the size of requests, without a server."""

import asyncio

from epvlm_vllm.request_size import RequestSizeLimit
from fastapi import HTTPException
import pytest


def serve(headers, chunks, monkeypatch, scope_type='http'):
    """Let an application read all of a request; return what it read and what was left."""
    monkeypatch.setenv('EPVLM_MAX_REQUEST_BYTES', '100')
    waiting, read = list(chunks), []

    async def receive():
        return {'body': waiting.pop(0), 'more_body': bool(waiting)}

    async def application(scope, receive, send):
        while waiting:
            read.append((await receive())['body'])

    scope = {'type': scope_type, 'headers': headers}
    try:
        asyncio.run(RequestSizeLimit(application)(scope, receive, None))
    except HTTPException as error:
        return error, read, waiting
    return None, read, waiting


@pytest.mark.parametrize('headers', [[(b'content-length', b'100')], []])
def test_what_is_as_large_as_the_limit_is_read(headers, monkeypatch):
    error, read, _ = serve(headers, [b'x' * 60, b'x' * 40], monkeypatch)
    assert error is None and b''.join(read) == b'x' * 100


def test_a_length_beyond_the_limit_is_refused_before_anything_is_read(monkeypatch):
    error, read, waiting = serve([(b'content-length', b'101')], [b'x' * 101], monkeypatch)
    assert error.status_code == 413 and '101 bytes or more and at most 100' in error.detail
    assert read == [] and waiting == [b'x' * 101]


@pytest.mark.parametrize('headers', [[], [(b'content-length', b'0')], [(b'content-length', b'x')]])
def test_without_a_length_reading_ends_at_the_limit(headers, monkeypatch):
    error, read, waiting = serve(headers, [b'x' * 60] * 5, monkeypatch)
    assert error.status_code == 413 and '120 bytes or more' in error.detail
    assert len(read) == 1 and len(waiting) == 3


def test_what_is_no_request_is_left_alone(monkeypatch):
    error, read, _ = serve([(b'content-length', b'9999')], [b'x'] * 3, monkeypatch, 'lifespan')
    assert error is None and len(read) == 3
