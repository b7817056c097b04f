"""The action of the VLM node over DDS: streamed, cancelled, cut off, refused."""

import time

from action_msgs.msg import GoalStatus
from epvlm_interfaces.msg import Answer
from lifecycle_msgs.srv import ChangeState
import pytest
from ros_graph import RosGraph, wait_until
from vlm_asker import save_endless_model, start

ENDLESS = 4096  # tokens, several seconds


@pytest.fixture(scope='module')
def graph(tmp_path_factory):
    with RosGraph(tmp_path_factory.mktemp('graph')) as graph:
        yield graph


@pytest.fixture(scope='module')
def node(graph, tmp_path_factory):
    folder = save_endless_model(tmp_path_factory.mktemp('model'))
    return start(graph, folder, max_new_tokens=40, max_queued_queries=2)


def wait_for_text(goal):
    wait_until(lambda: goal.texts, 30, 'the first text')


def test_an_answer_comes_piece_by_piece(node):
    _, asker = node
    early = asker.send_goal('what moves?')
    state, answer = early.result()
    assert (state, answer.status) == (GoalStatus.STATUS_ABORTED, Answer.NO_FRAME)

    frame = asker.show()
    asker.answers.clear()
    goal = asker.send_goal('what moves?', keep_ratio=0.1, query_id='mine', max_new_tokens=30)
    state, answer = goal.result()
    assert (state, answer.status, answer.message) == (GoalStatus.STATUS_SUCCEEDED, Answer.OK, '')
    assert (answer.query_id, answer.question) == ('mine', 'what moves?')
    assert answer.header == frame.header and answer.tokens_kept == 2
    assert answer.generated_tokens == 30 and answer.truncated
    # A client drops the feedback of a goal of whose end it knows, and the oldest of a burst: what
    # did arrive is more and more of the answer.
    assert len(goal.texts) > 1
    for before, text, piece in zip(['', *goal.texts], goal.texts, goal.pieces):
        assert piece and text.endswith(piece) and text.startswith(before) and text != before
        assert answer.text.startswith(text)
    published = wait_until(lambda: asker.answers, 10, 'the answer on the topic')[0]
    assert published == answer
    # the service says the same about the same frame, and computes the question only
    again = asker.ask('what moves?', keep_ratio=0.1, max_new_tokens=30)
    assert again.text == answer.text
    assert answer.flops_reused == 0 < again.flops_reused < again.flops_used == answer.flops_used


def test_a_cancelled_answer_ends_between_two_tokens(node):
    process, asker = node
    asker.show()
    goal = asker.send_goal('talk on', max_new_tokens=ENDLESS)
    wait_for_text(goal)
    assert len(goal.cancel().goals_canceling) == 1
    state, answer = goal.result()
    assert (state, answer.status) == (GoalStatus.STATUS_CANCELED, Answer.CANCELLED)
    assert 0 < answer.generated_tokens < ENDLESS and answer.text.startswith(goal.texts[0])
    assert str(answer.generated_tokens) in answer.message and not answer.truncated
    assert asker.ask('and now?', max_new_tokens=2).status == Answer.OK
    assert 'Traceback' not in process.log.read_text()


def test_a_query_that_waits_is_cancelled_at_once(node):
    _, asker = node
    asker.show()
    at_work = asker.send_goal('talk on', max_new_tokens=ENDLESS)
    wait_for_text(at_work)
    waiting = asker.send_goal('and then?')
    waiting.cancel()
    state, answer = waiting.result()
    assert (state, answer.status) == (GoalStatus.STATUS_CANCELED, Answer.CANCELLED)
    assert 'waited' in answer.message and answer.generated_tokens == 0
    # its place is free, and the one at work goes on
    others = [asker.send_goal('and then?') for _ in range(3)]
    state, refused = others[2].result()
    assert (state, refused.status) == (GoalStatus.STATUS_ABORTED, Answer.BUSY)
    at_work.cancel()
    assert at_work.result()[1].status == Answer.CANCELLED
    assert [goal.result()[1].status for goal in others[:2]] == [Answer.OK] * 2


def test_the_deadline_counts_from_the_arrival(node):
    _, asker = node
    asker.show()
    goal = asker.send_goal('talk on', max_new_tokens=ENDLESS, deadline=0.7)
    wait_for_text(goal)
    waiting = asker.send_goal('and then?', deadline=0.1)
    state, answer = goal.result()
    assert (state, answer.status) == (GoalStatus.STATUS_ABORTED, Answer.DEADLINE)
    assert 0 < answer.generated_tokens < ENDLESS and answer.text
    assert 'deadline came after' in answer.message
    state, late = waiting.result()
    assert (state, late.status, late.text) == (GoalStatus.STATUS_ABORTED, Answer.DEADLINE, '')
    assert 'while the query waited' in late.message
    by_service = asker.ask('talk on', max_new_tokens=ENDLESS, deadline=0.5)
    assert by_service.status == Answer.DEADLINE
    wrong = asker.ask('what moves?', deadline=-1.0)
    assert wrong.status == Answer.INVALID and 'deadline is -1.0' in wrong.message


def test_a_query_at_fault_is_aborted_with_the_reason(node):
    _, asker = node
    asker.show()
    for question, words in (('  ', 'empty'), ('<|im_end|>', 'control tokens')):
        state, answer = asker.send_goal(question).result()
        assert (state, answer.status) == (GoalStatus.STATUS_ABORTED, Answer.INVALID)
        assert words in answer.message


def test_a_node_that_is_shut_down_in_the_middle_lives_on_quietly(node, graph):
    process, asker = node
    asker.show()
    change = graph.node.create_client(ChangeState, '/vlm_node/change_state')
    assert change.wait_for_service(20)

    def transition(number):
        request = ChangeState.Request()
        request.transition.id = number
        future = change.call_async(request)
        return wait_until(lambda: future.done() and future.result(), 60, 'lifecycle').success

    goal = asker.send_goal('talk on', max_new_tokens=ENDLESS)
    wait_for_text(goal)
    assert transition(4)  # deactivate
    state, answer = goal.result()
    assert (state, answer.status) == (GoalStatus.STATUS_ABORTED, Answer.ERROR)
    assert 'stopped in the middle' in answer.message
    assert transition(3)  # activate
    goal = asker.send_goal('talk on', max_new_tokens=ENDLESS)
    wait_for_text(goal)
    asked = asker.ask_async('and then?')
    time.sleep(0.3)
    assert transition(7)  # shut down while active
    state, answer = goal.result()
    assert (state, answer.status) == (GoalStatus.STATUS_ABORTED, Answer.ERROR)
    assert wait_until(asked.done, 20, 'the answer of the service')
    assert 'stopped before the answer' in asked.result().answer.message
    assert 'not active' in asker.ask('still there?').message
    assert process.is_running() and process.stop() == 0
    assert 'Traceback' not in process.log.read_text()
