"""Edges and frames that get lost in any order: a frame gets its own edge or none."""

from epvlm_ros.events.packet import Triggers
from epvlm_ros.events.sync.triggers import TriggerMatcher
from hypothesis import settings, strategies
from hypothesis.stateful import initialize, precondition, rule, RuleBasedStateMachine
import numpy as np
import pytest

pytestmark = pytest.mark.long

MS = 1_000_000
JITTER_NS = strategies.integers(0, MS)  # what the estimate of a clock may be off by
NUM_BETWEEN_LOSSES = 4  # lost edges must not look like another period


class TriggerStates(RuleBasedStateMachine):
    """Knows the camera: its period, its delay, and which edge is whose."""

    @initialize(period_ms=strategies.integers(10, 100), share=strategies.floats(0.1, 0.8))
    def begin(self, period_ms, share):
        self.period_ns = period_ms * MS
        self.delay_ns = round(share * self.period_ns)
        self.matcher = TriggerMatcher(0, 'rising')
        self.now_ns = 10 ** 9
        self.num_since_loss = 0
        for number in range(12):
            self.expose(number % 3 * MS // 3)
        assert self.matcher.delay_ns is not None

    def edge(self, time_ns, number=0, edge=1):
        self.matcher.add(Triggers(
            np.array([time_ns]), np.array([edge], np.uint8), np.array([number], np.uint8)))

    def expose(self, jitter_ns):
        """Let an edge come, then its frame; return its edge, and the edge that was matched."""
        self.now_ns += self.period_ns
        self.num_since_loss += 1
        self.edge(self.now_ns)
        return self.now_ns, self.matcher.match(self.now_ns + self.delay_ns + jitter_ns)

    @rule(jitter_ns=JITTER_NS)
    def frame_with_edge(self, jitter_ns):
        stamp_ns = self.now_ns + self.period_ns + self.delay_ns + jitter_ns
        # Before the edge came nobody may think that it will not.
        assert not self.matcher.is_settled(stamp_ns, self.now_ns + self.period_ns - 1)
        edge_ns, match_ns = self.expose(jitter_ns)
        assert match_ns == edge_ns
        # jitter and the tolerance of 1 ms may both come on top of a short delay
        assert self.matcher.is_settled(stamp_ns, stamp_ns + 2 * MS)

    @precondition(lambda self: self.num_since_loss >= NUM_BETWEEN_LOSSES)
    @rule(jitter_ns=JITTER_NS)
    def frame_without_edge(self, jitter_ns):
        self.num_since_loss = 0
        self.now_ns += self.period_ns
        assert self.matcher.match(self.now_ns + self.delay_ns + jitter_ns) is None

    @rule(jitter_ns=JITTER_NS)
    def two_frames_with_one_edge(self, jitter_ns):
        edge_ns, match_ns = self.expose(jitter_ns)
        assert match_ns == edge_ns
        assert self.matcher.match(edge_ns + self.delay_ns + jitter_ns) is None

    @rule()
    def edge_without_frame(self):
        self.now_ns += self.period_ns
        self.num_since_loss += 1
        self.edge(self.now_ns)

    @rule(share=strategies.floats(0.0, 1.0), number=strategies.integers(1, 3))
    def foreign_edges(self, share, number):
        time_ns = self.now_ns + round(share * self.period_ns)
        self.edge(time_ns, number)
        self.edge(time_ns, edge=0)

    @rule(seconds=strategies.integers(1, 100))
    def sensor_time_starts_anew(self, seconds):
        self.matcher.reset()
        self.now_ns += seconds * 10 ** 9
        for _ in range(3):  # edges, before there is a period again
            self.edge_without_frame()


TestTriggerStates = TriggerStates.TestCase
TestTriggerStates.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
