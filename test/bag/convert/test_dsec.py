"""A sequence as DSEC has it, made here: events with their rectification, and images."""

import cv2
from epvlm_ros.bag import BagReader
from epvlm_ros.bag.convert import convert
from epvlm_ros.events.packet_codecs import make_decoder
import numpy as np
import pytest

pytestmark = pytest.mark.process  # h5py asks the system what it is

SIZE = 8, 6
OFFSET_US = 50_000_000_000
# x, y, polarity and time in us after the offset; rectified they are one column to the right
EVENTS = [(0, 1, 1, 10), (6, 5, 0, 3000), (7, 2, 1, 4100), (3, 3, 0, 9000)]


@pytest.fixture
def sequence(tmp_path):
    h5py = pytest.importorskip('h5py', reason='h5py is not installed')
    folder = tmp_path / 'zurich'
    for part in ('events/left', 'images/left/rectified'):
        (folder / part).mkdir(parents=True)
    x, y, polarity, t_us = np.array(EVENTS).T
    with h5py.File(folder / 'events/left/events.h5', 'w') as file:
        file['events/x'], file['events/y'] = x.astype('u2'), y.astype('u2')
        file['events/p'], file['events/t'] = polarity.astype('u1'), t_us.astype('u4')
        file['ms_to_idx'], file['t_offset'] = np.array([0, 1], 'u8'), OFFSET_US
    columns, rows = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    with h5py.File(folder / 'events/left/rectify_map.h5', 'w') as file:
        file['rectify_map'] = np.stack([columns + 1.2, rows - 0.3], -1).astype('f4')
    for number in range(2):
        picture = np.full((5, 4, 3), (10 * number, 20, 30), np.uint8)  # blue first
        cv2.imwrite(str(folder / f'images/left/rectified/{number:06d}.png'), picture)
    (folder / 'images/timestamps.txt').write_text(
        f'{OFFSET_US + 2000}\n{OFFSET_US + 8000}\n')
    return folder


def read_back(path):
    with BagReader(path) as bag:
        decoder = make_decoder('mono', *SIZE)
        rows = [row for packet in bag.event_packets() for row in zip(
            *(values.tolist() for values in decoder.decode(packet).events))]
        return rows, [(image.stamp_ns, image.rgb[0, 0].tolist()) for image in bag.images()]


def test_events_are_rectified_and_images_kept(sequence, tmp_path):
    converted = convert(sequence, tmp_path / 'bag')
    assert converted.problems == ['1 events are outside of the sensor once rectified']
    assert converted.num_events == {'/event_camera/events': [2, 1]}
    assert converted.num_copied == {'/camera/image_raw': 2}
    rows, images = read_back(tmp_path / 'bag')
    assert rows == [(x + 1, y, polarity, (OFFSET_US + t_us) * 1000)
                    for x, y, polarity, t_us in EVENTS if x < 7]
    assert images == [((OFFSET_US + 2000) * 1000, [30, 20, 0]),
                      ((OFFSET_US + 8000) * 1000, [30, 20, 10])]


def test_without_the_map_events_stay_where_they_are(sequence, tmp_path):
    (sequence / 'events/left/rectify_map.h5').unlink()
    with pytest.raises(ValueError, match='does not say the size of its sensor: give --size'):
        convert(sequence, tmp_path / 'bag')
    convert(sequence, tmp_path / 'bag', size=SIZE)
    assert [row[:3] for row in read_back(tmp_path / 'bag')[0]] == [row[:3] for row in EVENTS]


def test_images_without_their_times_are_named(sequence, tmp_path):
    (sequence / 'images/timestamps.txt').write_text('1\n2\n3\n')
    with pytest.raises(ValueError, match='3 times for 2 images in .*left'):
        convert(sequence, tmp_path / 'bag')
