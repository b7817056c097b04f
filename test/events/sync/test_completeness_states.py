"""Any sequence of packets: what windows lack, against a model with one label for each ns."""

from epvlm_ros.events.sync.completeness import Missing, StreamCompleteness
from hypothesis import settings, strategies
from hypothesis.stateful import precondition, rule, RuleBasedStateMachine
import pytest

TIMES = strategies.integers(0, 60)


class CompletenessStates(RuleBasedStateMachine):
    """Labels every ns of the stream with why its events are missing, if they are."""

    def __init__(self):
        super().__init__()
        self.completeness = StreamCompleteness()
        self.begin = self.latest = None
        self.labels = {}

    def label(self, end, why):
        for time in range(self.latest, end):
            self.labels[time] = why
        self.latest = max(self.latest, end)

    @rule(ahead=strategies.integers(-10, 15), length=strategies.integers(0, 10),
          after_loss=strategies.booleans(), uncounted=strategies.sampled_from(
              [Missing.COMPLETE, Missing.EVENTS_SHED, Missing.EVENTS_DISCARDED]))
    def packet(self, ahead, length, after_loss, uncounted):
        first = max((self.latest or 0) + ahead, 0)
        last = first + length
        self.completeness.extend(first, last, after_loss, uncounted)
        if self.latest is None:
            self.begin = self.latest = first
        elif after_loss:
            self.label(first, Missing.PACKETS_LOST)
        if uncounted:
            self.label(last, uncounted)
        self.latest = max(self.latest, last)

    @precondition(lambda self: self.latest is not None)
    @rule(start=strategies.integers(-40, 10), length=strategies.integers(1, 60),
          oldest=strategies.integers(-60, 5))
    def judge(self, start, length, oldest):
        start, oldest = self.latest + start, self.latest + oldest
        missing, num_seen = Missing.COMPLETE, 0
        for time in range(start, start + length):
            if time < max(self.begin, oldest):
                missing |= Missing.WINDOW_START_MISSING
            if time >= self.latest:
                missing |= Missing.WINDOW_END_MISSING
            if max(self.begin, oldest) <= time < self.latest:
                why = self.labels.get(time, Missing.COMPLETE)
                missing |= why
                num_seen += why == Missing.COMPLETE
        assert self.completeness.judge(start, start + length, oldest) == (
            missing, pytest.approx(num_seen / length))
        assert self.completeness.latest_ns == self.latest


TestCompletenessStates = CompletenessStates.TestCase
TestCompletenessStates.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None)
