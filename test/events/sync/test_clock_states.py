"""Any sequence of packets, pauses and restarts, in a world whose clocks are known."""

from epvlm_ros.events.sync.clock import SensorClock
from hypothesis import settings, strategies
from hypothesis.stateful import initialize, invariant, precondition, rule, RuleBasedStateMachine

MS = 1_000_000
SECOND = 1_000_000_000
MAX_DELAY_NS = 5 * MS
DELAYS = strategies.lists(strategies.integers(0, MAX_DELAY_NS), min_size=1, max_size=60)


class ClockStates(RuleBasedStateMachine):
    """Knows the offset of both clocks, and when one of them was set."""

    @initialize(epoch=strategies.integers(0, 2 * 10 ** 9))
    def begin(self, epoch):
        self.clock = SensorClock()
        self.offset_ns = epoch * SECOND
        self.sensor_ns = 10 * SECOND
        self.latest_ns = None
        self.was_set = False
        self.packet(0)

    def packet(self, delay_ns, back_ns=0):
        sensor_ns = self.sensor_ns - back_ns
        difference_ns = self.offset_ns + delay_ns
        starts_anew = self.clock.observe(sensor_ns, sensor_ns + difference_ns)
        assert starts_anew == self.was_set
        if self.was_set or self.latest_ns is None:
            assert self.clock.offset_ns == difference_ns
            self.latest_ns = sensor_ns
        self.latest_ns = max(self.latest_ns, sensor_ns)
        self.was_set = False
        # No packet arrived before it was sent.
        assert self.clock.to_ros(sensor_ns) <= sensor_ns + difference_ns

    @rule(delays=DELAYS, period_ms=strategies.integers(1, 50))
    def packets(self, delays, period_ms):
        for delay_ns in delays:
            self.sensor_ns += period_ms * MS
            self.packet(delay_ns)

    @rule(back_ns=strategies.integers(0, SECOND // 10), delay_ns=strategies.integers(0, 5 * MS))
    def late_packet(self, back_ns, delay_ns):
        if not self.was_set:
            self.packet(delay_ns, back_ns)

    @rule(burst_ms=strategies.integers(50, 900), num_packets=strategies.integers(1, 10))
    def burst(self, burst_ms, num_packets):
        if not self.was_set:
            for _ in range(num_packets):  # less than a second of them: no clock was set
                self.sensor_ns += 10 * MS
                self.packet(burst_ms * MS)
            self.sensor_ns += 10 * MS
            self.packet(0)

    @precondition(lambda self: not self.was_set)
    @rule(pause_ms=strategies.integers(0, 5000))
    def pause(self, pause_ms):
        self.sensor_ns += pause_ms * MS

    @rule(back_ms=strategies.integers(160, 100_000))
    def sensor_restarts(self, back_ms):
        restart_ns = self.latest_ns - back_ms * MS
        self.offset_ns += self.sensor_ns - restart_ns
        self.sensor_ns = restart_ns
        self.was_set = True

    @precondition(lambda self: not self.was_set)  # two of them could make up for each other
    @rule(seconds=strategies.integers(2, 10 ** 6), is_ahead=strategies.booleans())
    def computer_clock_is_set(self, seconds, is_ahead):
        self.offset_ns += seconds * SECOND if is_ahead else -seconds * SECOND
        self.was_set = True

    @invariant()
    def offset_is_between_the_least_delay_and_a_tilted_line(self):
        if self.was_set:
            return
        error_ns = self.clock.offset_ns - self.offset_ns
        assert -2 * MAX_DELAY_NS <= error_ns <= MAX_DELAY_NS
        for ros_ns in (self.sensor_ns + self.offset_ns, self.offset_ns):
            assert abs(self.clock.to_ros(self.clock.to_sensor(ros_ns)) - ros_ns) <= 1
        assert abs(self.clock.drift_ppm or 0.0) <= 500.0


TestClockStates = ClockStates.TestCase
TestClockStates.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
