"""MCAP files that were cut off or damaged, or that lack what rosbags asks for."""

from epvlm_ros.bag import BagReader
from epvlm_ros.bag.message_types import make_typestore
from mcap.writer import CompressionType, Writer
import pytest

TEXT = 'std_msgs/msg/String'
MAGIC_SIZE = 8


def write(path, times, profile='ros2', chunk_size=1, use_chunking=True,
          compression=CompressionType.NONE):
    """Write a text of each time to /even or /odd, as chunks of their own or of this size."""
    types = make_typestore()
    with path.open('wb') as stream:
        writer = Writer(stream, chunk_size=chunk_size, use_chunking=use_chunking,
                        compression=compression)
        writer.start(profile=profile, library='a test')
        schema = writer.register_schema(TEXT, 'ros2msg', b'string data')
        channels = [writer.register_channel(
            name, 'cdr', schema, {'offered_qos_profiles': '- durability: 1'})
            for name in ('/even', '/odd')]
        for time in times:
            text = types.serialize_cdr(types.types[TEXT](f'number {time:03d}'), TEXT)
            writer.add_message(channels[time % 2], time, text, time)
        writer.finish()
    return path


def read(path, topics=None):
    with BagReader(path) as bag:
        texts = [int(bag.deserialize(message.data, TEXT).data[7:])
                 for message in bag.messages(topics)]
        assert texts == [message.record_time_ns for message in bag.messages(topics)]
        return texts, bag.problems


@pytest.mark.parametrize('compression', CompressionType)
def test_an_empty_profile_is_read(tmp_path, compression):
    path = write(tmp_path / 'a.mcap', range(10), profile='', chunk_size=100,
                 compression=compression)
    assert read(path) == ([*range(10)], [])
    assert read(path, ['/odd']) == ([1, 3, 5, 7, 9], [])
    with BagReader(path) as bag:
        assert bag.topics == {'/even': (TEXT, 5, {'transient_local'}),
                              '/odd': (TEXT, 5, {'transient_local'})}
        assert (bag.storage, bag.start_ns, bag.end_ns) == ('mcap', 0, 9)


def test_chunks_that_overlap_are_read_in_order(tmp_path):
    path = write(tmp_path / 'a.mcap', [5, 9, 1, 6, 7, 8, 2, 0], profile='')
    assert read(path) == ([0, 1, 2, 5, 6, 7, 8, 9], [])


@pytest.mark.parametrize('use_chunking', [True, False])
@pytest.mark.parametrize('compression', [CompressionType.NONE, CompressionType.ZSTD])
def test_a_file_is_read_up_to_where_it_is_cut_off(tmp_path, use_chunking, compression):
    whole = write(tmp_path / 'whole.mcap', range(10), use_chunking=use_chunking,
                  compression=compression)
    data = whole.read_bytes()
    # Before the index, whose place is in the footer, a record of 13 bytes ends the messages.
    messages_end = int.from_bytes(data[-28:-20], 'little') - 12
    path, counts = tmp_path / 'cut.mcap', []
    for size in range(0, len(data), 11):
        path.write_bytes(data[:size])
        try:
            texts, problems = read(path)
        except ValueError as error:
            assert 'cannot be read as a recording' in str(error)
            counts.append(0)
            continue
        counts.append(len(texts))
        assert texts == [*range(len(texts))]
        if size >= messages_end:
            assert (len(texts), problems) == (10, [])
            continue
        assert len(problems) == 1 and '"mcap recover"' in problems[0]
        assert f'the {len(texts)} messages of its whole chunks are read' in problems[0]
    assert counts == sorted(counts)
    assert set(counts) == {*range(11)}


def test_a_damaged_chunk_is_left_out(tmp_path):
    data = write(tmp_path / 'a.mcap', range(10)).read_bytes()
    data = data[:-20].replace(b'number 004', b'number 999', 1)  # cut behind all messages
    (tmp_path / 'a.mcap').write_bytes(data)
    texts, problems = read(tmp_path / 'a.mcap')
    assert texts == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert problems == [f'{tmp_path / "a.mcap"}: damaged chunks that are left out: 1']


def test_what_is_no_recording_of_ros_2(tmp_path):
    path = write(tmp_path / 'a.mcap', range(4), profile='ros1')
    with pytest.raises(ValueError, match="has profile 'ros1': give a recording of ROS 2"):
        BagReader(path)
    path.write_bytes(b'rubbish' * 100)
    with pytest.raises(ValueError, match='it is no MCAP file'):
        BagReader(path)
