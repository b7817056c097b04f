"""The VLM node with its model on a server, over DDS: every query has its outcome in time."""

import asyncio
import os
import signal
import time

from action_msgs.msg import GoalStatus
from chat_server import begin, ChatServer, chunk, endless, HonestModel, script
from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import Answer
from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
import pytest
from ros_graph import RosGraph, wait_until
from vlm_asker import start

ENDLESS = 4096
QUESTION = 'what is there?'


@pytest.fixture(scope='module')
def honest():
    return HonestModel()


@pytest.fixture(scope='module')
def server(honest):
    with ChatServer(honest) as server:
        yield server


@pytest.fixture(scope='module')
def node(tmp_path_factory, server):
    """Return a node that asks the server, and who asks it."""
    with RosGraph(tmp_path_factory.mktemp('graph')) as graph:
        yield start(
            graph, EMBEDDED_MODEL, server=server.url, max_new_tokens=64, server_timeout=5.0,
            server_max_failures=2, server_pause=1.5, server_retries=0, weights='int8')


@pytest.fixture
def asker(node, server, honest):
    """Return who asks a node whose server is honest and was asked with success."""
    process, asker = node
    server.reply, honest.pause_s = honest, 0.0
    asker.show()
    wait_until(lambda: asker.ask(QUESTION).status == Answer.OK, 20, 'a good answer')
    return asker


def test_an_answer_of_a_server_is_as_any_other(node, asker, server, honest):
    process, _ = node
    log = process.log.read_text()
    assert 'weights, num_threads: without effect, since the model is on a server' in log
    asker.subscribe_to_overlays()
    frame = asker.show()
    answer = asker.ask(QUESTION, keep_ratio=0.2)
    assert (answer.status, answer.message) == (Answer.OK, '')
    assert answer.text and answer.header == frame.header
    assert (answer.rows, answer.cols, answer.tokens, answer.tokens_kept) == (9, 12, 108, 22)
    assert answer.model == f'tiny at {server.url}'
    assert answer.generated_tokens >= 1 and answer.mean_log_probability < 0.0
    assert 0 < answer.flops_used < answer.flops_dense
    goal = asker.send_goal(QUESTION, keep_ratio=0.2)
    status, again = goal.result()
    assert status == GoalStatus.STATUS_SUCCEEDED and again.text == answer.text
    assert ''.join(goal.pieces) == answer.text
    wait_until(lambda: asker.overlays, 20, 'an overlay')
    refused = asker.ask(QUESTION, choices=['yes', 'no'])
    assert refused.status == Answer.INVALID and '2 choices' in refused.message


def test_cancelled_within_two_tokens_also_on_the_server(node, asker, server):
    server.reply, sent = endless(period_s=0.02)
    asker.show()
    goal = asker.send_goal('talk on', max_new_tokens=ENDLESS)
    wait_until(lambda: len(goal.texts) >= 5, 20, 'some text')
    num_sent = len(sent)
    goal.cancel()
    status, answer = goal.result()
    assert (status, answer.status) == (GoalStatus.STATUS_CANCELED, Answer.CANCELLED)
    assert set(answer.text) == {'a'} and f'after {len(answer.text)} tokens' in answer.message
    # What reached the node: all that was sent before the cancellation did, and two more at most.
    num_until_cancelled = sum(time_s <= sent[num_sent - 1] for time_s in sent)
    assert num_until_cancelled == num_sent
    num_after = len(sent)
    time.sleep(0.3)
    assert len(sent) <= num_after + 2


def test_the_deadline_brings_the_text_so_far(node, asker, server):
    server.reply, _ = endless(period_s=0.02)
    asker.show()
    start_s = time.monotonic()
    answer = asker.ask('talk on', max_new_tokens=ENDLESS, deadline=0.7)
    assert answer.status == Answer.DEADLINE and set(answer.text) == {'a'}
    assert 0.7 <= time.monotonic() - start_s < 2.0


def test_a_server_that_dies_in_the_middle_and_comes_back(node, asker, server, honest):
    process, _ = node
    server.reply, _ = endless(period_s=0.02)
    asker.show()
    goal = asker.send_goal('talk on', max_new_tokens=ENDLESS)
    wait_until(lambda: len(goal.texts) >= 5, 20, 'some text')
    start_s = time.monotonic()
    server.close()
    status, answer = goal.result()
    assert (status, answer.status) == (GoalStatus.STATUS_ABORTED, Answer.ERROR)
    assert 'tokens without [DONE]' in answer.message or 'broke the connection' in answer.message
    away = asker.ask(QUESTION)
    assert away.status == Answer.ERROR and 'cannot reach' in away.message
    assert 'start the server' in away.message
    left_alone = asker.ask(QUESTION)
    assert left_alone.status == Answer.ERROR
    assert 'failed 2 times in a row and is left alone' in left_alone.message
    assert time.monotonic() - start_s < 3.0
    reports = []
    asker.node.create_subscription(
        DiagnosticArray, '/diagnostics', lambda message: reports.extend(
            part for part in message.status if part.name.endswith(': server')), 10)
    report = wait_until(lambda: reports and reports[-1], 20, 'a report about the server')
    values = {item.key: item.value for item in report.values}
    assert values['circuit'] in ('open', 'half_open') and values['failures_in_a_row'] == '2'
    assert 'left alone: cannot reach' in report.message
    server._ready.clear()
    server.reply = honest
    with server:
        asker.show()
        wait_until(lambda: asker.ask(QUESTION).status == Answer.OK, 20, 'a good answer')
        wait_until(lambda: reports[-1].message != report.message, 20, 'another report')
    server._ready.clear()
    server.__enter__()  # for the tests to come
    assert process.is_running() and 'Traceback' not in process.log.read_text()


async def _drip(request, body):
    response = await begin(request)
    while True:
        await response.write(b': ping\n\n')
        await asyncio.sleep(0.05)


async def _flood(request, body):
    response = await begin(request)
    while True:
        await response.write(b'x' * (1 << 20))


async def _stay_silent(request, body):
    await asyncio.sleep(60)


@pytest.mark.parametrize('reply, words', [
    (_flood, 'without the end of an event'), (script('{'), 'no JSON'),
    (script(chunk('a'), end=False), 'without [DONE]'),
    (_drip, 'sent no token for 5 s')])
def test_a_hostile_server_is_an_error_and_the_next_question_is_answered(
        node, asker, server, honest, reply, words):
    server.reply = reply
    asker.show()
    at_work = asker.ask_async(QUESTION)
    for _ in range(3):  # the node lives meanwhile
        assert asker.set_parameter('max_new_tokens', 64).successful
    answer = wait_until(lambda: at_work.done() and at_work.result(), 20, 'an outcome').answer
    assert answer.status == Answer.ERROR and words in answer.message
    server.reply = honest
    asker.show()
    assert asker.ask(QUESTION).status == Answer.OK


def test_what_a_server_cannot_do_is_refused_when_it_is_set(node, asker):
    assert asker.set_parameter('scene_memory', True).successful
    answer = asker.ask(QUESTION)
    assert answer.status == Answer.INVALID and 'scene_memory is true' in answer.message
    assert asker.set_parameter('scene_memory', False).successful
    assert asker.set_parameter('num_moments', 2).successful
    assert asker.set_parameter('moment_period', 0.0).successful
    asker.show()
    asker.show()
    answer = asker.ask(QUESTION)
    assert answer.status == Answer.INVALID and 'set num_moments to 1' in answer.message
    assert asker.set_parameter('num_moments', 1).successful
    asker.show(frame_id='another')  # however many frames there are
    answer = asker.ask(QUESTION, num_moments=3)
    assert answer.status == Answer.INVALID and answer.message == (
        'the question is about 3 moments, a server takes one: set num_moments to 1, or leave the '
        'parameter server empty')
    assert asker.ask(QUESTION, num_moments=1).status == Answer.OK


def test_sigterm_leaves_nobody_waiting_for_a_silent_server(node, asker, server):
    process, _ = node
    server.reply = _stay_silent
    asker.show()
    num_bodies = len(server.bodies)
    at_work = asker.send_goal(QUESTION)
    wait_until(lambda: len(server.bodies) > num_bodies, 20, 'the request')
    waiting = asker.ask_async(QUESTION)
    start_s = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    assert at_work.result()[1].status == Answer.ERROR
    answer = wait_until(lambda: waiting.done() and waiting.result(), 10, 'an outcome').answer
    assert answer.status == Answer.ERROR  # it waited, or came while the node ended
    assert time.monotonic() - start_s < 2.0
    assert process.wait(10) == 0
    log = process.log.read_text()
    assert 'Traceback' not in log and 'never retrieved' not in log
