"""The guided frame of one moment of a recording, whatever the stamps are like."""

from damaged_bag import make_too_high, replace_in_message
from epvlm_ros.bag import BagReader, BagWriter
from epvlm_ros.bag.offline_sync import find_guided_frame, guided_frames
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
import numpy as np
import pytest

pytestmark = pytest.mark.long

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
    for number in (3, 4):
        make_too_high(path, '/image', number, 48, 64)
    replace_in_message(path, '/events', 7, b'evt3', b'evt9')
    with BagReader(path) as bag:
        frames = list(guided_frames(bag, EventSyncConfig()))
        shown = [bag.image(guided.frame.payload).rgb[0, 0, 0] for guided in frames]
    assert shown == [number for number in range(20) if number not in (3, 4)]
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 2
    assert named[0].startswith('the message of /image at 0.300 s is left out, and others that')
    assert 'image has 3072 bytes, 64 x 49 pixels' in named[0]
    assert '/events at 0.700 s' in named[1] and "'evt9'" in named[1]
