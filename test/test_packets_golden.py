"""Real recordings give what the reference C++ decoders made of them, exactly."""

import json
import subprocess
import sys

from epvlm_ros.bag import bag_info, BagReader
from epvlm_ros.core.activity import ActivityBins
from epvlm_ros.core.packets import make_decoder
from epvlm_ros.core.registration import make_cell_lookup
import numpy as np
import pytest

RECORDINGS = ('evt3_640x480', 'evt3_trigger_1280x720', 'mono_640x480')
TOPIC = '/event_camera/events'


@pytest.mark.parametrize('name', RECORDINGS)
def test_summary_equals_the_golden_one(shared_data, name):
    golden = json.loads((shared_data / 'golden.json').read_text())[name]
    summary = bag_info(shared_data / name)['event_topics'][TOPIC]
    assert {key: summary[key] for key in golden} == golden
    assert summary['triggers'] == golden.get('trigger_edge0', 0) + golden.get('trigger_edge1', 0)
    assert summary['undecodable_words'] == summary['out_of_range_events'] == 0


@pytest.mark.parametrize('name', RECORDINGS)
def test_accumulate_counts_every_event_of_a_recording(shared_data, name):
    with BagReader(shared_data / name) as bag:
        packets = list(bag.event_packets())
    first = packets[0]
    size = first.height, first.width
    decoding = make_decoder(first.encoding, first.width, first.height)
    accumulating = make_decoder(first.encoding, first.width, first.height)
    bins = ActivityBins(*size, 28, 1_000_000, 3_000_000_000, make_cell_lookup(size, size, 28))
    expected = np.zeros(bins.shape)
    for packet in packets:
        events, _ = decoding.decode(packet)
        np.add.at(expected, (events.y // 28, events.x // 28), 1)
        assert accumulating.accumulate(packet, bins).num_events == events.x.size
    window = bins.window(bins.oldest_ns, bins.latest_ns + 1_000_000)
    # The window cuts nothing but the first and last bin, at the ends of what was recorded.
    whole = bins.window(0, bins.latest_ns // 1_000_000 * 1_000_000 + 1_000_000)
    np.testing.assert_array_equal(whole.counts, expected)
    assert window.num_events <= whole.num_events == expected.sum()
    assert bins.num_too_old == bins.num_saturated == bins.num_out_of_image == 0


def test_numba_works_without_a_folder_for_its_cache():
    script = (
        'import numba.core.caching as caching\n'
        'for locator in caching.CacheImpl._locator_classes:\n'
        '    locator.from_function = classmethod(lambda *_: None)\n'
        'from epvlm_ros.core.packets import EventPacket, make_decoder\n'
        'decoder = make_decoder("mono", 9, 9)\n'
        'packet = EventPacket(0, 9, 9, 0, 5, "mono", bytes([3, 0, 0, 0, 2, 0, 1, 0]))\n'
        'print(decoder.decode(packet).events.t_ns[0])\n')
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == '8\n'
    assert 'Set NUMBA_CACHE_DIR' in done.stderr
    assert done.stderr.count('NUMBA_CACHE_DIR') == 1
