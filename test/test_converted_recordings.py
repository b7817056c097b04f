"""A recording of every kind is converted; then all commands and both nodes run on what came."""

import json
import threading

from epvlm_interfaces.msg import Answer, EventGuidedFrame
from epvlm_ros.bag import BagReader, BagWriter
from epvlm_ros.cli import main
from epvlm_ros.time_units import stamp_to_ns
from foreign_recordings import (
    EVENT_TOPIC, IMAGE_SIZE, IMAGE_TOPIC, KINDS, make_recording, SENSOR_SIZE)
import numpy as np
import pytest
from rclpy.event_handler import SubscriptionEventCallbacks
from ros_graph import (
    DEEP, DEEP_PLAYER, PATIENT_SYNC, RosGraph, START_TIMEOUT_S, wait_for_start, wait_until)
from vlm_asker import Asker

pytestmark = pytest.mark.slow
HALF_WINDOW_NS = 20_000_000


@pytest.fixture(scope='module')
def asking(tmp_path_factory):
    """Return a graph with a node that answers, and who asks it."""
    with RosGraph(tmp_path_factory.mktemp('graph')) as graph:
        vlm = graph.start('vlm_node', parameters={
            'use_sim_time': True, 'num_threads': 1, 'max_frame_age': 3600.0})
        asker = Asker(graph)
        asker.wait_for_node(vlm)
        yield graph, asker
        assert vlm.is_running() and vlm.stop() == 0
        assert 'Traceback' not in vlm.log.read_text()


def run(capsys, *arguments):
    """Run a command and return what it printed as JSON."""
    main([str(argument) for argument in arguments])
    return json.loads(capsys.readouterr().out)


def add_frames(source, target, frames):
    """Write a recording and the frames of a camera beside it as one recording."""
    with BagReader(source) as bag:
        messages = [(message.record_time_ns, message) for message in bag.messages()]
    messages += [(t_us * 1000, pixels) for t_us, pixels in frames]
    with BagWriter(target) as writer:
        for time_ns, content in sorted(messages, key=lambda pair: pair[0]):
            if isinstance(content, np.ndarray):
                writer.write_image(IMAGE_TOPIC, time_ns, content)
            else:
                writer.write_raw(*content)


def play(graph, asker, path, num_frames):
    """Play a recording in a loop to a node of its own; return its first frames and an answer."""
    frames, matched = [], threading.Event()
    listener = graph.node.create_subscription(
        EventGuidedFrame, 'event_guided_frame', frames.append, DEEP,
        event_callbacks=SubscriptionEventCallbacks(  # the asker would publish frames as well
            matched=lambda info: matched.set() if info.current_count > 1 else None))
    sync = graph.start(
        'event_sync_node', remappings={'events': EVENT_TOPIC, 'image': IMAGE_TOPIC},
        parameters={'use_sim_time': True, 'sync_mode': 'common_clock', **PATIENT_SYNC})
    wait_for_start(sync, matched.is_set, 'the sync node')
    player = graph.start(
        'bag_player', str(path), '--clock', '--loop', '--wait-for-subscribers',
        str(START_TIMEOUT_S), parameters=DEEP_PLAYER)
    wait_for_start(sync, lambda: len(frames) >= num_frames, f'{num_frames} frames')
    answers = []
    # Until the first time on /clock comes, the frame is of another time.
    wait_until(lambda: answers.append(asker.ask('what do you see?'))
               or answers[-1].status == Answer.OK, 30, 'an answer')
    graph.node.destroy_subscription(listener)
    assert player.stop() == 0 and sync.stop() == 0
    log = sync.log.read_text() + player.log.read_text()
    assert 'Traceback' not in log and 'ERROR' not in log, log
    return frames[:num_frames], answers[-1]


@pytest.mark.parametrize('name', KINDS)
def test_all_runs_on_what_was_converted(name, asking, tmp_path, capsys):
    graph, asker = asking
    kind = KINDS[name]
    if kind.package:
        pytest.importorskip(kind.package, reason=f'{kind.package} is not installed')
    recording = make_recording(8_000_000 if kind.has_own_clock else 1_700_000_000_000_000)
    num_frames, num_on = len(recording.frames), sum(row[2] for row in recording.events)

    source = kind.write(recording, tmp_path)
    main(['convert', str(source), str(tmp_path / 'bag'), *kind.options])
    printed = capsys.readouterr()
    assert f'{EVENT_TOPIC}: {len(recording.events) - num_on} off and {num_on} on' in printed.out
    assert 'epvlm convert:' not in printed.err  # no problems

    info = run(capsys, 'bag-info', tmp_path / 'bag')
    events = info['event_topics'][EVENT_TOPIC]
    x, y, _, t_us = zip(*recording.events)
    assert (events['off'], events['on']) == (len(recording.events) - num_on, num_on)
    assert (events['sum_x'], events['sum_y']) == (sum(x), sum(y))
    assert (events['width'], events['height']) == SENSOR_SIZE
    assert info['problems'] == []
    assert (events['t_min_ns'], events['t_max_ns'], events['sum_t_ns']) == (
        t_us[0] * 1000, t_us[-1] * 1000, sum(t_us) * 1000)
    question = ['--question', 'what do you see?', '-p', 'sync_mode:=common_clock', '--json']
    if kind.has_frames:
        path = tmp_path / 'bag'
        images = info['image_topics'][IMAGE_TOPIC]
        assert (images['count'], images['width'], images['height']) == (num_frames, *IMAGE_SIZE)
    else:
        with pytest.raises(SystemExit, match='has no image topic: it has /event_camera/events'):
            run(capsys, 'ask', tmp_path / 'bag', *question)
        path = tmp_path / 'with_frames'
        add_frames(tmp_path / 'bag', path, recording.frames)
    expected = [
        sum(t - HALF_WINDOW_NS <= 1000 * row[3] < t + HALF_WINDOW_NS for row in recording.events)
        for t in (1000 * frame[0] for frame in recording.frames)]

    answer = run(capsys, 'ask', path, *question)
    assert (answer['status'], answer['fallback']) == ('OK', '')
    assert answer['frame_stamp_ns'] == 1000 * recording.frames[-1][0]
    assert answer['num_events'] == expected[-1]

    stamps = [1000 * t_us for t_us, _ in recording.frames]
    frames, answer = play(graph, asker, path, num_frames)
    assert [stamp_to_ns(frame.header.stamp) for frame in frames] == stamps
    assert [frame.missing for frame in frames] == [EventGuidedFrame.COMPLETE] * num_frames
    assert [frame.num_events for frame in frames] == expected
    assert (answer.message, answer.fallback) == ('', '')
    assert stamp_to_ns(answer.header.stamp) in stamps
