"""A real `epvlm-serve` over HTTP: what robots ask, and what hostile clients do."""

from concurrent.futures import ThreadPoolExecutor
import http.client
import json
import time

from own_engine import EMBEDDED
import pytest
from running_server import make_request, start_server
from served_models import keep_some, make_picture

GRID = [10, 14]
LIMIT = 4 * 2 ** 20


@pytest.fixture(scope='module')
def server(own, tmp_path_factory):
    log = tmp_path_factory.mktemp('server') / 'log.txt'
    with start_server(own.save(EMBEDDED), log, '--max-request-bytes', str(LIMIT)) as server:
        yield server


@pytest.fixture(scope='module')
def picture():
    return make_picture(EMBEDDED, *GRID)


def text_of(answer):
    return answer['choices'][0]['message']['content']


def test_kept_tokens_alone_are_in_the_prompt(server, picture):
    kept = keep_some(140, 0.25)
    status, dense = server.post(make_request([picture]))
    assert status == 200
    status, sparse = server.post(make_request([picture], [kept], [GRID]))
    assert status == 200
    num_dropped = dense['usage']['prompt_tokens'] - sparse['usage']['prompt_tokens']
    assert num_dropped == 140 - len(kept)


def test_a_stream_ends_with_its_usage(server, picture):
    request = make_request([picture], [keep_some(140, 0.25)], [GRID])
    _, whole = server.post(request)
    parts = list(server.stream({
        **request, 'stream': True, 'stream_options': {'include_usage': True}}))
    said = ''.join(
        part['choices'][0]['delta'].get('content') or '' for part in parts if part['choices'])
    assert said == text_of(whole)
    counts = ('prompt_tokens', 'completion_tokens', 'total_tokens')
    assert [parts[-1]['usage'][name] for name in counts] == [
        whole['usage'][name] for name in counts]
    scores = [entry for part in parts if part['choices'] and part['choices'][0].get('logprobs')
              for entry in part['choices'][0]['logprobs']['content']]
    assert len(scores) == parts[-1]['usage']['completion_tokens']
    assert all(len(entry['top_logprobs']) == 2 for entry in scores)


def test_many_robots_at_once_get_their_own_answers(server, picture):
    requests = [
        make_request([picture], [keep_some(140, 0.3, seed)], [GRID], max_tokens=4)
        for seed in range(16)]
    alone = [server.post(request)[1] for request in requests]
    with ThreadPoolExecutor(16) as robots:
        together = list(robots.map(server.post, requests))
    assert [status for status, _ in together] == [200] * 16
    for one, (_, other) in zip(alone, together):
        first, second = (
            answer['choices'][0]['logprobs']['content'][0]['logprob'] for answer in (one, other))
        assert first == pytest.approx(second, abs=1e-3)
        assert text_of(one) == text_of(other)


@pytest.mark.parametrize('kept, grids, message', [
    ([[3, 140]], [GRID], 'kept_indices[0][1]: 140 is no index of a visual token: give 0 to 139'),
    ([[3, 3]], [GRID], 'kept_indices[0][1]: 3 is given twice: give ascending indices'),
    ([[4, 3]], [GRID], 'kept_indices[0][1]: 3 comes after 4: give ascending indices'),
    ([[-1]], [GRID], 'kept_indices[0][0]: -1 is no index'),
    ([[]], [GRID], 'kept_indices[0]: a list of 0: give 1 to 140 ascending indices'),
    ([], [], 'kept_indices: a list of 0; number of images: 1'),
    ([[1], [2]], [GRID, GRID], 'kept_indices: a list of 2; number of images: 1'),
    ([[1]], [[14, 10]], 'token_grids[0]: 14 x 10 tokens, but the server cuts this image into 10'),
    ([[1]], [[10 ** 9, 10 ** 9]], 'token_grids[0]: 1000000000 x 1000000000 tokens: this server'),
    ([[1]], None, 'token_grids: None'),
    ([[0] * 10 ** 6], [GRID], 'kept_indices[0]: a list of 1000000: give 1 to 140'),
    ([{'a': {'b': []}}], [GRID], 'kept_indices[0]: 1 entries (dict)'),
    (['x' * 10 ** 6], [GRID], 'kept_indices[0]: ' + 'x' * 40 + '... (str)'),
    ([[float('nan')]], [GRID], 'kept_indices[0][0]: nan is no index'),
])
def test_wrong_kept_tokens_are_named_with_the_remedy(server, picture, kept, grids, message):
    status, answer = server.post(make_request([picture], kept, grids))
    assert status == 400
    assert answer['error']['message'].startswith(message)


def test_options_of_the_processor_are_not_taken_from_requests(server, picture):
    request = make_request([picture])
    request['mm_processor_kwargs'] = {'max_pixels': 10 ** 12}
    status, answer = server.post(request)
    assert status == 400
    assert 'max_pixels is not taken from a request' in answer['error']['message']


def test_ten_million_indices_are_refused_before_they_are_read(server, picture):
    indices = ','.join(map(str, range(10 ** 7)))
    body = json.dumps(make_request([picture], [[]], [GRID])).replace('[[]]', f'[[{indices}]]')
    before, start = server.peak_memory_mb(), time.monotonic()
    # a client that waits for the answer before it sends its 79 MB
    connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=60)
    connection.putrequest('POST', '/v1/chat/completions')
    connection.putheader('Content-Type', 'application/json')
    connection.putheader('Content-Length', str(len(body)))
    connection.endheaders()
    response = connection.getresponse()
    message = json.loads(response.read())['error']['message']
    connection.close()
    assert response.status == 413
    assert f'{len(body)} bytes' in message and 'kept_indices' in message
    # and one that sends all of it, whatever it is told
    try:
        status, _ = server.post(body.encode())
        assert status == 413
    except OSError:
        pass  # the server has hung up while it was sending
    assert time.monotonic() - start < 10
    assert server.peak_memory_mb() - before < 50  # read as JSON, they are 400


@pytest.mark.parametrize('body', [
    b'', b'{', b'[]', b'\xff' * 1000, b'{"a":' * 5000,
    b'{"model": "tiny", "messages": "x", "mm_processor_kwargs": []}'])
def test_what_is_no_request_is_refused(server, body):
    status, answer = server.post(body)
    assert 400 <= status < 500 and (answer.get('error') or answer['detail'])


def test_a_picture_that_is_none_is_refused(server, picture):
    request = make_request([picture], [[1]], [GRID])
    request['messages'][0]['content'][0]['image_url']['url'] = 'data:image/jpeg;base64,AAAA'
    status, answer = server.post(request)
    assert status == 400 and answer['error']['message']


def test_clients_that_go_away_leave_nothing_behind(server, picture):
    request = make_request(
        [picture], [keep_some(140, 0.5)], [GRID], max_tokens=500, ignore_eos=True, stream=True)
    for _ in range(20):
        parts = server.stream(request)
        next(parts)
        parts.close()
    start = time.monotonic()
    assert server.post(make_request([picture], [[5]], [GRID]))[0] == 200
    assert time.monotonic() - start < 20
    assert server.process.poll() is None


def test_after_all_of_that_it_answers_as_before(server, picture):
    status, answer = server.post(make_request([picture], [list(range(140))], [GRID]))
    assert status == 200
    assert text_of(answer) == text_of(server.post(make_request([picture]))[1])
