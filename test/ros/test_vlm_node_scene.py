"""A scene in memory of the VLM node over DDS: what answers say of it, and what begins it anew."""

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import Answer
import pytest
from ros_graph import RosGraph, wait_until
from vlm_asker import save_endless_model, start

NUM_TOKENS = 20


@pytest.fixture(scope='module')
def asker(tmp_path_factory):
    folder = save_endless_model(tmp_path_factory.mktemp('model'))
    with RosGraph(tmp_path_factory.mktemp('graph')) as graph:
        yield start(graph, folder, scene_memory=True, memory_fill='at_once')[1]


def cost(answer):
    return answer.flops_used - answer.flops_reused


def test_a_question_costs_what_changed_and_says_so(asker):
    asker.show(change=(1, ()))
    first = asker.ask('what moves?')
    assert (first.status, first.scene) == (Answer.OK, 'memory')
    assert (first.tokens_refreshed, first.tokens_kept) == (NUM_TOKENS, NUM_TOKENS)
    asker.show(painted=[7], change=(1, [7]))
    second = asker.ask('what moves?')
    assert (second.tokens_refreshed, second.tokens_kept) == (1, NUM_TOKENS)
    assert second.tokens_stale == second.tokens_doubtful == 0
    assert second.oldest_token_age.sec + second.oldest_token_age.nanosec > 0
    assert cost(second) < 0.5 * cost(first)
    assert cost(asker.ask('what moves?')) < cost(second)


def test_frames_are_updates_as_they_arrive(asker):
    assert asker.set_parameter('encode_ahead', 'on_arrival').successful
    asker.show(change=(2, ()))
    asker.ask('what moves?')
    asker.show(painted=[3, 4], change=(2, [3, 4]))
    answer = asker.ask('what moves?')
    # by the frame or, if the question was first, for the question
    assert answer.tokens_refreshed == 2 or answer.flops_updates > 0
    assert answer.tokens_stale == 0
    assert asker.set_parameter('encode_ahead', 'on_demand').successful


def test_scores_of_another_epoch_or_shape_harm_nothing_else(asker):
    asker.show(change=(3, ()))
    asker.ask('what moves?')
    asker.show(change=(4, ()))
    assert asker.ask('what moves?').tokens_refreshed == NUM_TOKENS
    message = asker.make_frame(change=(4, ()))
    message.change_scores = message.change_scores[:-1]
    asker.publish(message)
    refused = asker.ask('what moves?')
    assert refused.status == Answer.INVALID and 'change scores' in refused.message
    asker.show(painted=[9], change=(4, [9]))
    assert asker.ask('what moves?').tokens_refreshed == 1


def test_another_camera_begins_a_scene_of_its_own(asker):
    asker.show(change=(5, ()), frame_id='front')
    asker.ask('what moves?')
    asker.show(change=(5, ()), frame_id='rear')
    assert asker.ask('what moves?').tokens_refreshed == NUM_TOKENS


def test_the_camera_moves(asker):
    asker.show(change=(6, ()))
    asker.ask('what moves?')
    everywhere = range(NUM_TOKENS)
    asker.show(painted=everywhere, change=(6, everywhere))
    answer = asker.ask('what moves?', keep_ratio=0.5)
    assert (answer.scene, answer.tokens_refreshed) == ('the camera moves', 0)
    assert answer.tokens_kept == NUM_TOKENS // 2


def test_the_scene_can_be_switched_off_and_on(asker):
    asker.show(change=(7, ()))
    assert asker.set_parameter('scene_memory', False).successful
    assert asker.ask('what moves?').scene == ''
    assert asker.set_parameter('scene_memory', True).successful
    assert asker.ask('what moves?').tokens_refreshed == NUM_TOKENS


def test_a_past_frame_leaves_the_scene_in_memory_alone(asker):
    asker.show(age_s=0.4, change=(70, ()))
    before = asker.ask('what moves?')
    last = asker.show(change=(70, ()))
    past = asker.ask('what moves?', at=before.header.stamp, choices=['a', 'b'])
    assert (past.status, past.message) == (Answer.OK, '')
    assert past.header.stamp == before.header.stamp and past.scene == 'a past moment'
    assert past.tokens_refreshed == 0
    after = asker.ask('what moves?', choices=['a', 'b'])
    assert (after.header, after.scene) == (last.header, 'memory')
    assert after.tokens_refreshed == 0  # nothing changed, and nothing was forgotten
    assert sum(after.probabilities) == pytest.approx(1.0, abs=1e-6)


def test_answers_are_compared_with_the_dense_model_when_idle(asker):
    values = {}

    def note(report):
        for status in report.status:
            if status.name.endswith('agreement with the dense model'):
                values.update({item.key: item.value for item in status.values})

    node = asker.node
    subscription = node.create_subscription(DiagnosticArray, '/diagnostics', note, 10)
    asker.show(change=(8, ()))
    assert asker.set_parameter('shadow_every', 2).successful
    for _ in range(2):
        assert asker.ask('what moves?').status == Answer.OK
    wait_until(lambda: values.get('num_compared') == '1', 20, 'the comparison')
    assert values['num_failed'] == '0' and values['same_text'] == '1'  # it was filled at once
    assert asker.set_parameter('shadow_every', 0).successful
    node.destroy_subscription(subscription)
