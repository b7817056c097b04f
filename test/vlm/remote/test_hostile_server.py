"""Whatever a server sends: an error that names the fault, in time and memory; then it goes on."""

import asyncio
from contextlib import contextmanager
import json
import os
from pathlib import Path
import threading
import time

from aiohttp import web
from chat_server import begin, ChatServer, chunk, event, script, usage
from epvlm_ros.vlm.checkpoint import load_processor
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
from epvlm_ros.vlm.engine import Moment
from epvlm_ros.vlm.remote import RemoteEngine, ServerError
import numpy as np
import pytest

TIMEOUT_S = 0.6
LIMIT_S = 4.0  # for an outcome, on a busy machine
MEGABYTE = b'x' * (1 << 20)
PICTURE = np.zeros((112, 112, 3), np.uint8)  # 100 tokens, and 10 of text with the question
GOOD = script(chunk('fine', finish='stop'), usage(110))


@pytest.fixture(scope='module')
def processor():
    return load_processor(VlmConfig())


def make_engine(processor, url, **parameters):
    return RemoteEngine(processor, VlmConfig(device='cpu', keep_ratio=0.5), ServerConfig(**{
        'server': url, 'server_timeout': TIMEOUT_S, 'server_retries': 0, 'server_model': 'tiny',
        'server_max_failures': 100, **parameters}), key='sesame')


def ask(engine):
    return engine.answer_about([Moment(PICTURE, None)], 'what is there?')


def assert_fails(engine, *words, limit_s=LIMIT_S):
    """Check that a question fails in time with one line that holds these words."""
    start_s = time.monotonic()
    with pytest.raises(ServerError) as error:
        ask(engine)
    assert time.monotonic() - start_s < limit_s
    text = str(error.value)
    assert [word for word in words if word not in text] == [], text
    assert text.isprintable() and len(text) < 800 and 'sesame' not in text
    return error.value


def plain(status=200, body='', **headers):
    async def reply(request, _):
        return web.Response(status=status, text=body, headers=headers)
    return reply


def repeat(data, pause_s=0.0, status=200):
    """Return a reply of the same bytes without an end."""
    async def reply(request, _):
        response = await begin(request)
        while True:
            await response.write(data)
            await asyncio.sleep(pause_s)
    return reply


def drip(data, pause_s):
    """Return a reply that comes byte by byte."""
    async def reply(request, _):
        response = await begin(request)
        for value in data:
            await response.write(bytes([value]))
            await asyncio.sleep(pause_s)
        return response
    return reply


def html(request, _):
    async def reply():
        return web.Response(text='<html>a proxy\n says hello</html>', content_type='text/html')
    return reply()


def error_body(message, status=400, **headers):
    return plain(status, json.dumps({'error': {'message': message}}), **headers)


CASES = {
    'a reply of a gigabyte in one line': (repeat(MEGABYTE), ['without the end of an event']),
    'a gigabyte of comments': (repeat(b': x\n' * (1 << 16)), ['without the end of an event']),
    'a gigabyte of empty events': (repeat(event('{"choices": [], "x": "%s"}' % ('x' * 250_000))),
                                   ['bytes as one answer']),
    'bytes without tokens': (drip(b': ping\n\n' * 1000, 0.05), ['sent no token for 0.6 s']),
    'an event that comes byte by byte': (drip(event(chunk('a')), 0.05),
                                         ['sent no token for 0.6 s', 'server_timeout']),
    'silence': (repeat(b'', 5.0), ['sent no token for 0.6 s']),
    'empty texts for ever': (repeat(event(chunk()), 0.05), ['sent no token']),
    'tokens for ever': (repeat(event(chunk('a'))), ['65 tokens, 64 were asked for', 'max_tokens']),
    'a stream that is cut off': (script(chunk('a'), end=False), ['after 1 tokens without [DONE]']),
    'a stream without a reason to end': (script(chunk('a')), ['without a finish_reason']),
    'a stream without usage': (script(chunk('a', finish='stop')),
                               ['None tokens of the prompt (usage.prompt_tokens)']),
    'another length of the prompt': (script(chunk('a', finish='stop'), usage(3)),
                                     ['counted 3 tokens of the prompt', 'epvlm-serve']),
    'an error in the stream': (script(chunk('a'), '{"error": {"message": "no memory"}}'),
                               ['broke off: no memory']),
    'no JSON': (script('hello'), ["'hello' as an event, which is no JSON"]),
    'a web page': (html, ['text/html', '<html>a proxy says hello</html>', 'at server']),
    'JSON instead of a stream': (plain(200, '{"choices": []}'), ['text/plain', 'stream']),
    'status 500': (error_body('it hurts', 500), ['status 500 (it hurts)', 'log']),
    'status 500 with a gigabyte': (
        lambda request, _: _endless_error(request), ['status 500', 'xxx']),
    'status 400': (error_body('kept_indices[0]: \x1b[2J\n no'), ['status 400', 'kept_indices[0]']),
    'status 400 with anything': (plain(400, '[]'), ['status 400 ([])']),
    'another key': (error_body('Bearer sesame is wrong', 401),
                    ['status 401', 'Bearer $EPVLM_SERVER_KEY is wrong']),
    'no such model': (error_body('no such model', 404), ['404', 'correct server or server_model']),
    'too many questions': (error_body('slow down', 429, **{'Retry-After': '30'}),
                           ['status 429 (slow down)', 'asks for 30 s without questions']),
    'Retry-After without sense': (error_body('slow', 429, **{'Retry-After': '-1e99 \u00e9'}),
                                  ['status 429 (slow)']),
    'a redirect': (plain(307, Location='http://elsewhere.example/v1'),
                   ['redirects to http://elsewhere.example/v1, which is not followed']),
    'a compressed reply': (plain(200, 'x', **{'Content-Encoding': 'gzip'}),
                           ['compressed by gzip']),
    'no content': (plain(204), ['status 204 (no text)']),
}


async def _endless_error(request):
    response = web.StreamResponse(status=500)
    await response.prepare(request)
    while True:
        await response.write(MEGABYTE)


@pytest.mark.parametrize('name', CASES)
def test_what_a_server_may_do_is_an_error_and_the_next_question_is_answered(
        name, processor):
    reply, words = CASES[name]
    is_large = 'gigabyte' in name  # which takes a busy machine a while to read
    before = resident_bytes()
    with ChatServer(reply) as server:
        engine = make_engine(processor, server.url, server_timeout=8.0 if is_large else TIMEOUT_S)
        assert_fails(engine, *words, limit_s=8.0 if is_large else LIMIT_S)
        assert resident_bytes() - before < 400e6
        server.reply = GOOD
        assert ask(engine).text == 'fine'


def resident_bytes():
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


LISTS = {
    'no list': ({'models': []}, ['data is missing, not a list']),
    'names that are none': ({'data': [{'id': 5}]}, ['data[0].id is 5, not a text']),
    'no names': ({'data': [7]}, ['data[0] is 7, not an object']),
    'no model': ({'data': []}, ['lists no model: load it there']),
    'a list of a gigabyte': ({'data': [{'id': 'x' * (2 << 20)}]}, ['more than 1048576 bytes']),
}


@pytest.mark.parametrize('name', LISTS)
def test_a_list_of_models_that_is_none_is_an_error(name, processor):
    reply, words = LISTS[name]
    with ChatServer(GOOD) as server:
        async def list_models(request):
            return web.json_response(reply)

        server._list = list_models
        server.close()
        server.__enter__()
        assert_fails(make_engine(processor, server.url, server_model=''), *words)


def test_a_server_that_wants_a_moment_gets_it(processor):
    replies = [error_body('slow down', 429, **{'Retry-After': '1'})]
    times_s = []

    async def reply(request, body):
        times_s.append(time.monotonic())
        return await (replies.pop() if replies else GOOD)(request, body)

    with ChatServer(reply) as server:
        engine = make_engine(processor, server.url, server_retries=1, server_timeout=3.0)
        assert ask(engine).text == 'fine'
    assert 1.0 <= times_s[1] - times_s[0] < 2.0


@contextmanager
def raw_server(respond):
    """Run a TCP server that hands each connection to a coroutine."""
    ready, state = threading.Event(), {}

    async def serve():
        state['loop'], state['ended'] = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(respond, '127.0.0.1', 0)
        state['port'] = server.sockets[0].getsockname()[1]
        ready.set()
        await state['ended'].wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield f'http://127.0.0.1:{state["port"]}'
    state['loop'].call_soon_threadsafe(state['ended'].set)
    thread.join(10)


def send(data, *, endless=False, then_close=True):
    async def respond(reader, writer):
        await reader.readuntil(b'\r\n\r\n')
        try:
            writer.write(data)
            while endless:
                writer.write(b'X-Header-%d: ' % time.monotonic_ns() + b'x' * 4000 + b'\r\n')
                await writer.drain()
            await writer.drain()
            if not then_close:
                await asyncio.sleep(30)
        except (ConnectionError, asyncio.CancelledError):
            pass
        writer.transport.abort()
    return respond


START = (b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n'
         b'Transfer-Encoding: chunked\r\n')
RAW = {
    'no HTTP': (send(b'SSH-2.0-OpenSSH_9.2\r\n'), ['what is no HTTP']),
    'nothing': (send(b''), ['broke the connection']),
    'a status line without an end': (
        send(b'HTTP/1.1 200 ' + b'x' * 100_000), ['what is no HTTP']),
    'headers without an end': (send(START, endless=True), ['what is no HTTP']),
    'a header that never ends': (send(START + b'X: ' + b'x' * 10_000_000), ['what is no HTTP']),
    'half a header': (send(START, then_close=False), ['sent no token for 0.6 s']),
    'a chunk that is cut off': (send(START + b'\r\nff\r\ndata: {"cho'), ['broke the connection']),
    'a chunk of a wrong size': (
        send(START + b'\r\nzz\r\ndata: {"cho'), ['what is no HTTP']),
}


@pytest.mark.parametrize('name', RAW)
def test_what_is_no_http_is_an_error(name, processor):
    respond, words = RAW[name]
    before = resident_bytes()
    with raw_server(respond) as url:
        assert_fails(make_engine(processor, url), *words)
    assert resident_bytes() - before < 400e6


@pytest.mark.parametrize('url, words', [
    ('https://{0}', 'cannot reach https'), ('http://epvlm.invalid:8000', 'cannot reach http'),
    ('http://127.0.0.1:9', 'cannot reach http://127.0.0.1:9')])
def test_a_server_that_cannot_be_reached_is_an_error(url, words, processor):
    with ChatServer(GOOD) as server:
        assert_fails(make_engine(processor, url.format(f'127.0.0.1:{server.port}'),
                                 server_timeout=3.0), words)
