"""The server, by a client that is no browser: access, the protocol, hostile pages."""

import asyncio
from contextlib import asynccontextmanager
import json
import logging

import aiohttp
from epvlm_ros.ui.access import Access
from epvlm_ros.ui.pages import MAX_OPEN_REQUESTS, MAX_PAGES, Pages
from epvlm_ros.ui.server import make_app, start_server
from fake_robot import FakeRobot, make_answer
import pytest

TOKEN = 'a token of some length'
TIMEOUT_S = 10


class Client:
    """A server with a robot behind it, and a session that talks to it."""

    def __init__(self, robot, pages, session, runner, port):
        self.robot, self.pages, self.session, self.runner = robot, pages, session, runner
        self.host = f'127.0.0.1:{port}'
        self.address = f'http://{self.host}'

    async def get(self, path, **headers):
        async with self.session.get(
                self.address + path, headers=headers, allow_redirects=False) as response:
            return response.status, await response.text(errors='replace')

    async def connect(self, **headers):
        return Socket(await self.session.ws_connect(
            f'{self.address}/socket', headers={'Origin': self.address, **headers}))

    async def refusal(self, **headers):
        """Return the status with which a socket is refused."""
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await self.connect(**headers)
        return error.value.status


class Socket:
    """The socket of a page."""

    def __init__(self, socket):
        self.socket = socket

    async def send(self, **message):
        await self.socket.send_str(json.dumps(message))

    async def receive(self):
        message = await self.socket.receive(timeout=TIMEOUT_S)
        if message.type is aiohttp.WSMsgType.BINARY:
            return message.data
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return json.loads(message.data)

    async def next_of(self, kind):
        """Return the next message of a type, leaving out others."""
        while True:
            message = await self.receive()
            if isinstance(message, dict) and message['type'] == kind:
                return message

    async def ask(self, number, question):
        await self.send(type='ask', id=number, question=question)
        return await self.next_of('reply')

    async def close_code(self):
        """Wait for the end of the socket and return its code."""
        while not self.socket.closed:
            await self.socket.receive(timeout=TIMEOUT_S)
        return self.socket.close_code


@asynccontextmanager
async def serve(access=None):
    robot = FakeRobot()
    pages = Pages(robot, '/front')
    robot.start(pages)
    runner, port = await start_server(
        make_app(pages, access or Access()), '127.0.0.1', 0)
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(robot, pages, session, runner, port)
    finally:
        await runner.cleanup()


async def settle(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError('not within 5 s')


def run(test):
    """Run an asynchronous test."""
    def run_test():
        asyncio.run(asyncio.wait_for(test(), 30))
    run_test.__name__, run_test.__doc__ = test.__name__, test.__doc__
    return run_test


@run
async def test_the_page_and_its_files_come_with_a_policy_that_allows_no_other_host():
    async with serve() as client:
        async with client.session.get(client.address) as response:
            text = await response.text()
            assert response.status == 200 and '<title>epvlm</title>' in text
            policy = response.headers['Content-Security-Policy']
            assert "default-src 'none'" in policy and "script-src 'self'" in policy
            assert 'unsafe' not in policy and 'http' not in policy
            assert response.headers['Cache-Control'] == 'no-store'
        for name in ('page.js', 'page.css', 'icon.svg', 'connection.js'):
            assert f'"/static/{name}"' in text or name == 'connection.js'
            assert (await client.get(f'/static/{name}'))[0] == 200
        for path in ('/static/', '/static/../server.py', '/static/%2e%2e/server.py', '/nowhere',
                     '/pictures/1.jpg', '/pictures/x.jpg'):
            assert (await client.get(path))[0] in (403, 404), path


@run
async def test_other_names_and_other_pages_are_refused():
    async with serve() as client:
        for path in ('/', '/static/page.js', '/pictures/1.jpg', '/token'):
            assert (await client.get(path, Host='evil.example'))[0] == 403, path
            assert (await client.get(path, Origin='http://evil.example'))[0] == 403, path
        other = {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'no-cors'}
        assert (await client.get('/pictures/1.jpg', **other))[0] == 403
        assert await client.refusal(Host='evil.example') == 403
        for origin in ('http://evil.example', 'null', f'{client.address}0'):
            assert await client.refusal(Origin=origin) == 403, origin
        assert not client.robot.pictures  # nobody got in


@run
async def test_without_the_token_there_is_no_page_no_socket_and_no_picture():
    async with serve(Access(token=TOKEN)) as client:
        client.pages.history.add_answer(make_answer())
        client.pages.history.add_picture('1.000000000', b'jpeg')
        status, text = await client.get('/')
        assert status == 401 and 'type="password"' in text and 'id="ask"' not in text
        for headers in ({}, {'Authorization': 'Bearer wrong'}, {'Authorization': TOKEN},
                        {'Cookie': 'epvlm_ui=1'}, {'Cookie': f'epvlm_ui={TOKEN}'}):
            assert (await client.get('/pictures/1.jpg', **headers))[0] == 401
            assert await client.refusal(**headers) == 401
        assert (await client.get('/static/page.css'))[0] == 200  # of the form that asks for it
        bearer = {'Authorization': f'Bearer {TOKEN}'}
        assert await client.get('/pictures/1.jpg', **bearer) == (200, 'jpeg')
        assert (await (await client.connect(**bearer)).receive())['type'] == 'hello'


@run
async def test_the_form_takes_the_token_and_nothing_else():
    async with serve(Access(token=TOKEN)) as client:
        for fields in ({'token': 'wrong'}, {}, {'token': TOKEN + ' '}):
            async with client.session.post(f'{client.address}/token', data=fields) as response:
                assert response.status == 401 and 'not the token' in await response.text()
                assert not response.cookies
        async with client.session.post(
                f'{client.address}/token', data={'token': TOKEN},
                headers={'Origin': 'http://evil.example'}) as response:
            assert response.status == 403
        async with client.session.post(
                f'{client.address}/token', data={'token': TOKEN},
                allow_redirects=False) as response:
            assert (response.status, response.headers['Location']) == (303, '/')
            (cookie,) = response.cookies.values()
            assert cookie['httponly'] and cookie['samesite'] == 'Strict'
            assert TOKEN not in response.headers['Set-Cookie']
            shown = {'Cookie': f'{cookie.key}={cookie.value}'}
        assert 'id="ask"' in (await client.get('/', **shown))[1]
        assert (await (await client.connect(**shown)).receive())['namespace'] == '/front'


@run
async def test_no_token_is_logged():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        async with serve(Access(token=TOKEN)) as client:
            await client.get('/', Authorization=f'Bearer {TOKEN}')
            async with client.session.post(f'{client.address}/token', data={'token': TOKEN}):
                pass
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert not [line for line in lines if TOKEN in line]


@run
async def test_a_question_is_answered_while_it_is_written_and_can_be_cancelled():
    async with serve() as client:
        page = await client.connect()
        assert await page.receive() == {'type': 'hello', 'namespace': '/front', 'answers': []}
        await page.send(type='ask', id=1, question='one two three')
        texts = []
        while (message := await page.receive())['type'] != 'reply':
            texts += [message['text']] if message['type'] == 'text' else []
        assert texts and all('one two three'.startswith(text) for text in texts)
        assert message['ok'] and message['answer']['text'] == 'one two three'
        await page.send(type='ask', id=2, question='wait')
        assert (await page.next_of('text'))['text'] == 'so far'
        await page.send(type='cancel', id=3, asked=2)
        replies = [await page.next_of('reply'), await page.next_of('reply')]
        assert [reply['id'] for reply in replies] == [3, 2]
        assert replies[1]['answer']['status'] == 'CANCELLED'


@run
async def test_what_the_robot_cannot_do_is_told():
    async with serve() as client:
        page = await client.connect()
        reply = await page.ask(1, 'fail')
        assert not reply['ok'] and reply['error'] == 'vlm_node is not there'
        assert 'KeyError' in (await page.ask(2, 'break'))['error']
        await page.send(type='unwatch', id=3, watch_id='x')
        assert (await page.next_of('reply'))['error'] == "there is no watch 'x'"
        await page.send(type='watch', id=4, question='who?', condition='appeared')
        assert (await page.next_of('reply'))['watch_id'] == 'watch-1'
        await page.send(type='set', id=5, node='/vlm_node', name='keep_ratio', value=0.5)
        assert (await page.next_of('reply'))['ok']
        assert [type(item).__name__ for item in client.robot.requests] == [
            'WatchRequest', 'SetRequest']


@run
async def test_all_pages_get_all_answers_and_a_new_one_those_before():
    async with serve() as client:
        pages = [await client.connect() for _ in range(2)]
        await settle(lambda: client.robot.pictures[-1] == ({''}, True))
        client.pages.on_answer(make_answer('first'))
        client.pages.on_answer_picture('1.000000000', b'jpeg')
        for page in pages:
            assert (await page.next_of('answer'))['answer']['picture'] is None
            assert (await page.next_of('answer'))['answer']['picture'] == '/pictures/1.jpg'
        third = await client.connect()
        (answer,) = (await third.receive())['answers']
        assert (answer['question'], answer['number']) == ('first', 1)
        assert await client.get(answer['picture']) == (200, 'jpeg')


@run
async def test_pictures_are_asked_for_only_while_somebody_looks():
    async with serve() as client:
        first, second = await client.connect(), await client.connect()
        for page in (first, second):
            await page.send(type='live', id=1, on=False)
            await page.next_of('reply')
        assert client.robot.pictures[-1] == (set(), True)
        await first.send(type='live', id=2, on=True, camera='rear')
        await first.next_of('reply')
        assert client.robot.pictures[-1] == ({'rear'}, True)
        client.pages.on_live_picture('rear', b'jpeg')
        client.pages.on_live_picture('front', b'of another camera')
        assert await first.receive() == b'jpeg'
        await first.socket.close()
        await settle(lambda: client.robot.pictures[-1] == (set(), True))
        await second.socket.close()
        await settle(lambda: client.robot.pictures[-1] == (set(), False))


@run
async def test_an_answer_of_a_time_without_pages_waits_for_no_picture():
    async with serve() as client:
        client.pages.on_answer(make_answer())
        (answer,) = (await (await client.connect()).receive())['answers']
        assert not answer['has_picture']


@run
async def test_hostile_messages_are_refused_and_the_page_lives_on():
    async with serve() as client:
        page = await client.connect()
        for text, words in (
                ('', 'not JSON'), ('{"type": "ask"', 'not JSON'), ('[1]', 'send a JSON object'),
                ('[' * 60_000, 'nested too deeply'), ('{"type": "ask", "id": "x"}', 'id is'),
                ('{"type": "__init__", "id": 1}', 'type is')):
            await page.socket.send_str(text)
            reply = await page.next_of('reply')
            assert not reply['ok'] and words in reply['error']
        assert (await page.ask(1, 'still there'))['answer']['text'] == 'still there'


@run
async def test_a_message_that_is_huge_or_no_text_ends_its_page_alone():
    async with serve() as client:
        good = await client.connect()
        huge = await client.connect()
        await huge.socket.send_str('x' * (64 * 1024 + 1))
        assert await huge.close_code() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        binary = await client.connect()
        await binary.socket.send_bytes(b'\0')
        assert await binary.close_code() == aiohttp.WSCloseCode.UNSUPPORTED_DATA
        assert (await good.ask(1, 'fine'))['ok']


@run
async def test_pages_and_their_requests_are_bounded():
    async with serve() as client:
        pages = [await client.connect() for _ in range(MAX_PAGES)]
        assert await client.refusal() == 503
        for number in range(MAX_OPEN_REQUESTS):
            await pages[0].send(type='ask', id=number, question='wait')
        await settle(lambda: client.robot.open_questions == MAX_OPEN_REQUESTS)
        reply = await pages[0].ask(100, 'one more')
        assert reply['id'] == 100 and 'requests are open' in reply['error']
        assert (await pages[1].ask(1, 'of another page'))['ok']
        for number in range(MAX_OPEN_REQUESTS):
            await pages[0].send(type='cancel', id=200 + number, asked=number)
        await settle(lambda: not client.robot.open_questions)


@run
async def test_a_page_that_reads_nothing_keeps_only_the_latest_picture_and_is_given_up():
    async with serve() as client:
        page = await client.connect()
        await page.receive()
        (inside,) = client.pages._pages
        for _ in range(200):  # more than the buffers of the network take
            client.pages.on_live_picture('', b'x' * 200_000)
            await asyncio.sleep(0)
        assert len(inside.outbox._latest) <= 2 and not inside.outbox.is_full
        for number in range(600):
            client.pages.on_answer(make_answer(str(number)))
        assert inside.outbox.is_full
        assert await page.close_code() == aiohttp.WSCloseCode.TRY_AGAIN_LATER


@run
async def test_the_end_of_the_server_is_told():
    async with serve() as client:
        page = await client.connect()
        ending = asyncio.create_task(client.runner.cleanup())
        assert await page.close_code() == aiohttp.WSCloseCode.GOING_AWAY
        await ending


@run
async def test_a_port_that_is_taken_is_one_line():
    async with serve() as client:
        with pytest.raises(ValueError, match='cannot listen on 127.0.0.1 port .*--port'):
            await start_server(
                make_app(client.pages, Access()), '127.0.0.1',
                int(client.host.rpartition(':')[2]))
