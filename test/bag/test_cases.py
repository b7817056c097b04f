"""Recordings that the package got wrong once, with the right results by their README."""

from epvlm_ros.bag import bag_info, BagReader
import pytest


def test_12_bits_in_mono16_are_not_dark(shared_cases, caplog):
    with BagReader(shared_cases / 'mono16_12bit') as bag:
        brightest = [image.rgb.max() for image in bag.images()]
    # The values are those of an 8-bit camera times 16, up to 132 and 129.
    assert all(133 <= value <= 141 for value in brightest)
    line, = (record.getMessage() for record in caplog.records)
    assert line == ('/camera/image_raw: the largest pixel value so far is 2112, images are read '
                    'as values of 12 bits')


def test_nv12_is_converted(shared_cases):
    with BagReader(shared_cases / 'nv12') as bag:
        images = list(bag.images())
    assert [image.rgb.shape for image in images] == [(180, 240, 3)] * 2
    assert all(image.rgb.std() > 10 for image in images)


@pytest.mark.parametrize(('name', 'off', 'on', 'words'), [
    ('mcap_profile_empty/h_profile_empty.mcap', 192_944, 133_297, []),
    ('split_no_metadata', 192_944, 133_297, ['all of its 3 files are read', 'ros2 bag reindex']),
    ('cut_mcap/rec_0.mcap', 23_235, 14_798, ['is cut off: the 32 messages', 'mcap recover']),
    ('clock_mismatch', 39_266, 25_360, []),
])
def test_every_event_that_is_there_is_read(shared_cases, name, off, on, words):
    info = bag_info(shared_cases / name)
    events = info['event_topics']['/event_camera/events']
    assert (events['off'], events['on']) == (off, on)
    assert len(info['problems']) == bool(words)
    assert all(word in info['problems'][0] for word in words)


@pytest.mark.parametrize('name', ['wal_ignored', 'wal_ignored/rec_0.db3'])
def test_a_write_ahead_log_is_read_and_nothing_is_written(shared_cases, name):
    folder = shared_cases / 'wal_ignored'
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns)
              for file in folder.iterdir()}
    assert bag_info(shared_cases / name)['messages'] == 120
    assert before == {file.name: (file.read_bytes(), file.stat().st_mtime_ns)
                      for file in folder.iterdir()}


def test_a_depth_topic_is_named_apart(shared_cases):
    info = bag_info(shared_cases / 'baginfo_compressed_depth')
    assert info['event_topics']['/event_camera/events']['packets'] == 1
    image = info['image_topics']['/camera/color/image_raw/compressed']
    assert (image['width'], image['height'], image['count']) == (240, 180, 1)
    depth = '/camera/depth/image_raw/compressedDepth'
    assert info['other_topics'] == {
        depth: {'type': 'sensor_msgs/msg/CompressedImage', 'count': 1}}
    problem, = info['problems']
    assert depth in problem and 'is a depth image: use the topic of the colours' in problem
    with BagReader(shared_cases / 'baginfo_compressed_depth') as bag:
        assert bag.find_image_topic() == '/camera/color/image_raw/compressed'


def test_an_empty_first_jpeg_is_named(shared_cases):
    info = bag_info(shared_cases / 'baginfo_first_jpeg_empty')
    assert info['event_topics']['/event_camera/events']['packets'] == 3
    image = info['image_topics']['/camera/image_raw/compressed']
    assert (image['width'], image['height'], image['count']) == (240, 180, 2)
    problem, = info['problems']
    assert '/camera/image_raw/compressed at 0.' in problem and 'of 0 bytes' in problem


def test_what_has_to_be_converted_is_named(shared_cases):
    problem, = bag_info(shared_cases / 'dvs_msgs_ros2')['problems']
    assert 'convert dvs_msgs/msg/EventArray with "epvlm convert"' in problem


def test_packets_of_evt21(shared_cases):
    info = bag_info(shared_cases / 'evt21_encoding')
    events = info['event_topics']['/event_camera/events']
    assert (events['off'], events['on'], events['encoding']) == (39_266, 25_360, 'evt21')
    assert events['t_min_ns'] == 500_007_000
    assert info['problems'] == []


def test_events_outside_of_a_sensor_of_no_size_are_named(shared_cases):
    info = bag_info(shared_cases / 'zero_geometry')
    events = info['event_topics']['/event_camera/events']
    assert (events['off'], events['on'], events['out_of_range_events']) == (0, 0, 64_626)
    assert info['problems'] == [
        '64626 events of /event_camera/events are outside of the sensor size that their packets '
        'state (0 x 0)']
