"""Whatever the bytes are, decoders neither fail nor give events outside the sensor."""

import os
import subprocess
import sys

from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet import EventPacket
from epvlm_ros.events.packet_codecs import ENCODINGS, make_decoder
from epvlm_ros.events.registration import HomographyRegistration, make_cell_lookup
import fuzz_packets
from fuzz_packets import Fuzzer
from hypothesis import given, settings, strategies
import numpy as np
import pytest

pytestmark = pytest.mark.long

PAYLOADS = strategies.lists(strategies.binary(max_size=300), min_size=1, max_size=4)
SIZES = strategies.tuples(strategies.integers(0, 20), strategies.integers(0, 20))


@pytest.mark.parametrize('encoding', ENCODINGS)
@settings(max_examples=150, deadline=None)
@given(payloads=PAYLOADS, size=SIZES, time_base=strategies.integers(0, 2 ** 64 - 1),
       is_bigendian=strategies.booleans())
def test_any_bytes(encoding, payloads, size, time_base, is_bigendian):
    height, width = size
    decoder = make_decoder(encoding, width, height)
    accumulating = make_decoder(encoding, width, height)
    lookup = make_cell_lookup(HomographyRegistration(), size, (9, 9), 2)
    bins = ActivityBins(9, 9, 2, 10 ** 6, 10 ** 7, lookup)
    for payload in payloads:
        packet = EventPacket(0, width, height, 0, time_base, encoding, payload, is_bigendian)
        events, _ = decoder.decode(packet)
        assert np.all(events.x < width) and np.all(events.y < height)
        assert np.all(events.polarity <= 1)
        times = accumulating.accumulate(packet, bins)
        assert times.num_events == events.x.size
    assert accumulating.counters == decoder.counters
    if bins.latest_ns is not None:
        window = bins.window(bins.oldest_ns, bins.latest_ns + 1)
        assert np.all(np.isfinite(window.counts)) and np.all(window.counts >= 0)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_large_random_payloads(encoding):
    random = np.random.default_rng(5)
    decoder = make_decoder(encoding, 2048, 2048)
    for num_bytes in (1 << 20, 65_537, 3):
        payload = random.integers(0, 256, num_bytes).astype(np.uint8)
        events, _ = decoder.decode(EventPacket(0, 2048, 2048, 0, 0, encoding, payload))
        # No word of 16 bits holds more than 12 events, none of 64 more than 32.
        assert events.x.size <= num_bytes // 2 * 12
        assert np.all(events.x < 2048) and np.all(events.y < 2048)
    assert decoder.counters.num_packets == 3
    # Of 65,537 and 3 bytes.
    assert decoder.counters.num_truncated_bytes == (
        1 + 1 if encoding in ('evt3', 'libcaer_cmp') else 1 + 3)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_garbage_writes_nowhere_and_the_next_good_packet_is_right(encoding):
    fuzzer = Fuzzer(encoding, seed=7)
    fuzzer.run(4000)
    assert fuzzer.seen['payloads'] == 4000
    assert fuzzer.seen['refused'] > 300
    assert encoding == 'trigger' or fuzzer.seen['events'] > 1000


@pytest.mark.slow
@pytest.mark.process
def test_garbage_stays_inside_all_arrays(tmp_path):
    """The same with loops that check every index, which takes a process of its own."""
    environment = {
        **os.environ, 'NUMBA_BOUNDSCHECK': '1', 'NUMBA_CACHE_DIR': str(tmp_path)}
    done = subprocess.run(
        [sys.executable, fuzz_packets.__file__, '--payloads', '1000'],
        env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'payloads': 1000") == len(ENCODINGS)
