"""Recordings of every kind are read: storages, missing and foreign definitions, damage."""

import contextlib
import shutil
import sqlite3

import cv2
from epvlm_ros.bag import BagReader, BagWriter
from epvlm_ros.bag.message_types import make_typestore
from epvlm_ros.events.packet import EventPacket
from mcap.writer import Writer as McapWriter
import numpy as np
import pytest
from rosbags.interfaces import (
    Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
import yaml

EVENTS, IMAGES = '/event_camera/events', '/camera/image_raw'
EVENT_TYPE, IMAGE_TYPE = 'event_camera_msgs/msg/EventPacket', 'sensor_msgs/msg/Image'
START_NS = 1_700_000_000_123_456_789
RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)

IDL = """\
================================================================================
IDL: event_camera_msgs/msg/EventPacket
// Made by hand, as rosidl_adapter writes it.
#include "std_msgs/msg/Header.idl"

module event_camera_msgs {
  module msg {
    struct EventPacket {
      @verbatim (language="comment", text=
        "a comment" "\\n"
        "that goes on")
      std_msgs::msg::Header header;
      uint32 height;
      uint32 width;
      uint64 seq;
      uint64 time_base;
      string encoding;
      boolean is_bigendian;
      sequence<uint8> events;
    };
  };
};
"""


def packet(seq):
    payload = bytes([1, 2, 3, seq])
    return EventPacket(START_NS + seq, 640, 480, seq, 10 * seq, 'evt3', payload, seq == 2)


def serialised(seq):
    types = make_typestore().types
    made = packet(seq)
    header = types['std_msgs/msg/Header'](
        types['builtin_interfaces/msg/Time'](*divmod(made.stamp_ns, 10 ** 9)), 'sensor')
    return make_typestore().serialize_cdr(types[EVENT_TYPE](
        header, made.height, made.width, made.seq, made.time_base, made.encoding,
        made.is_bigendian, made.events), EVENT_TYPE)


def assert_packets(packets):
    packets = list(packets)
    assert [made.seq for made in packets] == [1, 2, 3]
    for made in packets:
        expected = packet(made.seq)
        assert vars(made) | {'events': 0} == vars(expected) | {'events': 0}
        np.testing.assert_array_equal(made.events, expected.events)


@pytest.fixture(params=['sqlite3', 'mcap'])
def storage(request):
    return request.param


@pytest.fixture
def recording(tmp_path, storage):
    """Write three packets and two frames; packet 2 was received after packet 3."""
    path = tmp_path / 'recording'
    with BagWriter(path, storage) as bag:
        bag.write_event_packet(EVENTS, packet(1), START_NS + 10)
        bag.write_event_packet(EVENTS, packet(3), START_NS + 30)
        bag.write_image(IMAGES, START_NS, RGB, START_NS + 25, 'lens')
        bag.write_event_packet(EVENTS, packet(2), START_NS + 20)
        bag.write_image(IMAGES, START_NS + 5, RGB[..., 0], START_NS + 35)
    return path


def assert_recording(path, storage):
    with BagReader(path) as bag:
        assert bag.storage == storage
        assert bag.topics == {
            IMAGES: (IMAGE_TYPE, 2, {'volatile'}), EVENTS: (EVENT_TYPE, 3, {'volatile'})}
        assert (bag.event_topics, bag.image_topics) == ([EVENTS], [IMAGES])
        assert (bag.start_ns, bag.end_ns) == (START_NS + 10, START_NS + 35)
        assert bag.num_messages == 5
        assert [(message.topic, message.record_time_ns - START_NS)
                for message in bag.messages()] == [
                    (EVENTS, 10), (EVENTS, 20), (IMAGES, 25), (EVENTS, 30), (IMAGES, 35)]
        assert [message.topic for message in bag.messages([IMAGES])] == [IMAGES] * 2
        assert_packets(bag.event_packets())
        colour, grey = bag.images(IMAGES)
        np.testing.assert_array_equal(colour.rgb, RGB)
        np.testing.assert_array_equal(grey.rgb, np.repeat(RGB[..., :1], 3, axis=2))
        assert (colour.stamp_ns, colour.frame_id, colour.encoding, colour.record_time_ns) == (
            START_NS, 'lens', 'rgb8', START_NS + 25)
        assert (grey.stamp_ns, grey.frame_id, grey.encoding) == (START_NS + 5, 'camera', 'mono8')


def test_what_was_written_is_read(recording, storage):
    assert_recording(recording, storage)
    assert_recording(str(recording), storage)


def test_a_bare_file_is_read(recording, storage):
    file, = [item for item in recording.iterdir() if item.suffix in ('.db3', '.mcap')]
    assert_recording(file, storage)


def test_an_empty_storage_identifier(recording, storage):
    file = recording / 'metadata.yaml'
    text = file.read_text()
    assert f'storage_identifier: {storage}' in text
    file.write_text(text.replace(f'storage_identifier: {storage}', "storage_identifier: ''"))
    assert_recording(recording, storage)


def test_a_recording_in_several_files(tmp_path, recording, storage):
    """Files overlap in time: a message may be received while the file is changed."""
    second = tmp_path / 'second'
    with BagWriter(second, storage) as bag:
        bag.write_event_packet('/other', packet(7), START_NS + 22)
    file, = [item for item in second.iterdir() if item.suffix != '.yaml']
    shutil.copy(file, recording / f'more{file.suffix}')
    metadata = yaml.safe_load((recording / 'metadata.yaml').read_text())
    # Old recordings name their files with the folder.
    metadata['rosbag2_bagfile_information']['relative_file_paths'].append(
        f'elsewhere/more{file.suffix}')
    (recording / 'metadata.yaml').write_text(yaml.dump(metadata))
    with BagReader(recording) as bag:
        assert bag.topics['/other'] == (EVENT_TYPE, 1, {'volatile'})
        assert [message.record_time_ns - START_NS for message in bag.messages()] == [
            10, 20, 22, 25, 30, 35]
        with pytest.raises(ValueError, match='several event topics.*--event-topic'):
            bag.find_event_topic()
        assert bag.find_event_topic('/other') == '/other'


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_recordings(tmp_path, mode):
    path = tmp_path / 'compressed'
    writer = Writer(path, version=8)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(EVENTS, EVENT_TYPE, typestore=make_typestore())
        for seq in (1, 2, 3):
            writer.write(connection, START_NS + seq, serialised(seq))
    with BagReader(path) as bag:
        assert_packets(bag.event_packets())


def test_a_recording_without_any_definition(tmp_path, recording, storage):
    if storage == 'sqlite3':  # as older distributions wrote it
        file, = recording.glob('*.db3')
        with sqlite3.connect(file) as database:
            for table in ('message_definitions', 'schema', 'metadata'):
                database.execute(f'DROP TABLE {table}')
            database.execute('ALTER TABLE topics DROP COLUMN type_description_hash')
        database.close()
        assert_recording(recording, storage)
    else:
        assert_packets_of_mcap(tmp_path, '', b'')


def assert_packets_of_mcap(tmp_path, encoding, schema):
    """Write packets with the plain mcap library under a foreign schema, and read them."""
    file = tmp_path / 'foreign.mcap'
    with file.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros2', library='a test')
        schema_id = writer.register_schema(EVENT_TYPE, encoding, schema)
        channel_id = writer.register_channel(EVENTS, 'cdr', schema_id)
        for seq in (1, 2, 3):
            writer.add_message(channel_id, START_NS + seq, serialised(seq), START_NS + seq, seq)
        writer.finish()
    with BagReader(file) as bag:
        assert bag.topics == {EVENTS: (EVENT_TYPE, 3, set())}
        assert_packets(bag.event_packets())


def test_a_ros2idl_schema(tmp_path):
    assert_packets_of_mcap(tmp_path, 'ros2idl', IDL.encode())


def test_a_schema_that_is_rubbish_does_not_matter(tmp_path):
    assert_packets_of_mcap(tmp_path, 'ros2msg', b'this is no definition')


def test_an_mcap_without_a_schema_takes_its_type_from_the_metadata(tmp_path):
    path = tmp_path / 'recording'
    path.mkdir()
    with (path / 'data.mcap').open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros2', library='a test')
        channel_id = writer.register_channel(EVENTS, 'cdr', 0)
        for seq in (1, 2, 3):
            writer.add_message(channel_id, START_NS + seq, serialised(seq), START_NS + seq, seq)
        writer.finish()
    (path / 'metadata.yaml').write_text(yaml.dump({'rosbag2_bagfile_information': {
        'relative_file_paths': ['data.mcap'], 'storage_identifier': 'mcap',
        'topics_with_message_count': [
            {'topic_metadata': {'name': EVENTS, 'type': EVENT_TYPE}, 'message_count': 3}]}}))
    with BagReader(path) as bag:
        assert_packets(bag.event_packets())
    with BagReader(path / 'data.mcap') as bag:
        with pytest.raises(ValueError, match='no event topic.*events .of unknown type'):
            bag.event_packets()


def qos(durability):
    never = QosTime(9223372036, 854775807)
    return Qos(QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, durability, never, never,
               QosLiveliness.AUTOMATIC, never, False)


@pytest.mark.parametrize('version', [8, 9])
@pytest.mark.parametrize('plugin', StoragePlugin)
def test_how_durable_messages_were_is_read(tmp_path, version, plugin):
    latched, volatile = qos(QosDurability.TRANSIENT_LOCAL), qos(QosDurability.VOLATILE)
    offered = {'/latched': [latched], '/mixed': [volatile, latched], '/not': [volatile],
               '/silent': [], '/unknown': [qos(QosDurability.UNKNOWN)]}
    with Writer(tmp_path / 'bag', version=version, storage_plugin=plugin) as writer:
        for topic, profiles in offered.items():
            connection = writer.add_connection(
                topic, EVENT_TYPE, typestore=make_typestore(), offered_qos_profiles=profiles)
            writer.write(connection, START_NS, serialised(1))
    file, = [item for item in (tmp_path / 'bag').iterdir() if item.suffix != '.yaml']
    for path in (tmp_path / 'bag', file):
        with BagReader(path) as bag:
            assert {name: topic.durabilities for name, topic in bag.topics.items()} == {
                '/latched': {'transient_local'}, '/mixed': {'transient_local', 'volatile'},
                '/not': {'volatile'}, '/silent': set(), '/unknown': set()}


@pytest.mark.parametrize('profiles', [
    [{'durability': 'transient_local'}, {'depth': 1}], [{'durability': 1}],
    '- history: 3\n  durability: 1\n', '- durability: transient_local'])
def test_how_durable_messages_were_may_be_in_the_metadata_only(tmp_path, profiles):
    assert_packets_of_mcap(tmp_path, '', b'')
    (tmp_path / 'metadata.yaml').write_text(yaml.dump({'rosbag2_bagfile_information': {
        'relative_file_paths': ['foreign.mcap'], 'storage_identifier': 'mcap',
        'topics_with_message_count': [{'topic_metadata': {
            'name': EVENTS, 'type': EVENT_TYPE, 'offered_qos_profiles': profiles},
            'message_count': 3}]}}))
    with BagReader(tmp_path) as bag:
        assert bag.topics == {EVENTS: (EVENT_TYPE, 3, {'transient_local'})}


def test_compressed_images(tmp_path):
    types = make_typestore().types
    message = types['sensor_msgs/msg/CompressedImage'](
        types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](5, 6), 'lens'), 'png',
        cv2.imencode('.png', RGB[..., ::-1])[1].reshape(-1))
    name = 'sensor_msgs/msg/CompressedImage'
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_raw(IMAGES, name, 9, make_typestore().serialize_cdr(message, name))
    with BagReader(tmp_path / 'bag') as bag:
        image, = bag.images()
    np.testing.assert_array_equal(image.rgb, RGB)
    assert (image.stamp_ns, image.encoding, image.record_time_ns) == (5_000_000_006, 'png', 9)


def test_an_empty_recording(tmp_path, storage):
    with BagWriter(tmp_path / 'bag', storage):
        pass
    with BagReader(tmp_path / 'bag') as bag:
        assert (bag.topics, bag.num_messages, bag.start_ns, bag.end_ns) == ({}, 0, None, None)
        assert list(bag.messages()) == []
        with pytest.raises(ValueError, match='has no event topic: it has no topics'):
            bag.find_event_topic()


def test_what_cannot_be_opened(tmp_path, recording, storage):
    with pytest.raises(ValueError, match='nowhere does not exist: give a rosbag2 folder'):
        BagReader(tmp_path / 'nowhere')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(ValueError, match='neither metadata.yaml nor .mcap or .db3 files: give a'):
        BagReader(tmp_path / 'folder')
    (tmp_path / 'notes.txt').write_text('x')
    with pytest.raises(ValueError, match='neither .mcap nor .db3.*"epvlm convert" makes'):
        BagReader(tmp_path / 'notes.txt')
    file, = [item for item in recording.iterdir() if item.suffix != '.yaml']
    data = file.read_bytes()
    # Half of an MCAP may be read, see test_mcap_scan.py.
    half = len(data) // 2 if storage == 'sqlite3' else 40
    for damaged in (b'', b'rubbish' * 100, data[:half]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match='cannot be read as a recording|is damaged'):
            with BagReader(recording) as bag:
                list(bag.messages())
    file.unlink()
    with pytest.raises(ValueError, match='is missing, metadata.yaml names it'):
        BagReader(recording)
    for text in ('a: [', 'a: 1', '[]', 'rosbag2_bagfile_information: 3'):
        (recording / 'metadata.yaml').write_text(text)
        with pytest.raises(ValueError, match='damaged.*ros2 bag reindex'):
            BagReader(recording)


@pytest.mark.parametrize('mode', [None, CompressionMode.FILE, CompressionMode.MESSAGE])
def test_all_files_of_a_folder_without_metadata_are_read(tmp_path, storage, mode, caplog):
    """As a recorder leaves it that was killed."""
    folder = tmp_path / 'recording'
    folder.mkdir()
    for number in (1, 2, 3):
        plugin = StoragePlugin.MCAP if storage == 'mcap' else StoragePlugin.SQLITE3
        writer = Writer(tmp_path / str(number), version=8, storage_plugin=plugin)
        if mode is not None:
            writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            connection = writer.add_connection(EVENTS, EVENT_TYPE, typestore=make_typestore())
            writer.write(connection, START_NS + number, serialised(number))
        file, = (item for item in (tmp_path / str(number)).iterdir() if item.suffix != '.yaml')
        suffix = ''.join(file.suffixes)
        file.rename(folder / f'rec_{number + 8}{suffix}')
    with BagReader(folder) as bag:
        assert bag.storage == storage
        assert_packets(bag.event_packets())
        problem, = bag.problems
    assert problem == caplog.records[0].getMessage()
    assert problem == (f'{folder} has no metadata.yaml: all of its 3 files are read as one '
                       'recording; "ros2 bag reindex" writes the missing metadata')
    (folder / f'rec_10{suffix}').write_bytes(b'')
    if mode is not CompressionMode.FILE:
        with BagReader(folder) as bag:
            assert [made.seq for made in bag.event_packets()] == [1, 3]
            assert 'rec_10' in bag.problems[1]
            assert bag.problems[1].endswith('the other files are read')


def copy_open_database(source, target):
    """Copy a database as it is on the disk, as read-only files, and return their contents."""
    target.mkdir()
    for file in source.parent.iterdir():
        if file.name.startswith(source.name):
            (target / file.name).write_bytes(file.read_bytes())
            (target / file.name).chmod(0o444)
    target.chmod(0o555)
    return contents(target)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_messages_in_a_write_ahead_log_are_read(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_event_packet(EVENTS, packet(1), START_NS + 1)
    file, = (tmp_path / 'bag').glob('*.db3')
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute('PRAGMA journal_mode = WAL')
        for seq in (2, 3):
            database.execute(
                'INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)',
                (START_NS + seq, serialised(seq)))
            database.commit()
        before = copy_open_database(file, tmp_path / 'killed')
    assert f'{file.name}-wal' in before
    for path in (tmp_path / 'killed' / file.name, tmp_path / 'killed'):
        with BagReader(path) as bag:
            assert bag.topics[EVENTS].num_messages == 3
            assert_packets(bag.event_packets())
    assert contents(tmp_path / 'killed') == before


def test_half_a_transaction_is_undone(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for seq in (1, 2, 3):
            bag.write_event_packet(EVENTS, packet(seq), START_NS + seq)
    file, = (tmp_path / 'bag').glob('*.db3')
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute('PRAGMA cache_size = 1')  # so that it is written before it is complete
        database.execute('DELETE FROM messages')
        database.execute('UPDATE topics SET name = ?', ('x' * 100_000,))
        before = copy_open_database(file, tmp_path / 'killed')
    assert f'{file.name}-journal' in before
    with BagReader(tmp_path / 'killed') as bag:
        assert_packets(bag.event_packets())
    assert contents(tmp_path / 'killed') == before


def test_topics_that_are_not_there(recording):
    with BagReader(recording) as bag:
        with pytest.raises(ValueError, match='no topic /x: it has /camera/image_raw'):
            bag.messages(['/x'])
        with pytest.raises(ValueError, match='is not an event topic.*it has /event_camera/events'):
            bag.find_event_topic(IMAGES)
        with pytest.raises(ValueError, match='is not an image topic'):
            bag.images(EVENTS)
        message = next(bag.messages([EVENTS]))
        with pytest.raises(ValueError, match='give an image'):
            bag.image(message)
        with pytest.raises(ValueError, match='type a_msgs/msg/B is unknown'):
            bag.deserialize(b'', 'a_msgs/msg/B')
        with pytest.raises(ValueError, match='10 bytes are not of type event_camera_msgs'):
            bag.deserialize(message.data[:10], EVENT_TYPE)


def test_two_readers_of_one_file(recording):
    with BagReader(recording) as one, BagReader(recording) as two:
        assert len(list(zip(one.messages(), two.messages()))) == 5
