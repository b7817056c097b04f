"""Recordings of other drivers become recordings that everything here reads, event by event."""

import json

from epvlm_ros.bag import bag_info, BagReader, BagWriter
from epvlm_ros.bag.convert import convert
from epvlm_ros.cli import main
from epvlm_ros.events.packet_codecs import make_decoder
from mcap.writer import Writer as McapWriter
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

DVS = 'dvs_msgs/msg/EventArray'
DEFINITIONS = {
    'dvs_msgs/msg/Event': 'uint16 x\nuint16 y\n{time} ts\nbool polarity\n',
    DVS: 'std_msgs/Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events\n'}
START_S = 1_700_000_000


def make_types(store, time):
    typestore = get_typestore(store)
    for name, definition in DEFINITIONS.items():
        typestore.register(get_types_from_msg(definition.replace('{time}', time), name))
    return typestore


def make_events(num_events, seed=0, span_ns=30_000_000):
    """Return (x, y, polarity, ns after the start) of events in the order of their times."""
    random = np.random.default_rng(seed)
    return list(zip(*(random.integers(0, high, num_events).tolist() for high in (64, 48, 2)),
                    np.sort(random.integers(0, span_ns, num_events)).tolist()))


def make_message(typestore, events):
    types, is_ros1 = typestore.types, 'std_msgs/msg/Header' in typestore.types
    assert is_ros1

    def make_time(t_ns):
        return types['builtin_interfaces/msg/Time'](
            START_S + t_ns // 10 ** 9, t_ns % 10 ** 9)

    header = types['std_msgs/msg/Header']
    has_seq = 'seq' in header.__annotations__
    return types[DVS](
        header(*[7] * has_seq, stamp=make_time(0), frame_id='dvs'), 48, 64,
        [types['dvs_msgs/msg/Event'](x, y, make_time(t_ns), bool(polarity))
         for x, y, polarity, t_ns in events])


def write_rosbag2(path, messages, cut=None):
    """Write arrays with rosbags' serialiser, each recorded a ms after the one before."""
    typestore = make_types(Stores.LATEST, 'builtin_interfaces/Time')
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros2', library='a test')
        schema = writer.register_schema(DVS, 'ros2msg', b'')
        channel = writer.register_channel('/dvs/events', 'cdr', schema)
        for number, events in enumerate(messages):
            data = bytes(typestore.serialize_cdr(make_message(typestore, events), DVS))
            data = data[:-1] if number == cut else data
            writer.add_message(channel, START_S * 10 ** 9 + number * 10 ** 6, data, 0)
        writer.finish()
    return path


def read_events(path, topic):
    """Return (x, y, polarity, ns after the start) of all events, and the packets."""
    with BagReader(path) as bag:
        packets = list(bag.event_packets(topic))
    decoder = make_decoder(packets[0].encoding, packets[0].width, packets[0].height)
    events = [event for packet in packets
              for event in zip(*(values.tolist() for values in decoder.decode(packet).events))]
    return [(x, y, polarity, t_ns - START_S * 10 ** 9) for x, y, polarity, t_ns in events], packets


def test_every_event_of_a_rosbag2_at_its_time(tmp_path):
    messages = [make_events(num, seed) for seed, num in enumerate((1, 50, 0, 333))]
    source = write_rosbag2(tmp_path / 'source.mcap', messages)
    converted = convert(source, tmp_path / 'target')
    everything = [event for events in messages for event in events]
    num_on = sum(event[2] for event in everything)
    assert converted.num_events == {'/dvs/events': [384 - num_on, num_on]}
    assert converted.problems == []
    events, packets = read_events(tmp_path / 'target', '/dvs/events')
    assert events == everything
    assert [(packet.seq, packet.width, packet.height) for packet in packets] == [
        (number, 64, 48) for number in range(4)]
    for packet, expected in zip(packets, messages):
        # Stamped with the first event: sensor time and ROS time are one.
        first_ns = expected[0][3] if expected else 0
        assert packet.stamp_ns == START_S * 10 ** 9 + first_ns
    with BagReader(tmp_path / 'target') as bag:
        assert [message.record_time_ns for message in bag.messages()] == [
            START_S * 10 ** 9 + number * 10 ** 6 for number in range(4)]


def test_a_bag_of_ros_1_with_its_images(tmp_path):
    typestore = make_types(Stores.ROS1_NOETIC, 'time')
    image = typestore.types['sensor_msgs/msg/Image']
    header = typestore.types['std_msgs/msg/Header']
    time = typestore.types['builtin_interfaces/msg/Time']
    events = make_events(200)
    pixels = np.arange(12, dtype=np.uint8)
    with Ros1Writer(tmp_path / 'source.bag') as writer:
        def add(topic, type_name, message, time_ns):
            connection = writer.add_connection(topic, type_name, typestore=typestore)
            writer.write(connection, START_S * 10 ** 9 + time_ns,
                         typestore.serialize_ros1(message, type_name))

        add('/dvs/events', DVS, make_message(typestore, events), 5)
        add('/dvs/image', 'sensor_msgs/msg/Image', image(
            header(1, time(START_S, 9), 'camera'), 3, 4, 'mono8', 0, 4, pixels), 6)
        add('/more', 'dvs_msgs/msg/Event', typestore.types['dvs_msgs/msg/Event'](
            1, 2, time(3, 4), True), 7)
    converted = convert(tmp_path / 'source.bag', tmp_path / 'target')
    assert converted.num_copied == {'/dvs/image': 1}
    assert converted.problems == [
        '1 messages of /more are left out: their type dvs_msgs/msg/Event is unknown']
    assert read_events(tmp_path / 'target', '/dvs/events')[0] == events
    with BagReader(tmp_path / 'target') as bag:
        made, = bag.images()
    assert (made.stamp_ns, made.frame_id) == (START_S * 10 ** 9 + 9, 'camera')
    np.testing.assert_array_equal(made.rgb[..., 0], pixels.reshape(3, 4))


def test_times_far_apart_and_out_of_order(tmp_path):
    events = [(1, 1, 1, 9_000_000_000), (2, 2, 0, 0), (3, 3, 1, 4_294_967_295),
              (4, 4, 1, 4_294_967_296)]
    source = write_rosbag2(tmp_path / 'source.mcap', [events])
    convert(source, tmp_path / 'target')
    assert sorted(read_events(tmp_path / 'target', '/dvs/events')[0]) == events


def test_a_message_that_was_cut_off_is_named(tmp_path):
    source = write_rosbag2(tmp_path / 'source.mcap', [make_events(5), make_events(6)], cut=1)
    converted = convert(source, tmp_path / 'target')
    assert sum(converted.num_events['/dvs/events']) == 5
    problem, = converted.problems
    assert problem.startswith('the message of /dvs/events at 0.001 s is left out')
    assert 'event array of 6 events has' in problem


@pytest.mark.parametrize(('name', 'make', 'words'), [
    ('a.mcap', lambda path: None, 'does not exist'),
    ('a.bag', lambda path: None, 'does not exist'),
    ('a.mcap', lambda path: path.write_bytes(b'rubbish'), 'cannot be read'),
    ('a.bag', lambda path: path.write_bytes(b'rubbish'), 'cannot be read as a bag of ROS 1'),
    ('a', lambda path: BagWriter(path).close(), 'has no events that have to be converted')])
def test_what_cannot_be_converted_leaves_nothing(tmp_path, name, make, words):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=words):
        convert(tmp_path / name, tmp_path / 'target')
    assert not (tmp_path / 'target').exists()


def test_what_is_there_is_not_overwritten(tmp_path):
    source = write_rosbag2(tmp_path / 'source.mcap', [make_events(5)])
    (tmp_path / 'target').mkdir()
    with pytest.raises(ValueError, match='exists already'):
        convert(source, tmp_path / 'target')
    assert (tmp_path / 'target').is_dir()


def test_case_of_dvs_msgs(shared_cases, tmp_path, capsys):
    main(['convert', str(shared_cases / 'dvs_msgs_ros2'), str(tmp_path / 'target')])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '/dvs/events: 1818 off and 1436 on events'
    assert lines[1].endswith('image_raw: 2 messages copied')
    info = bag_info(tmp_path / 'target')
    events = info['event_topics']['/dvs/events']
    assert (events['off'], events['on']) == (1818, 1436)
    assert events['t_min_ns'] == START_S * 10 ** 9 + 500_007_000
    assert events['out_of_range_events'] == 0
    assert json.dumps(info['problems']) == '[]'
