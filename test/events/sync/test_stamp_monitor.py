"""Stamps that cannot be right are named, those of slow or replayed streams are not."""

import re

from epvlm_ros.events.sync.stamp_monitor import StampMonitor
import pytest

SECOND = 1_000_000_000
NOW_NS = 1_700_000_000 * SECOND


def watch(packet_delay_s, frame_delay_s, num_frames=100, rate=1.0):
    """Watch frames that leave 20 ms after they came, at 30 Hz; return the monitor."""
    monitor = StampMonitor()
    for index in range(num_frames):
        now_ns = NOW_NS + index * SECOND // 30
        sent_ns = NOW_NS + round(rate * (now_ns - NOW_NS))
        monitor.observe(
            sent_ns - round(packet_delay_s * SECOND),
            sent_ns - round((frame_delay_s + 0.02) * SECOND), 0.02, now_ns)
    return monitor


@pytest.mark.parametrize(('packet_delay_s', 'frame_delay_s', 'rate'), [
    (0.005, 0.03, 1.0),
    (-0.02, 0.03, 1.0),  # a simulated clock that ticks coarsely
    (0.005, 0.9, 1.0),  # a slow camera
    (0.25, 0.03, 1.0),
    (4e8, 4e8 + 0.03, 1.0),  # a recording of long ago, played without its clock
    (4e8, 4e8 + 0.03, 2.0),
    (4e8, 4e8 + 0.03, 0.1),
])
def test_stamps_that_may_be_right(packet_delay_s, frame_delay_s, rate):
    assert watch(packet_delay_s, frame_delay_s, rate=rate).warning == ''


@pytest.mark.parametrize(('packet_delay_s', 'frame_delay_s', 'text'), [
    (-0.5, 0.03, 'packets arrive -0.50 s after their stamps, frames +0.03 s.*offset to +0.53'),
    (0.5, 0.03, 'packets arrive +0.50 s after their stamps, frames +0.03 s.*offset to -0.47'),
    (0.01, -0.6, 'packets arrive +0.01 s after their stamps, frames -0.60 s.*offset to -0.61'),
])
def test_stamps_that_cannot_be_right(packet_delay_s, frame_delay_s, text):
    assert watch(packet_delay_s, frame_delay_s, num_frames=60).warning == ''
    assert re.search(text.replace('+', r'\+'), watch(packet_delay_s, frame_delay_s).warning)


def test_packets_that_are_late_for_a_second_after_a_loop_are_no_mistake():
    monitor = watch(0.005, 0.03, num_frames=0)
    for index in range(100):
        now_ns = NOW_NS + index * SECOND // 30
        # At first they are still those of the end of the recording, 3 s later by their stamps.
        ahead_ns = 2 * SECOND + index if index < 30 else -5_000_000
        monitor.observe(now_ns + ahead_ns, now_ns - SECOND // 20, 0.02, now_ns)
        assert monitor.warning == ''


def test_a_stream_that_has_stopped_says_nothing():
    monitor = StampMonitor()
    for index in range(100):  # the packet gets older and older
        now_ns = NOW_NS + index * SECOND // 30
        monitor.observe(NOW_NS, now_ns - SECOND // 20, 0.02, now_ns)
    monitor.observe(None, NOW_NS, 0.02, NOW_NS)
    assert monitor.warning == ''
