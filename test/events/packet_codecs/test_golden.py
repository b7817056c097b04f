"""Real recordings give what the reference C++ decoders made of them, exactly."""

import functools
import json
import subprocess
import sys

from epvlm_ros.bag import bag_info, BagReader
from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3, make_decoder
from epvlm_ros.events.registration import HomographyRegistration, make_cell_lookup
import numpy as np
import pytest

pytestmark = pytest.mark.long

RECORDINGS = ('evt3_640x480', 'evt3_trigger_1280x720', 'mono_640x480')
TOPIC = '/event_camera/events'
MS = 1_000_000


@pytest.mark.parametrize('name', RECORDINGS)
def test_summary_equals_the_golden_one(shared_data, name):
    golden = json.loads((shared_data / 'golden.json').read_text())[name]
    summary = bag_info(shared_data / name)['event_topics'][TOPIC]
    assert {key: summary[key] for key in golden} == golden
    assert summary['triggers'] == golden.get('trigger_edge0', 0) + golden.get('trigger_edge1', 0)
    assert summary['undecodable_words'] == summary['out_of_range_events'] == 0


@functools.cache
def recorded_packets(shared_data, name):
    """Return the packets of a recording; those of slider_depth encoded as evt3, 4 ms each."""
    if name != 'slider_depth':
        with BagReader(shared_data / name) as bag:
            return list(bag.event_packets())
    recording = dict(np.load(shared_data / name / 'events.npz'))
    t_ns = recording['t'].astype(np.int64)
    bounds = np.searchsorted(t_ns, np.arange(0, t_ns[-1] + 8 * MS, 4 * MS))
    packets = []
    for seq, (first, last) in enumerate(zip(bounds, bounds[1:])):
        part = slice(first, last)
        payload = encode_evt3(Events(
            recording['x'][part], recording['y'][part], recording['p'][part], t_ns[part]),
            start_ns=seq * 4 * MS)
        packets.append(EventPacket(seq * 4 * MS, 240, 180, seq, 0, 'evt3', payload))
    return packets


LOOKUPS = {  # cell size, image size relative to the sensor's, homography
    'large cells': (28, 1, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    'small cells': (4, 1, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    'scaled': (5, 0.7, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    'homography': (4, 1, [0.97, 0.05, 10, -0.04, 0.98, 20, 1e-5, 2e-5, 1])}


@pytest.mark.parametrize('lookup_name', LOOKUPS)
@pytest.mark.parametrize('name', [*RECORDINGS, 'slider_depth'])
def test_accumulate_counts_every_event_of_a_recording(shared_data, name, lookup_name):
    packets = recorded_packets(shared_data, name)
    first = packets[0]
    size = first.height, first.width
    cell_size, scale, homography = LOOKUPS[lookup_name]
    image_size = round(size[0] * scale), round(size[1] * scale)
    lookup = make_cell_lookup(
        HomographyRegistration(homography, scale_to_image=True), size, image_size, cell_size)
    decoding = make_decoder(first.encoding, first.width, first.height)
    accumulating = make_decoder(first.encoding, first.width, first.height)
    bins = ActivityBins(*image_size, cell_size, 10 * MS, 4000 * MS, lookup)
    # Cells behind a first column for what lies outside the image, in bins from the first event.
    shape = (400, bins.shape[0] * bins.shape[1] + 1)
    expected, first_bin = np.zeros(shape, np.int64), None
    for packet in packets:
        events, _ = decoding.decode(packet)
        if events.t_ns.size:
            first_bin = events.t_ns[0] // (10 * MS) if first_bin is None else first_bin
            at = (events.t_ns // (10 * MS) - first_bin, lookup[events.y, events.x] + 1)
            np.add.at(expected, at, 1)
        assert accumulating.accumulate(packet, bins).num_events == events.x.size
    for index, grid in enumerate(expected):
        start_ns = (first_bin + index) * 10 * MS
        window = bins.window(start_ns, start_ns + 10 * MS)
        np.testing.assert_array_equal(window.counts.reshape(-1), grid[1:])
    assert bins.num_out_of_image == expected[:, 0].sum()
    assert bins.num_too_old == bins.num_saturated == 0
    assert accumulating.counters == decoding.counters
    golden = json.loads((shared_data / 'golden.json').read_text())
    num_events = golden[name]['on'] + golden[name]['off'] if name in golden else 1_078_541
    assert expected.sum() == num_events


@pytest.mark.process
def test_numba_works_without_a_folder_for_its_cache():
    script = (
        'import numba.core.caching as caching\n'
        'for locator in caching.CacheImpl._locator_classes:\n'
        '    locator.from_function = classmethod(lambda *_: None)\n'
        'from epvlm_ros.events.packet import EventPacket\n'
        'from epvlm_ros.events.packet_codecs import make_decoder\n'
        'decoder = make_decoder("mono", 9, 9)\n'
        'packet = EventPacket(0, 9, 9, 0, 5, "mono", bytes([3, 0, 0, 0, 2, 0, 1, 0]))\n'
        'print(decoder.decode(packet).events.t_ns[0])\n')
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == '8\n'
    assert 'Set NUMBA_CACHE_DIR' in done.stderr
    assert done.stderr.count('NUMBA_CACHE_DIR') == 1
