"""The player as a process: what it publishes over DDS is what was recorded."""

import os
import signal
import threading
import time

from camera_messages import camera_info, transform
from epvlm_ros.bag import BagReader, BagWriter
from epvlm_ros.bag.message_types import make_typestore
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.ros.bag_playback import find_message_class, PlayOptions
from epvlm_ros.ros.bag_player import _parse_remap, _split_arguments, main
from epvlm_ros.ros.calibration_source import CalibrationSource
from epvlm_ros.ros.qos import EVENTS, FRAMES
from event_camera_msgs.msg import EventPacket as EventPacketMessage
import numpy as np
import pytest
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.serialization import serialize_message
from ros_graph import DOMAIN_ID, RosGraph, wait_until
from rosbags.interfaces import (
    Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime)
from rosbags.rosbag2 import Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000
EVENT_TOPIC, IMAGE_TOPIC, TEXT_TOPIC = '/event_camera/events', '/camera/image_raw', '/text'
DURATION_NS = 396 * MS


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    """Write 100 packets and 20 frames of half a megabyte in 0.4 s."""
    path = tmp_path_factory.mktemp('bags') / 'recording'
    random = np.random.default_rng(7)
    with BagWriter(path) as bag:
        for seq in range(100):
            t_ns = START_NS + seq * 4 * MS
            events = Events(*(random.integers(0, high, 50) for high in (640, 480, 2)),
                            t_ns=np.full(50, seq * 4 * MS))
            bag.write_event_packet(EVENT_TOPIC, EventPacket(
                t_ns, 640, 480, seq, 0, 'evt3', encode_evt3(events)))
            if seq % 5 == 0:
                image = random.integers(0, 256, (400, 420, 3)).astype(np.uint8)
                bag.write_image(IMAGE_TOPIC, t_ns, image)
        text = make_typestore().types['std_msgs/msg/String']('hello')
        bag.write_raw(TEXT_TOPIC, 'std_msgs/msg/String', START_NS + 5,
                      make_typestore().serialize_cdr(text, 'std_msgs/msg/String'))
    return path


@pytest.fixture
def graph(tmp_path):
    with RosGraph(tmp_path) as graph:
        yield graph
        # Or else its subscriptions would satisfy a player of the next test that waits for some.
        graph.node.destroy_node()


@pytest.fixture
def domain(monkeypatch):
    """Keep a player in this process to the domain of the tests."""
    monkeypatch.setenv('ROS_DOMAIN_ID', str(DOMAIN_ID))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


def assert_same(received, recorded):
    """
    Compare serialised messages.

    The middleware fills a message up to a multiple of 4 bytes and says so in its header.
    """
    assert len(received) == len(recorded)
    for got, expected in zip(received, recorded):
        assert got[:2] == expected[:2] and got[4:len(expected)] == expected[4:]
        assert len(got) == -(-len(expected) // 4) * 4


def collect(graph, message_type, topic, qos=FRAMES):
    """Subscribe to serialised messages and return the list that they go to."""
    received = []
    graph.node.create_subscription(
        message_type, topic, lambda data: received.append(bytes(data)), qos, raw=True)
    return received


def recorded(path, topic):
    with BagReader(path) as bag:
        return [message.data for message in bag.messages([topic])]


def test_everything_is_published_as_recorded_and_not_too_early(graph, recording):
    events = collect(graph, EventPacketMessage, EVENT_TOPIC, EVENTS)
    images = collect(graph, Image, '/front/image')
    texts = collect(graph, String, '/words')
    begin_s = time.monotonic()
    player = graph.start(
        'bag_player', str(recording), '--wait-for-subscribers', '120', '--rate', '0.8', '--remap',
        f'{IMAGE_TOPIC}:=/front/image', remappings={TEXT_TOPIC: '/words'})
    assert player.wait(120) == 0, player.log.read_text()
    assert time.monotonic() - begin_s >= DURATION_NS / 1e9 / 0.8
    wait_until(lambda: len(events) + len(images) + len(texts) >= 121, 10, 'all messages')
    assert_same(events, recorded(recording, EVENT_TOPIC))
    assert_same(images, recorded(recording, IMAGE_TOPIC))
    assert_same(texts, recorded(recording, TEXT_TOPIC))
    log = player.log.read_text()
    assert f'{EVENT_TOPIC}: 100 messages of event_camera_msgs/msg/EventPacket' in log
    assert f'{IMAGE_TOPIC} as /front/image: 20 messages of sensor_msgs/msg/Image' in log
    assert 'played 121 messages' in log


def test_the_clock_runs_with_the_recording_and_jumps_back_in_a_loop(graph, recording):
    matched = threading.Event()
    times_ns, order = [], []

    def on_clock(message):
        times_ns.append(message.clock.sec * 10 ** 9 + message.clock.nanosec)

    def on_packet(message):
        order.append(message.seq)

    graph.node.create_subscription(
        Clock, '/clock', on_clock, 100,
        event_callbacks=SubscriptionEventCallbacks(matched=lambda info: matched.set()))
    graph.node.create_subscription(EventPacketMessage, EVENT_TOPIC, on_packet, EVENTS)
    player = graph.start(
        'bag_player', str(recording), '--clock', '100', '--loop', '--rate', '2', '--topics',
        EVENT_TOPIC, '--wait-for-subscribers', '120')
    assert matched.wait(120), player.log.read_text()
    wait_until(lambda: order.count(50) >= 3 and times_ns.count(START_NS) >= 3, 30,
               'the third round')
    assert player.stop(signal.SIGINT) == 0, player.log.read_text()
    steps = np.diff(times_ns)
    # At 100 Hz and twice the speed, 20 ms of the recording from tick to tick.
    assert set(steps[steps > 0].tolist()) == {20 * MS}
    assert (steps < 0).sum() >= 2
    assert min(times_ns) == START_NS
    assert max(times_ns) <= START_NS + DURATION_NS
    assert order[:200] == [*range(100)] * 2
    log = player.log.read_text()
    assert 'Traceback' not in log
    assert IMAGE_TOPIC not in log


def wait_in_a_recording(graph, tmp_path):
    """Start a player and return it in the hour between the two messages of a recording."""
    with BagWriter(tmp_path / 'bag') as bag:
        for time_ns in (0, 3600 * 10 ** 9):
            bag.write_image('/image', time_ns, np.zeros((2, 2), np.uint8))
    images = collect(graph, Image, '/image')
    player = graph.start('bag_player', str(tmp_path / 'bag'), '--wait-for-subscribers', '120')
    wait_until(lambda: images, 120, 'the first frame')
    assert player.is_running()
    return player


def test_a_signal_ends_it_while_it_sleeps(graph, tmp_path):
    player = wait_in_a_recording(graph, tmp_path)
    assert player.stop(signal.SIGTERM) == 0, player.log.read_text()
    assert 'Traceback' not in player.log.read_text()


def test_further_signals_do_not_disturb_its_end(graph, tmp_path):
    """Under ros2 launch Ctrl-C comes from the terminal and from the launcher."""
    player = wait_in_a_recording(graph, tmp_path)
    while player.is_running():
        os.kill(player.pid, signal.SIGINT)
        time.sleep(0.002)
    assert player.stop() == 0, player.log.read_text()
    assert 'Traceback' not in player.log.read_text()


def test_the_old_name_of_event_packets_is_played_as_the_new_one(graph, shared_data):
    source = shared_data / 'mono_640x480'
    packets = []
    graph.node.create_subscription(EventPacketMessage, EVENT_TOPIC, packets.append, EVENTS)
    player = graph.start('bag_player', str(source), '--wait-for-subscribers', '120')
    assert player.wait(120) == 0, player.log.read_text()
    wait_until(lambda: len(packets) == 2, 10, 'both packets')
    assert [(packet.encoding, len(packet.events)) for packet in packets] == [('mono', 400)] * 2


def write_calibrations(path, static_topic, profiles):
    """Write 60 s of two calibrations, and before them both halves of their transform."""
    with Writer(path, version=8) as writer:
        def connect(topic, type_name, profiles=()):
            return writer.add_connection(topic, type_name, typestore=make_typestore(),
                                         offered_qos_profiles=list(profiles))

        static = connect(static_topic, 'tf2_msgs/msg/TFMessage', profiles)
        for child in ('camera', 'event'):
            writer.write(static, 0, serialize_message(transform('mast', child)))
        cameras = {
            frame_id: connect(topic, 'sensor_msgs/msg/CameraInfo')
            for frame_id, topic in (
                ('event', '/event_camera_info'), ('camera', '/image_camera_info'))}
        for time_ns in range(0, 60_000 * MS, 100 * MS):
            for frame_id, connection in cameras.items():
                writer.write(connection, time_ns, serialize_message(
                    camera_info(frame_id, 100, 80, 100.0)))


@pytest.mark.parametrize('static_topic, durability', [
    ('/recorded_static', QosDurability.TRANSIENT_LOCAL), ('/tf_static', None)])
def test_who_comes_late_gets_the_transforms_that_were_latched(
        graph, tmp_path, static_topic, durability):
    never = QosTime(9223372036, 854775807)
    profiles = [] if durability is None else [Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, durability, never, never,
        QosLiveliness.AUTOMATIC, never, False)]
    write_calibrations(tmp_path / 'bag', static_topic, profiles)
    infos = collect(graph, CameraInfo, '/event_camera_info')
    player = graph.start(
        'bag_player', str(tmp_path / 'bag'), '--remap', f'{static_topic}:=/tf_static')
    wait_until(lambda: infos, 120, 'a message from after the transforms')
    found = []
    source = CalibrationSource(graph.node, 2.0, found.append)
    wait_until(lambda: found, 20, 'a registration')
    assert source.waiting_for == ''
    assert player.stop(signal.SIGINT) == 0, player.log.read_text()


def test_nobody_listens(domain, recording, capfd):
    main([str(recording), '--topics', IMAGE_TOPIC, TEXT_TOPIC, '--wait-for-subscribers', '0.1',
          '--remap', f'{IMAGE_TOPIC}:=/front/image'])
    output = capfd.readouterr()
    assert 'waiting up to 0.1 s for subscribers of /front/image\n' in output.out + output.err
    assert 'nobody subscribed to /front/image within 0.1 s' in output.err
    assert 'played 21 messages' in output.out


def test_topics_that_nobody_wants_are_not_waited_for(graph, tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for name in ('/front', '/rear', '/depth'):
            bag.write_image(name, START_NS, np.zeros((2, 2), np.uint8))
        bag.write_event_packet(EVENT_TOPIC, EventPacket(START_NS, 640, 480, 0, 0, 'evt3', b''))
    player = graph.start('bag_player', str(tmp_path / 'bag'), '--wait-for-subscribers', '60')
    fronts = collect(graph, Image, '/front')
    wait_until(lambda: 'waiting up to 60 s' in player.log.read_text(), 30, 'the player')
    # Images alone are not enough for a recording that has events.
    time.sleep(2.5)
    assert player.is_running() and 'nobody wants' not in player.log.read_text()
    events = collect(graph, EventPacketMessage, EVENT_TOPIC, EVENTS)
    assert player.wait(120) == 0, player.log.read_text()
    assert 'nobody wants /depth, /rear: playing' in player.log.read_text()
    wait_until(lambda: fronts and events, 10, 'both messages')


def test_subscribers_of_other_topics_than_events_and_images_are_not_waited_for(graph, recording):
    events = collect(graph, EventPacketMessage, EVENT_TOPIC, EVENTS)
    images = collect(graph, Image, IMAGE_TOPIC)
    player = graph.start('bag_player', str(recording), '--wait-for-subscribers', '60')
    assert player.wait(120) == 0, player.log.read_text()
    wait_until(lambda: len(events) + len(images) >= 120, 10, 'all messages')
    log = player.log.read_text()
    assert 'played 121 messages' in log and 'nobody subscribed' not in log


def test_a_topic_whose_type_is_not_installed_is_left_out(domain, tmp_path, capfd):
    path = tmp_path / 'foreign.mcap'
    write_foreign(path, {'/thing': 'lost_msgs/msg/Thing', '/flag': 'std_msgs/msg/UInt8'})
    main([str(path)])
    output = capfd.readouterr()
    assert '/thing is left out: message type lost_msgs/msg/Thing is not installed: install the ' \
        'ROS package lost_msgs' in output.err
    assert 'played 1 messages' in output.out


@pytest.mark.parametrize(('arguments', 'text'), [
    (['/nowhere'], '/nowhere does not exist: give a rosbag2 folder'),
    (['BAG', '--topics', '/x'], 'has no topic /x: it has /camera/image_raw'),
    (['BAG', '--remap', '/x:=/y'], 'has no topic /x'),
    (['BAG', '--rate', '0'], 'rate is 0.0: give a number above 0'),
    (['EMPTY'], 'has no messages to play'),
    (['FOREIGN', '--topics', '/thing'],
     'message type lost_msgs/msg/Thing is not installed: install the ROS package'),
    (['FOREIGN'], 'has no messages to play')])
def test_what_cannot_be_played_ends_with_a_line_that_names_the_remedy(
        domain, tmp_path, recording, arguments, text, capfd):
    paths = {'BAG': recording, 'EMPTY': tmp_path / 'empty', 'FOREIGN': tmp_path / 'foreign.mcap'}
    if arguments == ['EMPTY']:
        with BagWriter(paths['EMPTY']):
            pass
    if arguments[0] == 'FOREIGN':
        write_foreign(paths['FOREIGN'], {'/thing': 'lost_msgs/msg/Thing'})
    with pytest.raises(SystemExit) as ended:
        main([str(paths.get(item, item)) for item in arguments])
    assert ended.value.code == 1
    assert text in capfd.readouterr().err


def write_foreign(path, types):
    """Write a message of one byte to each topic, whether its type is known or not."""
    from mcap.writer import Writer
    with path.open('wb') as stream:
        writer = Writer(stream)
        writer.start(profile='ros2', library='a test')
        for topic, type_name in types.items():
            schema_id = writer.register_schema(type_name, 'ros2msg', b'uint8 data')
            channel_id = writer.register_channel(topic, 'cdr', schema_id)
            writer.add_message(channel_id, 0, b'\0\1\0\0\1', 0)
        writer.finish()


def test_wrong_usage_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['x', '--remap', 'a=b'])
    assert ended.value.code == 2
    assert "'a=b' is not of the form /recorded:=/published" in capsys.readouterr().err
    for options in ({'rate': float('nan')}, {'clock_hz': 0.0}, {'wait_for_subscribers_s': -1.0}):
        with pytest.raises(ValueError, match='give'):
            PlayOptions(**options)


@pytest.mark.parametrize('name', ['/a b', 'ends/', '/1st', '/a//b', '{nod}/x', 'a{ns}', 'x' * 300])
def test_a_name_that_no_topic_can_have_is_refused(domain, recording, name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(recording), '--remap', f'{TEXT_TOPIC}:={name}'])
    assert ended.value.code == 2
    assert f"{name!r} in '{TEXT_TOPIC}:={name}' is no name of a topic: give letters" in \
        capsys.readouterr().err


@pytest.mark.parametrize('name', ['/a', 'a', '~/a', '{node}/a', '/a_1/B2'])
def test_names_of_topics_are_taken(name):
    assert _parse_remap(f'/old:={name}') == ('/old', name)


def test_message_classes_are_found_by_name():
    assert find_message_class('sensor_msgs/msg/Image') is Image
    with pytest.raises(ValueError, match='package no_msgs .*source its setup file'):
        find_message_class('no_msgs/msg/Thing')
    with pytest.raises(ValueError, match='sensor_msgs/msg/Nothing is not installed'):
        find_message_class('sensor_msgs/msg/Nothing')
    for name in ('', 'Image', 'sensor_msgs/Image', '/msg/Image'):
        with pytest.raises(ValueError, match='is unknown: choose other topics'):
            find_message_class(name)


def test_arguments_of_ros_are_split_off():
    assert _split_arguments([]) == ([], [])
    assert _split_arguments(['bag', '--remap', 'a:=b']) == (['bag', '--remap', 'a:=b'], [])
    assert _split_arguments(['bag', '--ros-args', '-r', 'a:=b', '--', '--loop']) == (
        ['bag', '--loop'], ['--ros-args', '-r', 'a:=b', '--'])
