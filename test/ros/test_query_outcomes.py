"""Every query has an outcome: in bursts, and when the node ends in the middle of an answer."""

from collections import Counter
import os
import signal
import threading
import time

from epvlm_interfaces.action import AnswerQuery
from epvlm_interfaces.msg import Answer
from epvlm_interfaces.srv import Ask
from epvlm_ros.ros.qos import query_calls
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from ros_graph import RosGraph, wait_until
from vlm_asker import make_clients, save_endless_model, start

ENDLESS = 4096  # tokens, several seconds


@pytest.fixture(scope='module')
def node(tmp_path_factory):
    folder = save_endless_model(tmp_path_factory.mktemp('model'))
    with RosGraph(tmp_path_factory.mktemp('graph')) as graph:
        yield start(graph, folder)


def collect(futures, timeout_s):
    return wait_until(lambda: all(future.done() for future in futures) and
                      [future.result() for future in futures], timeout_s, 'all outcomes')


def check_burst(services, actions):
    """Make 40 calls and send 40 goals at once; count the outcomes."""
    called = [service.call_async(Ask.Request(question=f'call {index}'))
              for index, service in zip(range(40), list(services) * 40)]
    sent = [action.send_goal_async(AnswerQuery.Goal(question=f'goal {index}'))
            for index, action in zip(range(40), list(actions) * 40)]
    results = [handle.get_result_async() for handle in collect(sent, 60)]
    outcomes = Counter()
    for index, response in enumerate(collect(called, 60)):
        assert response.answer.question == f'call {index}'
        outcomes[response.answer.status] += 1
    for index, response in enumerate(collect(results, 60)):
        assert response.result.answer.question == f'goal {index}'
        outcomes[response.result.answer.status] += 1
    assert outcomes[Answer.OK] + outcomes[Answer.BUSY] == 80, outcomes
    assert outcomes[Answer.OK] >= 9  # one at work and eight in the queue


def test_forty_calls_and_forty_goals_at_once_have_eighty_outcomes(node):
    # Many outcomes come at the same moment: at the default depth of 10 a client that is slow to
    # read them loses some.
    _, asker = node
    service, action = make_clients(asker.node, query_calls())
    wait_until(lambda: service.service_is_ready() and action.server_is_ready(), 60, 'the node')
    asker.show()
    check_burst([service], [action])


@pytest.mark.slow
def test_forty_clients_have_their_outcomes(node, context):
    # The responses to all of them come to each.
    _, asker = node
    nodes = [rclpy.create_node(f'client_{index}', context=context, start_parameter_services=False)
             for index in range(40)]
    services, actions = zip(*(make_clients(node, query_calls()) for node in nodes))
    executor = SingleThreadedExecutor(context=context)
    for client in nodes:
        executor.add_node(client)
    threading.Thread(target=executor.spin, daemon=True).start()
    wait_until(lambda: all(service.service_is_ready() for service in services) and all(
        action.server_is_ready() for action in actions), 60, 'the node')
    asker.show()
    check_burst(services, actions)
    executor.shutdown()


def test_sigterm_in_the_middle_of_an_answer_leaves_nobody_waiting(node):
    process, asker = node
    asker.show()
    at_work = asker.send_goal('talk on', max_new_tokens=ENDLESS)
    wait_until(lambda: at_work.texts, 30, 'the first text')
    waiting = asker.send_goal('and then?')
    called = [asker.ask_async(f'call {index}') for index in range(3)]
    begin = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    answers = [response.answer for response in collect(called, 10)]
    answers += [at_work.result()[1], waiting.result()[1]]
    assert time.monotonic() - begin < 2.0
    assert [answer.status for answer in answers] == [Answer.ERROR] * 5
    assert [answer.question for answer in answers] == [
        'call 0', 'call 1', 'call 2', 'talk on', 'and then?']
    assert 'stopped in the middle' in answers[3].message
    assert process.wait(10) == 0
    log = process.log.read_text()
    assert 'Traceback' not in log and 'Exception ignored' not in log
