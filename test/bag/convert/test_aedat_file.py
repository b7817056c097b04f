"""AEDAT 4, written here byte by byte, becomes a recording."""

import struct
import sys

from aedat4_writer import flatbuffer, write_file
from epvlm_ros.bag import BagReader
from epvlm_ros.bag.convert import convert
from epvlm_ros.events.packet_codecs import make_decoder
import numpy as np
import pytest

START_US = 1_700_000_000_000_000
SIZE = 64, 48


def event_packet(rows):
    data = b''.join(struct.pack('<qhhb3x', t_us, x, y, p) for x, y, p, t_us in rows)
    return 0, flatbuffer(b'EVTS', [(data, len(rows))])


def frame_packet(t_us, pixels):
    height, width = pixels.shape
    return 1, flatbuffer(b'FRME', [
        *[('q', t_us)] * 5, ('b', 0), ('h', width), ('h', height), ('h', 0), ('h', 0),
        (pixels.tobytes(), pixels.size)])


NO_TRIGGERS = 2, flatbuffer(b'TRIG', [(b'', 0)])


def make_rows(num, seed):
    random = np.random.default_rng(seed)
    x, y, polarity = (random.integers(0, high, num).tolist() for high in (*SIZE, 2))
    return list(zip(x, y, polarity, (START_US + np.sort(random.integers(0, 9000, num))).tolist()))


def test_events_and_frames(tmp_path):
    pytest.importorskip('aedat', reason='aedat is not installed')
    rows = make_rows(500, 1)
    pixels = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE[::-1])
    path = write_file(tmp_path / 'a.aedat4', [
        event_packet(rows[:200]), frame_packet(START_US + 5, pixels), event_packet(rows[200:])],
        SIZE)
    converted = convert(path, tmp_path / 'bag')
    num_on = sum(row[2] for row in rows)
    assert converted.num_events == {'/event_camera/events': [500 - num_on, num_on]}
    assert converted.num_copied == {'/camera/image_raw': 1}
    assert converted.problems == []
    with BagReader(tmp_path / 'bag') as bag:
        decoder = make_decoder('mono', *SIZE)
        read = [row for packet in bag.event_packets() for row in zip(
            *(values.tolist() for values in decoder.decode(packet).events))]
        image, = bag.images()
    assert read == [(x, y, polarity, t_us * 1000) for x, y, polarity, t_us in rows]
    assert image.stamp_ns == (START_US + 5) * 1000
    np.testing.assert_array_equal(image.rgb[..., 0], pixels)


def test_other_streams_are_named(tmp_path):
    pytest.importorskip('aedat', reason='aedat is not installed')
    path = write_file(tmp_path / 'a.aedat4', [event_packet(make_rows(5, 2)), NO_TRIGGERS], SIZE)
    assert convert(path, tmp_path / 'bag').problems == ['triggers are left out']


def test_a_file_that_is_cut_off(tmp_path):
    pytest.importorskip('aedat', reason='aedat is not installed')
    path = write_file(tmp_path / 'a.aedat4', [event_packet(make_rows(50, 3))], SIZE)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match='a.aedat4 is damaged'):
        convert(path, tmp_path / 'bag')
    path.write_bytes(b'rubbish')
    with pytest.raises(ValueError, match='cannot be read as AEDAT 4'):
        convert(path, tmp_path / 'bag')


def test_the_package_that_is_needed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'aedat', None)
    (tmp_path / 'a.aedat4').write_bytes(b'')
    with pytest.raises(ValueError, match='needs aedat: run pip install aedat'):
        convert(tmp_path / 'a.aedat4', tmp_path / 'bag')
