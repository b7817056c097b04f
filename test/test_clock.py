"""Sensor time to ROS time: the least delay counts, drift is followed, jumps are seen."""

from epvlm_ros.core.clock import SensorClock
import pytest

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


def test_the_packet_with_the_least_delay_sets_the_offset():
    clock = SensorClock()
    for sensor_ms, delay_ms in [(0, 5), (4, 1), (8, 7), (12, 3)]:
        arrival = 1000 * SECOND + (sensor_ms + delay_ms) * MILLISECOND
        assert not clock.observe(sensor_ms * MILLISECOND, arrival)
    assert clock.offset_ns == 1000 * SECOND + 1 * MILLISECOND
    assert clock.to_sensor(1000 * SECOND + 9 * MILLISECOND) == 8 * MILLISECOND


def test_an_old_offset_is_forgotten_so_that_drift_is_followed():
    clock = SensorClock(memory_ns=2 * SECOND)
    for step in range(1000):  # 4 ms steps; the sensor's clock is 100 ppm slow
        true_ns = step * 4 * MILLISECOND
        sensor_ns = true_ns - true_ns // 10_000
        clock.observe(sensor_ns, true_ns)
    # After 4 s the true offset is 400 us; a memory of 2 s is at most 200 us (and a step) behind.
    assert 199_000 <= clock.offset_ns <= 400_000


def test_a_jump_starts_afresh():
    clock = SensorClock()
    clock.observe(10 * SECOND, 20 * SECOND)
    assert clock.observe(0, 21 * SECOND)
    assert clock.offset_ns == 21 * SECOND
    assert not clock.observe(4 * MILLISECOND, 21 * SECOND + 4 * MILLISECOND)


def test_a_late_packet_is_no_jump():
    clock = SensorClock()
    clock.observe(0, 0)
    assert not clock.observe(100 * MILLISECOND, 900 * MILLISECOND)
    assert clock.offset_ns == 0


def test_nothing_observed_is_an_error():
    with pytest.raises(ValueError, match='no packet was observed'):
        SensorClock().to_sensor(0)
