"""The recording made of slider_depth holds its events and frames, on one clock."""

from epvlm_ros.bag import bag_info, BagReader
from epvlm_ros.events.packet_codecs import make_decoder
import numpy as np
import pytest
from slider_depth_bag import EVENT_TOPIC, IMAGE_TOPIC, load_events, make_slider_depth_bag, START_NS

pytestmark = pytest.mark.long


@pytest.fixture(scope='module')
def source(shared_data):
    return shared_data / 'slider_depth'


def test_every_event_is_in_it_at_its_time(source, tmp_path):
    path = make_slider_depth_bag(source, tmp_path / 'bag')
    events = load_events(source)
    assert events.x.size == 1_078_541
    decoder = make_decoder('evt3', 240, 180)
    with BagReader(path) as bag:
        decoded = [(packet, decoder.decode(packet).events) for packet in bag.event_packets()]
    for name in events._fields:
        np.testing.assert_array_equal(
            np.concatenate([getattr(part, name) for _, part in decoded]), getattr(events, name))
    for packet, part in decoded:  # the stamp is the start of the 4 ms, on the frames' clock
        since_ns = part.t_ns + START_NS - packet.stamp_ns
        assert np.all((since_ns >= 0) & (since_ns < 4_000_000))
    info = bag_info(path)
    image = info['image_topics'][IMAGE_TOPIC]
    assert (image['count'], image['width'], image['height']) == (87, 240, 180)
    assert image['rate_hz'] == pytest.approx(25.8, abs=0.05)
    summary = info['event_topics'][EVENT_TOPIC]
    assert (summary['seq_gaps'], summary['out_of_range_events'], summary['undecodable_words'],
            summary['events_before_time']) == (0, 0, 0, 0)


def test_a_part_of_it_as_mcap(source, tmp_path):
    path = make_slider_depth_bag(source, tmp_path / 'bag', 'mcap', end_ns=100_000_000)
    with BagReader(path) as bag:
        assert bag.storage == 'mcap'
        assert bag.topics[EVENT_TOPIC].num_messages == 25
        assert bag.topics[IMAGE_TOPIC].num_messages == 3  # at 0, 39 and 78 ms
        first = next(bag.images())
        assert first.stamp_ns == START_NS
        assert bag.end_ns == START_NS + 100_000_000
