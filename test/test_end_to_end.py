"""Both nodes as processes on a recording that loops: frames, queries and clocks together."""

import threading

from epvlm_interfaces.msg import Answer, EventGuidedFrame
from epvlm_ros.bag.reader import BagReader
from epvlm_ros.demo import choose_questions, ONE_FRAME
from epvlm_ros.sim.recording import record_simulation
from epvlm_ros.time_units import stamp_to_ns
import pytest
from rclpy.event_handler import SubscriptionEventCallbacks
from ros_graph import (
    assert_whole_round, DEEP, DEEP_PLAYER, PATIENT_SYNC, RosGraph, wait_for_start,
    wait_until)
from vlm_asker import Asker

TOPICS = {'events': '/event_camera/events', 'image': '/camera/image_raw'}


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'recording'
    truth = record_simulation(
        path, seed=14, duration_s=1.0, camera_moves=False, image_height=336, image_width=448)
    return path, choose_questions(truth, ONE_FRAME)


def test_answers_stay_right_while_a_recording_loops(tmp_path, recording):
    path, truth = recording
    assert len(truth) >= 3
    with RosGraph(tmp_path) as graph:
        frames = []
        matched = threading.Event()
        graph.node.create_subscription(
            EventGuidedFrame, 'event_guided_frame', frames.append, DEEP,
            event_callbacks=SubscriptionEventCallbacks(matched=lambda info: matched.set()))
        sync = graph.start('event_sync_node', remappings=TOPICS, parameters={
            'use_sim_time': True, **PATIENT_SYNC})
        vlm = graph.start('vlm_node', parameters={
            'use_sim_time': True, 'num_threads': 1, 'max_frame_age': 5.0})
        asker = Asker(graph)
        asker.wait_for_node(vlm)
        wait_for_start(sync, matched.is_set, 'the sync node')
        assert asker.ask(truth[0].question).status == Answer.NO_FRAME

        graph.start('bag_player', str(path), '--clock', '--loop', '--wait-for-subscribers', '120',
                    parameters=DEEP_PLAYER)
        wait_until(lambda: frames, 30, 'the first frame')
        # It may come before the first time on /clock: until then its age is that of 1970.
        wait_until(lambda: asker.ask(truth[0].question).status == Answer.OK, 30, 'the clock')
        answers = []
        with BagReader(path) as bag:
            stamps = [image.stamp_ns for image in bag.images()]
        while len(frames) < 3.5 * len(stamps):
            item = truth[len(answers) % len(truth)]
            answers.append((item, asker.ask(item.question)))

        # Every frame came out guided, once in each round, in order.
        seen = [stamp_to_ns(frame.header.stamp) for frame in frames[:2 * len(stamps)]]
        assert seen == stamps * 2
        for start in (0, len(stamps)):
            assert_whole_round(frames[start:start + len(stamps)])

        # Also where time was set back: until the first frame comes again the last one is there.
        for item, answer in answers:
            assert (answer.status, answer.message) == (Answer.OK, '')
            # A busy machine delivers /clock late, so that now may lie before the stamp; half a
            # round and more would be a frame of another round.
            age = answer.frame_age
            assert -0.5 <= age.sec + age.nanosec * 1e-9 < 5.0
            assert answer.tokens_kept <= answer.tokens == 12 * 16
            assert stamp_to_ns(answer.header.stamp) in stamps
        good = [answer.text == item.answer for item, answer in answers]
        assert len(good) >= 5
        assert sum(good) >= 0.9 * len(good), [
            (item.question, answer.text, item.answer) for item, answer in answers]
        assert sync.is_running() and vlm.is_running()
        assert sync.stop() == 0 and vlm.stop() == 0
        assert 'Traceback' not in sync.log.read_text() + vlm.log.read_text()
