"""What a query may ask for beside its text: choices, and the past; on every way to the node."""

import array

from action_msgs.msg import GoalStatus
from epvlm_interfaces.msg import Answer, Query
from epvlm_ros.eval.simulated import SimulatedSet, SimulationConfig
from epvlm_ros.ros.conversions import to_time
from epvlm_ros.ros.qos import QUERIES
from epvlm_ros.time_units import stamp_to_ns
from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
import numpy as np
import pytest
from qwen_checkpoints import require_embedded_model
from ros_graph import RosGraph, wait_until
from vlm_asker import start

QUESTION = 'what colour is the star?'
COLOURS = ['blue', 'purple', 'green']
SECOND = 10 ** 9


@pytest.fixture(scope='module')
def node(tmp_path_factory):
    """Return a node with the embedded model, and who asks it."""
    require_embedded_model()
    with RosGraph(tmp_path_factory.mktemp('graph')) as graph:
        yield start(graph, EMBEDDED_MODEL, max_frame_age=5.0)


def show_scene(asker, scene, age_s):
    """Show the picture and the events of one of the simulated scenes, see ``find_scene``."""
    case, observed = scene
    message = asker.make_frame(age_s=age_s, size=observed.rgb.shape[:2])
    message.image.data = array.array('B', observed.rgb.tobytes())
    counts = observed.activity.counts
    message.cell_size = observed.activity.cell_size_px
    message.rows, message.cols = counts.shape
    message.activity = array.array('f', counts.astype(np.float32).tobytes())
    message.pixel_density = observed.activity.pixel_density
    return asker.publish(message)


def find_scene(answer):
    """Return the first case of the simulated benchmark with this answer, and what is seen."""
    simulated = SimulatedSet(SimulationConfig(
        num_questions=400, image_height=336, image_width=448))
    case = next(case for case in simulated if (case.question, case.answer) == (QUESTION, answer))
    return case, simulated.observe(case)


def test_a_question_about_the_past_is_answered_on_the_frame_of_then(node):
    process, asker = node
    then = show_scene(asker, find_scene('purple'), age_s=2.0)
    now = show_scene(asker, find_scene('blue'), age_s=0.0)
    about_now = asker.ask(QUESTION, choices=COLOURS)
    now_ns = asker.node.get_clock().now().nanoseconds  # a busy machine may have taken its time
    about_then = asker.ask(
        QUESTION, choices=COLOURS, seconds_ago=(now_ns - stamp_to_ns(then.header.stamp)) / SECOND)
    at = asker.ask(QUESTION, choices=COLOURS, at=then.header.stamp)
    assert (about_now.status, about_now.text) == (Answer.OK, 'blue')
    assert (about_then.status, about_then.text, at.text) == (Answer.OK, 'purple', 'purple')
    assert about_now.header == now.header and at.header == about_then.header == then.header
    # in any words
    assert asker.ask(QUESTION, keep_ratio=1.0).text == 'blue'
    assert asker.ask(QUESTION, keep_ratio=1.0, at=then.header.stamp).text == 'purple'
    assert 2.0 <= about_then.frame_age.sec + about_then.frame_age.nanosec / SECOND < 12.0
    assert 's ago: purple, of 3 choices, with a probability of' in process.log.read_text()


def test_a_time_that_is_not_kept_is_refused_with_what_is(node):
    _, asker = node
    first = show_scene(asker, find_scene('purple'), age_s=0.5)
    last = asker.show()
    long_ago = asker.ask(QUESTION, seconds_ago=3000.0)
    assert long_ago.status == Answer.NO_FRAME and 'ago) is kept, but those from' in (
        long_ago.message)
    ahead = asker.ask(QUESTION, at=to_time(stamp_to_ns(last.header.stamp) + 60 * SECOND))
    assert ahead.status == Answer.NO_FRAME and 'ahead) is kept' in ahead.message
    both = asker.ask(QUESTION, seconds_ago=1.0, at=first.header.stamp)
    assert both.status == Answer.INVALID and 'give one of them' in both.message
    assert asker.set_parameter('history_memory', 0.0).successful
    asker.show()
    none = asker.ask(QUESTION, at=first.header.stamp)
    assert none.status == Answer.NO_FRAME and 'history_memory is 0 MB, raise it' in none.message
    assert asker.set_parameter('history_memory', 256.0).successful


def test_choices_come_by_topic_and_action_as_well(node):
    _, asker = node
    show_scene(asker, find_scene('blue'), age_s=0.0)
    queries = asker.node.create_publisher(Query, 'query_with_options', QUERIES)
    wait_until(lambda: queries.get_subscription_count(), 20, 'the node on the topic')
    asker.answers.clear()
    queries.publish(Query(question=QUESTION, choices=COLOURS, query_id='by topic'))
    by_topic = wait_until(lambda: asker.answers, 30, 'answer by topic')[0]
    assert (by_topic.query_id, by_topic.text, by_topic.status) == ('by topic', 'blue', Answer.OK)
    assert by_topic.choices == COLOURS and len(by_topic.probabilities) == 3
    assert sum(by_topic.probabilities) == pytest.approx(1.0, abs=1e-6)
    assert by_topic.probabilities[0] > 0.9 and by_topic.generated_tokens == 0
    goal = asker.send_goal(QUESTION, choices=COLOURS)
    status, by_action = goal.result()
    assert (status, by_action.text) == (GoalStatus.STATUS_SUCCEEDED, 'blue')
    assert goal.pieces == ['blue']
    assert list(by_action.probabilities) == pytest.approx(list(by_topic.probabilities), rel=1e-4)


def test_choices_at_fault_are_refused_in_a_line(node):
    _, asker = node
    for choices, words in ((['one'], 'there are 1 choices'), (['one', ' '], 'choice 1 is empty'),
                           (['no', 'no'], 'again'), (['x\n'] * 100_000, '100000 choices'),
                           (['<|im_end|>', 'no'], 'control tokens')):
        answer = asker.ask(QUESTION, choices=choices)
        assert (answer.status, answer.choices) == (Answer.INVALID, []) and words in answer.message
    late = asker.ask(QUESTION, choices=COLOURS, deadline=1e-6)
    assert (late.status, late.text, list(late.probabilities)) == (Answer.DEADLINE, '', [])


def test_answers_tell_their_confidence(node):
    _, asker = node
    show_scene(asker, find_scene('purple'), age_s=0.0)
    answer = asker.ask(QUESTION, keep_ratio=1.0)
    assert -3.0 < answer.mean_log_probability < 0.0 < answer.first_token_margin
