"""Sensor time to ROS time: the least delay counts, drift is followed, jumps are seen."""

import pickle

from epvlm_ros.events.sync.clock import SensorClock
import numpy as np
import pytest

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
EPOCH = 1_700_000_000 * SECOND  # ROS time of sensor time 0


def late_by(*bounds_ms, seed=0):
    """Return a function that draws delays in ns."""
    random = np.random.default_rng(seed)
    return lambda at_s: random.uniform(*bounds_ms) * MILLISECOND


def late_in_bursts(seed=0):
    """Return delays of 0 to 8 ms, and from 3 s on for 0.9 s of every 2.3 s 50 to 200 ms."""
    random = np.random.default_rng(seed)
    return lambda at_s: MILLISECOND * (
        random.uniform(50, 200) if at_s >= 3.0 and (at_s - 3.0) % 2.3 < 0.9
        else random.uniform(0, 8))


def watch(clock, begin_s, end_s, delay, drift_ppm=0.0, offset_ns=0, period_ms=4):
    """
    Let packets come and return by how many ms a time of now is misplaced, after each of them.

    ROS time is EPOCH and sensor time is 0 at 0 s; ``offset_ns`` is added to sensor time.
    """
    errors = []
    for ros_ns in range(round(begin_s * SECOND), round(end_s * SECOND), period_ms * MILLISECOND):
        sensor_ns = round(ros_ns / (1 + drift_ppm * 1e-6)) + offset_ns
        clock.observe(sensor_ns, EPOCH + ros_ns + round(delay(ros_ns / SECOND)))
        errors.append((clock.to_sensor(EPOCH + ros_ns) - sensor_ns) / MILLISECOND)
    return np.array(errors)


def test_the_packet_with_the_least_delay_sets_the_offset():
    clock = SensorClock()
    for sensor_ms, delay_ms in [(0, 5), (4, 1), (8, 7), (12, 3)]:
        arrival = 1000 * SECOND + (sensor_ms + delay_ms) * MILLISECOND
        assert not clock.observe(sensor_ms * MILLISECOND, arrival)
    assert clock.offset_ns == 1000 * SECOND + 1 * MILLISECOND
    assert clock.to_sensor(1000 * SECOND + 9 * MILLISECOND) == 8 * MILLISECOND
    assert clock.to_ros(8 * MILLISECOND) == 1000 * SECOND + 9 * MILLISECOND
    # Found when they came: 5 - 5, 1 - 1, 7 - 1 and 3 - 1 ms; the first is no finding.
    assert clock.residual_ns == 2 * MILLISECOND
    assert clock.drift_ppm is None


def test_drift_is_found_exactly_where_nothing_is_late():
    clock = SensorClock()
    watch(clock, 0, 3, late_by(2, 2), drift_ppm=80.0)
    assert clock.drift_ppm == pytest.approx(80.0, abs=0.1)
    # ROS time gains 240 us in 3 s, and 2 ms are taken for the offset.
    assert clock.offset_ns == pytest.approx(EPOCH + 2_240 * MICROSECOND, abs=MICROSECOND)
    assert clock.to_sensor(EPOCH + 3 * SECOND + 2 * MILLISECOND) == pytest.approx(
        3 * SECOND - 240 * MICROSECOND, abs=MICROSECOND)
    assert clock.residual_ns < MICROSECOND


@pytest.mark.parametrize('drift_ppm', [-200.0, -50.0, 0.0, 50.0, 200.0])
@pytest.mark.parametrize('period_ms', [4, 12])
@pytest.mark.parametrize('bursts', [False, True])
def test_time_is_placed_within_half_a_millisecond(period_ms, bursts, drift_ppm):
    clock = SensorClock()
    delay = late_in_bursts() if bursts else late_by(0, 8)
    errors = np.abs(watch(clock, 0, 40, delay, drift_ppm, period_ms=period_ms))
    from_2_s = errors[2000 // period_ms:]
    soon = np.percentile(from_2_s[:2000 // period_ms], 95)
    print(f'\n{drift_ppm:+4g} ppm, {period_ms:2d} ms packets{", bursts" * bursts}: p95 '
          f'{np.percentile(from_2_s, 95):.3f} ms, from 2 to 4 s {soon:.3f} ms, '
          f'max {from_2_s.max():.3f} ms, found {clock.drift_ppm:+.1f} ppm')
    assert np.percentile(from_2_s, 95) <= 0.5 and soon <= 0.5
    assert clock.drift_ppm == pytest.approx(drift_ppm, abs=25)


@pytest.mark.parametrize('step_ppm', [100.0, -100.0])
def test_an_old_rate_is_forgotten(step_ppm):
    clock = SensorClock()
    watch(clock, 0, 20, late_by(0, 8))
    # The sensor changes its rate at 20 s: sensor time is continuous there.
    errors = watch(clock, 20, 40, late_by(0, 8), step_ppm, offset_ns=round(
        20 * SECOND * (1 - 1 / (1 + step_ppm * 1e-6))))
    # Before it can be known, half the memory passes: 100 ppm of 5 s.
    assert np.abs(errors).max() <= 0.6
    assert np.abs(errors[-2000:]).max() <= 0.2
    assert clock.drift_ppm == pytest.approx(step_ppm, abs=10)


@pytest.mark.parametrize('moved_ms', [-700, -300, -120, -50, 300, 700])
@pytest.mark.parametrize('bursts', [False, True])
def test_a_clock_that_was_set_is_followed_within_two_seconds(moved_ms, bursts):
    clock = SensorClock()
    delay = late_in_bursts() if bursts else late_by(0, 8)
    watch(clock, 0, 20, delay, 50.0)
    # After a second of silence, so that sensor time never goes back.
    watch(clock, 21, 23, delay, 50.0, offset_ns=moved_ms * MILLISECOND)
    assert clock.drift_ppm == pytest.approx(50.0, abs=25)
    errors = watch(clock, 23, 30, delay, 50.0, offset_ns=moved_ms * MILLISECOND)
    assert np.percentile(np.abs(errors), 95) <= 0.5
    assert clock.drift_ppm == pytest.approx(50.0, abs=25)


def test_late_packets_before_a_step_do_not_hold_the_offset_down():
    clock = SensorClock()
    watch(clock, 0, 19.3, late_by(0, 8))
    watch(clock, 19.3, 20, late_by(50, 60))
    watch(clock, 20.2, 21.5, late_by(0, 8), offset_ns=-120 * MILLISECOND)
    errors = watch(clock, 21.5, 30, late_by(0, 8), offset_ns=-120 * MILLISECOND)
    assert np.abs(errors).max() <= 0.5


def test_a_large_step_is_seen_through_late_packets():
    clock = SensorClock()
    watch(clock, 0, 20, late_by(0, 8))
    watch(clock, 21, 22, late_by(50, 200), offset_ns=-700 * MILLISECOND, period_ms=12)
    watch(clock, 22, 22.6, late_by(0, 8), offset_ns=-700 * MILLISECOND, period_ms=12)
    errors = watch(clock, 22.6, 26, late_by(0, 8), offset_ns=-700 * MILLISECOND)
    assert np.abs(errors).max() <= 1.0  # the first prompt packets are being found


def test_late_packets_now_and_then_are_no_step():
    clock = SensorClock()
    watch(clock, 0, 5, late_by(0, 8))
    for begin_s in range(5, 10):
        assert np.abs(watch(clock, begin_s, begin_s + 0.5, late_by(60, 64))).max() <= 0.5
        assert np.abs(watch(clock, begin_s + 0.5, begin_s + 1, late_by(0, 8))).max() <= 0.5


def test_a_start_amid_late_packets_is_put_right_by_the_first_prompt_one():
    clock = SensorClock()
    watch(clock, 0, 1, late_by(50, 200))
    assert np.abs(watch(clock, 1, 3, late_by(0, 8))[25:]).max() <= 0.6
    assert np.abs(watch(clock, 3, 20, late_by(0, 8))).max() <= 0.3


@pytest.mark.parametrize('begin_s, late_ms, for_s', [
    (10.0, (50, 200), 1.0), (10.0, (60, 64), 1.0), (10.0, (50, 200), 3.0), (0.5, (50, 200), 1.0),
    (1.0, (50, 200), 3.0)])
def test_late_packets_move_nothing(begin_s, late_ms, for_s):
    clock = SensorClock()
    watch(clock, 0, begin_s, late_by(0, 8))
    errors = watch(clock, begin_s, begin_s + for_s, late_by(*late_ms))
    assert np.abs(errors).max() <= 0.5
    assert clock.residual_ns >= 50 * MILLISECOND


def test_a_pause_is_bridged_by_the_rate():
    clock = SensorClock()
    watch(clock, 0, 10, late_by(0, 8), 50.0)
    # A minute later, at 50 ppm 3 ms away; the first packets are late.
    assert np.abs(watch(clock, 70, 70.1, late_by(50, 200), 50.0)).max() <= 0.6
    assert np.abs(watch(clock, 70.1, 80, late_by(0, 8), 50.0)[25:]).max() <= 0.6


def test_stamps_of_a_coarse_simulated_clock_do_not_break_it():
    clock = SensorClock()
    for sensor_ns in range(0, 30 * SECOND, 4 * MILLISECOND):
        tick = 25 * MILLISECOND
        jumped = clock.observe(sensor_ns, EPOCH + sensor_ns // tick * tick)
        assert not jumped
        if sensor_ns > SECOND:
            # Stamps are cut down by up to 25 ms: by 24 at most, as packets come every 4.
            assert clock.offset_ns == pytest.approx(EPOCH - 24 * MILLISECOND, abs=MILLISECOND)


@pytest.mark.parametrize('sensor_ns, ros_ns', [
    (0, 21 * SECOND),  # the sensor restarts
    (10 * SECOND + 2_147_483_648 * MICROSECOND, 20 * SECOND),
    (10 * SECOND + 4 * MILLISECOND, 50 * SECOND),  # ROS time is set ahead
    (9 * SECOND, 20 * SECOND),
    (9_800 * MILLISECOND, 20 * SECOND + 4 * MILLISECOND),  # back by little, but no disorder
])
def test_a_jump_starts_afresh(sensor_ns, ros_ns):
    clock = SensorClock()
    clock.observe(10 * SECOND, 20 * SECOND)
    assert clock.observe(sensor_ns, ros_ns)
    assert clock.offset_ns == ros_ns - sensor_ns
    assert not clock.observe(sensor_ns + 4 * MILLISECOND, ros_ns + 4 * MILLISECOND)


def test_a_jump_keeps_the_drift_and_a_reset_does_not():
    clock = SensorClock()
    watch(clock, 0, 10, late_by(0, 0), 100.0)
    assert clock.observe(0, EPOCH + 20 * SECOND)
    assert not clock.observe(SECOND // 2, EPOCH + 20 * SECOND + SECOND // 2 + 50 * MICROSECOND)
    assert clock.drift_ppm == pytest.approx(100.0, abs=1)
    assert clock.to_ros(SECOND) == pytest.approx(
        EPOCH + 21 * SECOND + 100 * MICROSECOND, abs=MICROSECOND)
    clock.reset()
    assert (clock.offset_ns, clock.drift_ppm, clock.residual_ns) == (None, None, None)


def test_a_late_packet_is_no_jump():
    clock = SensorClock()
    clock.observe(0, 0)
    assert not clock.observe(100 * MILLISECOND, 900 * MILLISECOND)
    assert clock.offset_ns == 0


def test_small_steps_back_of_sensor_time_are_no_jumps():
    clock = SensorClock()
    watch(clock, 0, 5, late_by(0, 8))
    for back_ms in range(0, 50, 7):  # evt3: up to 10 steps of 4.096 ms
        ros_ns = 5 * SECOND + back_ms * 4 * MILLISECOND
        assert not clock.observe(ros_ns - back_ms * MILLISECOND, EPOCH + ros_ns)
    assert np.abs(watch(clock, 5.2, 8, late_by(0, 8))).max() <= 0.2


def test_memory_is_bounded():
    clock = SensorClock(memory_ns=SECOND)
    # Every packet is later than the one before: none of them outdoes another.
    for step in range(20_000):
        clock.observe(step * 10 * MILLISECOND, EPOCH + step * 10 * MILLISECOND + step * 100)
    assert len(pickle.dumps(clock)) < 4000


def test_nothing_observed_is_an_error():
    with pytest.raises(ValueError, match='no packet was observed'):
        SensorClock().to_sensor(0)
    with pytest.raises(ValueError, match='no packet was observed'):
        SensorClock().to_ros(0)
