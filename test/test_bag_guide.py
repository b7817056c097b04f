"""The guided frame of one moment of a recording, whatever the stamps are like."""

from contextlib import closing
import sqlite3

from epvlm_ros.bag import BagReader, BagWriter
from epvlm_ros.bag.guide import find_guided_frame, guided_frames
from epvlm_ros.core.config import EventSyncConfig
from epvlm_ros.core.packets import encode_evt3, EventPacket, Events
import numpy as np
import pytest

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS


def make_bag(path, stamps_ms):
    """Write a frame with each 100 ms, the first one at the start, as bright as its number."""
    with BagWriter(path) as bag:
        for number, stamp_ms in enumerate(stamps_ms):
            record_ns = START_NS + 100 * number * MS
            event = Events(*(np.array([value]) for value in (1, 2, 1, 100 * number * MS)))
            bag.write_event_packet('/events', EventPacket(
                record_ns, 64, 48, number, 0, 'evt3', encode_evt3(event)))
            bag.write_image('/image', START_NS + stamp_ms * MS,
                            np.full((48, 64), number, np.uint8), record_ns)
    return path


@pytest.mark.parametrize('changes', [
    {}, {4: 300}, {4: 250}, {4: 0}, {4: 100_000}, {4: 1_600}, {2: 100, 3: 100, 9: -1_000_000},
    {12: 1_250}, {15: 1_400}])
@pytest.mark.parametrize('at_s, expected', [(0.0, 0), (0.74, 7), (1.3, 13), (1.9, 19)])
def test_the_frame_of_a_moment_is_the_one_that_is_stamped_closest(
        tmp_path, changes, at_s, expected):
    stamps_ms = [changes.get(number, 100 * number) for number in range(20)]
    config = EventSyncConfig()
    with BagReader(make_bag(tmp_path / 'bag', stamps_ms)) as bag:
        guided = find_guided_frame(bag, config, at_s)
        assert bag.image(guided.frame.payload).rgb[0, 0, 0] == expected
        assert guided.frame.stamp_ns == START_NS + stamps_ms[expected] * MS


def test_what_cannot_be_used_is_left_out_and_named(tmp_path, caplog):
    path = make_bag(tmp_path / 'bag', [100 * number for number in range(20)])
    (file,) = path.glob('*.db3')
    # images of 48 x 64 that say that they are 49 high; a packet of an unknown encoding
    too_high, unknown = (b'\x30\0\0\0\x40\0\0\0', b'\x31\0\0\0\x40\0\0\0'), (b'evt3', b'evt9')
    with closing(sqlite3.connect(file)) as database, database:
        for (old, new), topic, number in (
                (too_high, '/image', 3), (too_high, '/image', 4), (unknown, '/events', 7)):
            row, data = database.execute(
                'SELECT messages.id, data FROM messages JOIN topics ON topics.id = topic_id '
                'WHERE name = ? ORDER BY timestamp LIMIT 1 OFFSET ?', (topic, number)).fetchone()
            assert data.count(old) == 1
            database.execute(
                'UPDATE messages SET data = ? WHERE id = ?', (data.replace(old, new), row))
    with BagReader(path) as bag:
        frames = list(guided_frames(bag, EventSyncConfig()))
        shown = [bag.image(guided.frame.payload).rgb[0, 0, 0] for guided in frames]
    assert shown == [number for number in range(20) if number not in (3, 4)]
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 4
    assert '/image is left out: image has 3072 bytes, 64 x 49 pixels' in named[0]
    assert '/events is left out' in named[1] and "'evt9'" in named[1]
    assert '2 of 20 messages of /image' in named[2] and '1 of 20 messages of /events' in named[3]
