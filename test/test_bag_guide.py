"""The guided frame of one moment of a recording, whatever the stamps are like."""

from epvlm_ros.bag import BagReader, BagWriter
from epvlm_ros.bag.guide import find_guided_frame
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
