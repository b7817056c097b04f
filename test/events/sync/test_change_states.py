"""Any packets and frames: scores against a list of events, doubts against what went wrong."""

from change_reference import ChangeReference
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.packet import EventPacket
from epvlm_ros.events.registration import HomographyRegistration
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
from hypothesis import settings, strategies
from hypothesis.stateful import initialize, rule, RuleBasedStateMachine
import numpy as np

MS = 1_000_000
INTERVAL_NS = 20 * MS
EXPOSURE_NS = 20 * MS
WIDTH, HEIGHT, CELL_PX = 32, 20, 4
ROWS, COLS = 5, 8  # two rows of blocks, the second one is cut
BEGIN_NS = 1_003 * MS  # the first whole interval begins 17 ms later
EVENTS = strategies.lists(strategies.tuples(
    strategies.integers(0, 999), strategies.integers(0, ROWS * COLS - 1),
    strategies.integers(1, 60)), max_size=4)  # thousandths of the packet, cell, number


class ChangeStates(RuleBasedStateMachine):
    """Keeps every event that counts, how far scores got, and what the next score must doubt."""

    @initialize()
    def begin(self):
        self.sync = FrameSynchronizer(EventSyncConfig(
            sync_mode='common_clock', max_wait=0.0, max_exposure=EXPOSURE_NS / 1e9,
            cell_size=CELL_PX))
        self.sync.add_frame(Frame(0, HEIGHT, WIDTH), 0.0)
        assert self.sync.poll(0.0)[0].change is None
        self.number, self.now_ns, self.epochs = 100, BEGIN_NS, set()
        self.forget()

    def forget(self):
        self.events, self.lost = [], []  # (time, cell, number); (start, end) of time
        self.reference = ChangeReference((ROWS, COLS), CELL_PX ** 2)
        self.scored = self.first = self.latest_ns = self.last_score = None
        self.is_doubtful = False

    def send(self, start_ns, length_ns, events, shed=False, is_late=False):
        """Send a packet with these events, and one at its start and at its end in cell 0."""
        end_ns = start_ns + length_ns - 1
        found = sorted([(start_ns, 0, 1), (end_ns, 0, 1)] + [
            (start_ns + length_ns * part // 1000, cell, count) for part, cell, count in events])
        words = np.concatenate([np.full(
            count, cell // COLS * CELL_PX << 48 | cell % COLS * CELL_PX << 32 | time - start_ns,
            np.uint64) for time, cell, count in found])
        self.sync.add_packet(EventPacket(
            self.now_ns, WIDTH, HEIGHT, self.number - is_late, start_ns, 'mono',
            words.view(np.uint8)), 0.0, shed)
        if self.latest_ns is None:
            self.first = self.scored = -(-start_ns // INTERVAL_NS)
            self.latest_ns = start_ns
        if shed:
            self.lost.append((self.latest_ns, end_ns))
        else:
            self.is_doubtful |= any(time // INTERVAL_NS < self.scored for time, *_ in found)
            self.events += [event for event in found if event[0] // INTERVAL_NS >= self.scored]
        if end_ns > self.latest_ns:
            self.latest_ns, self.stamp_ns = end_ns, self.now_ns

    @rule(length_ms=strategies.integers(1, 40), events=EVENTS, shed=strategies.booleans())
    def packet(self, length_ms, events, shed):
        shed = shed and length_ms % 4 == 0 and self.latest_ns is not None
        self.number += 1
        self.send(self.now_ns, length_ms * MS, events, shed)
        self.now_ns += length_ms * MS

    @rule(length_ms=strategies.integers(1, 40), events=EVENTS)
    def packet_after_lost_ones(self, length_ms, events):
        self.number += 3
        if self.latest_ns is not None:
            self.lost.append((self.latest_ns, self.now_ns + 30 * MS))
        self.now_ns += 30 * MS
        self.send(self.now_ns, length_ms * MS, events)
        self.now_ns += length_ms * MS

    @rule(back_ms=strategies.integers(1, 90), events=EVENTS)
    def packet_that_is_late(self, back_ms, events):
        # After a long silence all is scored, and any late packet a doubt.
        if self.latest_ns is not None and self.latest_ns - back_ms * MS > BEGIN_NS and \
                self.now_ns - self.stamp_ns < 600 * MS:
            self.send(self.latest_ns - back_ms * MS, MS, events, is_late=True)

    @rule(length_ms=strategies.integers(1, 3000))
    def silence(self, length_ms):
        self.now_ns += length_ms * MS

    @rule()
    def register_anew(self):
        self.sync.set_registration(HomographyRegistration())
        self.forget()

    @rule(delay_ms=strategies.integers(-30, 200))
    def frame(self, delay_ms):
        stamp_ns = max(self.now_ns - delay_ms * MS, 0)
        self.sync.add_frame(Frame(stamp_ns, HEIGHT, WIDTH), 0.0)
        score = self.sync.poll(0.0)[-1].change
        assert (score is None) == (self.latest_ns is None)
        if score is None:
            return
        cut = (stamp_ns - EXPOSURE_NS) // INTERVAL_NS
        before, self.scored = self.scored, max(
            self.scored, min(cut, self.latest_ns // INTERVAL_NS))
        for interval in range(before, self.scored):
            self.reference.add_interval(self.count(interval))
        lost = before < self.scored and any(
            start < self.scored * INTERVAL_NS and end > before * INTERVAL_NS
            for start, end in self.lost)
        self.check(score, lost)
        self.is_doubtful = cut < self.scored  # of later frames
        self.last_score = score

    def count(self, interval):
        counts = np.zeros(ROWS * COLS)
        for time, cell, number in self.events:
            if time // INTERVAL_NS == interval:
                counts[cell] += number
        return counts.reshape(ROWS, COLS)

    def check(self, score, lost):
        far = (self.reference.totals - score.scores) % 65536
        assert np.minimum(far, 65536 - far).max() < 1.0 + 1e-6  # rounded down
        if self.last_score is None:
            assert score.epoch not in self.epochs
            self.epochs.add(score.epoch)
            return
        assert score.continues(self.last_score)
        assert (score.num_doubts > self.last_score.num_doubts) == (self.is_doubtful or lost)


TestChangeStates = ChangeStates.TestCase
TestChangeStates.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_late_packet_before_a_long_silence():
    states = ChangeStates()
    states.begin()
    states.packet_after_lost_ones(events=[], length_ms=1)
    states.silence(length_ms=26)
    states.frame(delay_ms=0)
    states.packet(events=[(0, 0, 5)], length_ms=13, shed=False)
    states.silence(length_ms=586)
    states.packet_that_is_late(back_ms=1, events=[])  # its stamp is no sign that time went on
    states.silence(length_ms=401)
    states.packet(events=[], length_ms=1, shed=False)
    states.frame(delay_ms=0)
