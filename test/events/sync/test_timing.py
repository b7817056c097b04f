"""Where in time the windows of frames really lie: simulated clocks, real packets, end to end."""

import heapq

from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.sync.completeness import Missing
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
import numpy as np
import pytest
from simulated_sensor import (
    find_centre, HEIGHT, MS, Restart, SECOND, SimulatedSensor, START_NS, WIDTH)

EVT3_WRAP_NS = (1 << 24) * 1000
LIBCAER_WRAP_NS = (1 << 31) * 1000
WINDOW_NS = 40 * MS


def make_synchronizer(**values):
    return FrameSynchronizer(EventSyncConfig(**{
        'window_length': WINDOW_NS / SECOND, 'max_wait': 0.5, 'cell_size': 1,
        'bin_length': 0.0001, 'history_length': 1.0, **values}))


def play(synchronizer, packets, frames):
    """Let (arrival, message) of both come in the order of arrival; return guided frames."""
    guided = []
    arrivals = [(ns, 0, index, item) for index, (ns, item) in enumerate(packets)]
    arrivals += [(ns, 1, index, item) for index, (ns, item) in enumerate(frames)]
    heapq.heapify(arrivals)
    now_s = 0.0
    while arrivals:
        now_ns, is_frame, _, item = heapq.heappop(arrivals)
        now_s = now_ns / SECOND
        if is_frame:
            synchronizer.add_frame(item, now_s)
        else:
            synchronizer.add_packet(item, now_s)
        guided += synchronizer.poll(now_s)
    return guided + synchronizer.poll(now_s + 10.0)


def find_errors(guided, sensor, settling_s=2.0):
    """Return by how many ms windows are misplaced, of frames that are due to be right."""
    errors = []
    world_ns = np.array(sensor.world_ns)
    for item in guided:
        true_ns = item.frame.payload
        at_s = (true_ns - START_NS) / SECOND
        margin_s = WINDOW_NS / 2 / SECOND
        begun_s = max((time for time in sensor.begun_s if time <= at_s + margin_s), default=0.0)
        if at_s < begun_s + settling_s or any(
                restart.at_s - margin_s <= at_s <= restart.at_s + restart.gap_s
                for restart in sensor.restarts):
            continue
        assert item.missing == Missing.COMPLETE, (at_s, item.missing)
        errors.append((find_centre(item.activity.counts, world_ns, true_ns) - true_ns) / MS)
    return np.array(errors)


def make_frames(duration_s, period_s=1 / 24):
    """Return frames whose stamps are true, each with the time at which it arrives."""
    times_ns = (np.arange(0.1, duration_s - 0.3, period_s) * SECOND).astype(int)
    return [(int(ns) + 5 * MS, Frame(START_NS + int(ns), HEIGHT, WIDTH, START_NS + int(ns)))
            for ns in times_ns]


SCENARIOS = {
    'evt3, one wrap': {'start_ns': EVT3_WRAP_NS - 5 * SECOND},
    'evt3, 12 ms packets, late bursts, one wrap': {
        'start_ns': EVT3_WRAP_NS - 5 * SECOND, 'period_ms': 12, 'bursts': True},
    'evt3, late bursts': {'bursts': True},
    'evt3, sensor restarts from 0, at once': {'restarts': [Restart(6.0, set_ns=0)]},
    'evt3, driver restarts from 0 after 2 s': {
        'restarts': [Restart(6.0, gap_s=2.0, set_ns=0, seq=0)]},
    'evt3, driver restarts in mid-stream': {
        'restarts': [Restart(6.0, gap_s=0.7, move_ns=3_123_456_700, seq=0)]},
    'evt3, sensor time lags 0.3 s from now on': {
        'bursts': True, 'restarts': [Restart(6.0, gap_s=0.5, move_ns=-300 * MS)]},
    'evt3, sensor time leads 0.3 s from now on': {'restarts': [Restart(6.0, move_ns=300 * MS)]},
    'libcaer, time stamps wrap': {
        'encoding': 'libcaer', 'start_ns': LIBCAER_WRAP_NS - 5 * SECOND},
    'libcaer, time jumps by 2147 s': {
        'encoding': 'libcaer', 'period_ms': 12,
        'restarts': [Restart(6.0, move_ns=LIBCAER_WRAP_NS)]},
    'libcaer, time jumps back by 2147 s': {
        'encoding': 'libcaer', 'start_ns': 3000 * SECOND,
        'restarts': [Restart(6.0, move_ns=-LIBCAER_WRAP_NS)]},
}


@pytest.mark.long
@pytest.mark.parametrize('name, drift_ppm', [(name, 50.0) for name in SCENARIOS] + [
    ('evt3, one wrap', 0.0), ('evt3, late bursts', 200.0),
    ('evt3, driver restarts in mid-stream', -200.0), ('libcaer, time jumps by 2147 s', -50.0)])
def test_windows_are_placed_within_half_a_millisecond(name, drift_ppm):
    sensor = SimulatedSensor(drift_ppm=drift_ppm, **SCENARIOS[name])
    duration_s = 12.0
    guided = play(make_synchronizer(), list(sensor.packets(duration_s)), make_frames(duration_s))
    errors = np.abs(find_errors(guided, sensor))
    print(f'\n{name}, {drift_ppm:+g} ppm: window placement error p95 '
          f'{np.percentile(errors, 95):.3f} ms, max {errors.max():.3f} ms, {errors.size} frames')
    assert errors.size > 80
    assert np.percentile(errors, 95) <= 0.5


@pytest.mark.long
@pytest.mark.parametrize('delay_ms, exposure_ms', [(0.0, 0), (3.0, 10), (20.0, 0), (31.0, 0)])
def test_frames_are_placed_at_their_trigger_edges(delay_ms, exposure_ms):
    """30 Hz; 5% of the edges and 5% of the frames get lost; stamps are late by 0 to 8 ms more."""
    duration_s = 12.0
    random = np.random.default_rng(1)
    edges_ns = np.arange(0.05, duration_s - 0.3, 1 / 30) * SECOND
    has_edge, has_frame = random.random((2, edges_ns.size)) > 0.05
    late_ns = (delay_ms + random.uniform(0, 8, edges_ns.size)) * MS
    sensor = SimulatedSensor(drift_ppm=50.0, edges_ns=edges_ns[has_edge],
                             start_ns=EVT3_WRAP_NS - 5 * SECOND,
                             restarts=[Restart(6.0, gap_s=0.2, set_ns=0, seq=0)])
    frames = [(ns + late + 5 * MS,
               Frame(START_NS + round(ns + late), HEIGHT, WIDTH,
                     START_NS + round(ns + exposure_ms / 2 * MS)))
              for ns, late in zip(edges_ns[has_frame], late_ns[has_frame])]
    guided = play(make_synchronizer(sync_mode='hardware_trigger', trigger_input=1,
                                    exposure_time=exposure_ms / 1000),
                  list(sensor.packets(duration_s)), frames)
    assert [item.frame for item in guided] == [frame for _, frame in frames]
    lost_ns = {START_NS + round(ns + exposure_ms / 2 * MS) for ns in edges_ns[~has_edge]}
    matched = []
    for item in guided:
        is_placed = item.sync_error_ns is not None
        assert is_placed == (Missing.NOT_TRIGGERED not in item.missing)
        at_s = (item.frame.payload - START_NS) / SECOND
        if 2.0 < at_s < 5.9 or at_s > 8.3:
            assert is_placed == (item.frame.payload not in lost_ns), at_s
        if is_placed:
            matched.append(item)
    errors = np.abs(find_errors(matched, sensor))
    print(f'\ntrigger, stamps {delay_ms:g} to {delay_ms + 8:g} ms late: placement error p95 '
          f'{np.percentile(errors, 95):.4f} ms, max {errors.max():.4f} ms, {errors.size} frames')
    assert errors.size > 150
    assert np.percentile(errors, 95) <= 0.05
    assert errors.max() < 1.0  # no frame at the edge of another
