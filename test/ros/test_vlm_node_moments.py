"""A question says about how many frames it is; the parameters of the node are the defaults."""

from types import SimpleNamespace

from action_msgs.msg import GoalStatus
from epvlm_interfaces.action import AnswerQuery
from epvlm_interfaces.msg import Answer, Query, StandingQuestion
from epvlm_interfaces.srv import Ask, Watch
from epvlm_ros.ros.qos import QUERIES
from epvlm_ros.ros.spinning_node import SpinningNode
import pytest
from ros_graph import DOMAIN_ID, RosGraph, wait_until
from vlm_asker import Asker, save_endless_model

QUESTION = 'what moves?'
NAMESPACE = '/robot'


@pytest.fixture(scope='module')
def asker(tmp_path_factory):
    folder = save_endless_model(tmp_path_factory.mktemp('model'))
    with RosGraph(tmp_path_factory.mktemp('graph')) as graph, \
            SpinningNode('asker', DOMAIN_ID, namespace=NAMESPACE) as spinning:
        process = graph.start('vlm_node', remappings={'__ns': NAMESPACE}, parameters={
            'model': folder, 'max_new_tokens': 4, 'device': 'cpu', 'num_threads': 1,
            'max_frame_age': 60.0, 'max_queued_queries': 50})
        asker = Asker(SimpleNamespace(node=spinning.node))
        asker.wait_for_node(process)
        yield asker
        assert process.is_running() and 'Traceback' not in process.log.read_text()


def show_moments(asker, num_frames=3, period_s=0.5):
    """Show frames that are a period apart, of which the last is of now; return the last."""
    for place in range(num_frames):
        frame = asker.show(
            age_s=period_s * (num_frames - 1 - place), active_cells=((28, 56), (0, 28)))
    return frame


def begin_anew(asker):
    """Show a frame of another camera, so that there are no earlier ones."""
    asker.show(frame_id='another')
    return asker.show()


def test_the_three_ways_to_ask_take_the_same_fields():
    fields = [kind.get_fields_and_field_types() for kind in (Query, Ask.Request, AnswerQuery.Goal)]
    assert fields[0] == fields[1] == fields[2] and list(fields[0])[-1] == 'num_moments'


def test_every_way_asks_about_several_frames(asker):
    last = show_moments(asker)
    by_service = asker.ask(QUESTION, num_moments=3)
    assert (by_service.status, by_service.moments, by_service.tokens) == (Answer.OK, 3, 60)
    assert by_service.header == last.header
    status, by_action = asker.send_goal(QUESTION, num_moments=3).result()
    assert (status, by_action.moments) == (GoalStatus.STATUS_SUCCEEDED, 3)
    queries = asker.node.create_publisher(Query, 'query_with_options', QUERIES)
    wait_until(queries.get_subscription_count, 20, 'the node on the topic')
    asker.answers.clear()
    queries.publish(Query(question=QUESTION, num_moments=2))
    by_topic = wait_until(lambda: asker.answers, 30, 'answer by topic')[0]
    assert (by_topic.status, by_topic.moments) == (Answer.OK, 2)
    assert [asker.ask(QUESTION, num_moments=number).moments for number in (0, 1)] == [1, 1]
    asker.answers.clear()
    asker.query(QUESTION)
    assert wait_until(lambda: asker.answers, 30, 'answer to a text')[0].moments == 1


def test_the_parameter_is_for_questions_that_do_not_say(asker):
    show_moments(asker)
    assert asker.set_parameter('num_moments', 2).successful
    assert [asker.ask(QUESTION, num_moments=number).moments for number in (0, 1, 3)] == [2, 1, 3]
    assert asker.set_parameter('num_moments', 1).successful


def test_where_fewer_frames_have_come_the_answer_is_about_those(asker):
    begin_anew(asker)
    assert asker.ask(QUESTION, num_moments=3).moments == 1
    asker.show(age_s=-0.6)
    assert asker.ask(QUESTION, num_moments=16).moments == 2
    begin_anew(asker)


def test_more_than_the_parameter_allows_are_refused(asker):
    show_moments(asker)
    for number in (17, 2 ** 32 - 1):
        answer = asker.ask(QUESTION, num_moments=number)
        assert answer.status == Answer.INVALID
        assert answer.message == f'num_moments is {number}: give at most 16'
    status, answer = asker.send_goal(QUESTION, num_moments=17).result()
    assert (status, answer.status) == (GoalStatus.STATUS_ABORTED, Answer.INVALID)
    assert asker.ask(QUESTION, num_moments=16).moments >= 3


def test_frames_of_the_past_are_around_that_time(asker):
    begin_anew(asker)
    frames = [asker.show(age_s=age_s) for age_s in (-0.6, -1.2, -1.8, -2.4)]
    past = asker.ask(QUESTION, at=frames[1].header.stamp, num_moments=3)
    assert (past.status, past.moments) == (Answer.OK, 3)
    assert past.header == frames[2].header  # one frame after the nearest, and one before it
    alone = asker.ask(QUESTION, at=frames[1].header.stamp)
    assert (alone.moments, alone.header) == (1, frames[1].header)
    begin_anew(asker)


def test_each_question_of_a_burst_has_its_own_number(asker):
    show_moments(asker)
    numbers = [(1, 3)[place % 2] for place in range(40)]
    futures = [asker.ask_async(QUESTION, num_moments=number, query_id=f'{place}', keep_ratio=0.1)
               for place, number in enumerate(numbers)]
    wait_until(lambda: all(future.done() for future in futures), 120, 'all answers')
    answers = [future.result().answer for future in futures]
    assert [(answer.query_id, answer.status, answer.moments) for answer in answers] == [
        (f'{place}', Answer.OK, number) for place, number in enumerate(numbers)]
    assert len({answer.text for answer in answers}) == 2  # one for either number


def test_what_was_computed_ahead_is_for_questions_about_as_many_frames(asker):
    show_moments(asker)
    expected = {number: asker.ask(QUESTION, num_moments=number) for number in (1, 3)}
    assert asker.set_parameter('encode_ahead', 'on_arrival').successful
    show_moments(asker)  # the same pictures
    three, one = (asker.ask(QUESTION, num_moments=number) for number in (3, 1))
    assert (three.moments, three.flops_reused, three.text) == (3, 0, expected[3].text)
    assert (one.moments, one.text) == (1, expected[1].text)
    show_moments(asker)
    one = asker.ask(QUESTION)
    assert (one.moments, one.text) == (1, expected[1].text) and one.flops_reused > 0
    assert asker.set_parameter('encode_ahead', 'on_demand').successful


def test_a_scene_in_memory_stays_beside_questions_about_several_frames(asker):
    assert asker.set_parameter('scene_memory', True).successful
    assert asker.set_parameter('memory_fill', 'at_once').successful
    show_moments(asker)
    answers = [asker.ask(QUESTION, num_moments=number) for number in (1, 3, 1)]
    assert [(answer.moments, answer.scene) for answer in answers] == [
        (1, 'memory'), (3, 'several moments'), (1, 'memory')]
    assert answers[2].tokens_refreshed == 0 and answers[2].text == answers[0].text
    assert asker.set_parameter('scene_memory', False).successful


def test_a_watch_asks_about_several_frames(asker):
    client = asker.node.create_client(Watch, 'watch')
    assert client.wait_for_service(20)

    def watch(num_moments):
        future = client.call_async(Watch.Request(watch=StandingQuestion(
            watch_id='motion', query=Query(question=QUESTION, num_moments=num_moments),
            condition=StandingQuestion.INTERVAL, interval=3600.0)))
        return wait_until(lambda: future.done() and future.result(), 20, 'the watch')

    assert watch(17).message == 'num_moments is 17: give at most 16'
    show_moments(asker)
    asker.answers.clear()
    assert watch(3).success
    asker.show(age_s=-0.6)
    answer = wait_until(lambda: asker.answers, 30, 'the answer of the watch')[0]
    assert (answer.watch_id, answer.moments) == ('motion', 3)
