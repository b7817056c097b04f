"""Which trigger edge belongs to which frame."""

from epvlm_ros.bag import BagReader
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.packet import Triggers
from epvlm_ros.events.sync.completeness import Missing
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
from epvlm_ros.events.sync.triggers import TriggerMatcher
import numpy as np
import pytest

MS = 1_000_000
PERIOD_NS = 33 * MS


def edges(*times_ns, edge=1, trigger_input=0):
    size = len(times_ns)
    return Triggers(np.array(times_ns, np.int64), np.full(size, edge, np.uint8),
                    np.full(size, trigger_input, np.uint8))


def train(num_frames=40, delay_ms=5.0, jitter_ms=8.0, matcher=None, seed=0):
    """Return a matcher that saw a regular stream, and the time of its next edge."""
    random = np.random.default_rng(seed)
    matcher = matcher or TriggerMatcher(0, 'rising')
    for index in range(num_frames):
        edge_ns = index * PERIOD_NS
        matcher.add(edges(edge_ns))
        stamp_ns = edge_ns + round((delay_ms + random.uniform(0, jitter_ms)) * MS)
        match = matcher.match(stamp_ns)
        assert match == (edge_ns if index >= 10 else None), index
    return matcher, num_frames * PERIOD_NS


def test_nothing_is_matched_until_the_delay_is_known():
    matcher = TriggerMatcher(0, 'rising')
    assert matcher.match(0) is None  # no edge at all
    matcher, _ = train(12)
    # Delays were uniform from 5 to 13 ms.
    assert 5 * MS <= matcher.delay_ns <= 13 * MS


def test_only_the_wanted_edges_of_the_wanted_input_count():
    matcher = TriggerMatcher(1, 'falling')
    for index in range(20):
        t_ns = index * PERIOD_NS
        matcher.add(edges(t_ns, edge=0, trigger_input=1))
        matcher.add(edges(t_ns + 2 * MS, edge=1, trigger_input=1))
        matcher.add(edges(t_ns + 4 * MS, edge=0, trigger_input=0))
        match = matcher.match(t_ns + 6 * MS)
    assert match == 19 * PERIOD_NS
    assert matcher.delay_ns == 6 * MS


def test_a_missing_edge_costs_its_own_frame_only():
    matcher, next_ns = train()
    assert matcher.match(next_ns + 9 * MS) is None
    matcher.add(edges(next_ns + PERIOD_NS))
    assert matcher.match(next_ns + PERIOD_NS + 6 * MS) == next_ns + PERIOD_NS


@pytest.mark.parametrize('lost', [{1, 3}, {2, 4}, {1, 4}, {1, 3, 5}])
@pytest.mark.parametrize('delay_ms', [1, 30])
def test_edges_that_are_lost_at_the_start_shift_nothing(lost, delay_ms):
    # every other interval is twice as long, and so seems the period for a while
    matcher, matches = TriggerMatcher(0, 'rising'), {}
    for index in range(60):
        if index not in lost:
            matcher.add(edges(index * PERIOD_NS))
        matches[index] = matcher.match(index * PERIOD_NS + delay_ms * MS)
    assert all(matches[index] in (None, index * PERIOD_NS) for index in range(15))
    assert all(matches[index] == index * PERIOD_NS for index in range(15, 60))


def test_missing_frames_shift_nothing():
    matcher, next_ns = train()
    times_ns = [next_ns + index * PERIOD_NS for index in range(5)]
    matcher.add(edges(*times_ns))
    assert matcher.match(times_ns[4] + 12 * MS) == times_ns[4]


def test_one_edge_is_not_given_to_two_frames():
    matcher, next_ns = train()
    matcher.add(edges(next_ns))
    assert matcher.match(next_ns + 6 * MS) == next_ns
    assert matcher.match(next_ns + 9 * MS) is None


def test_a_frame_that_is_late_beyond_reason_is_not_matched():
    matcher, next_ns = train(jitter_ms=1.0)
    matcher.add(edges(next_ns, next_ns + PERIOD_NS))
    assert matcher.match(next_ns + 20 * MS) is None
    assert matcher.match(next_ns + PERIOD_NS + 5 * MS) == next_ns + PERIOD_NS


def test_a_few_frames_that_are_late_for_any_reason_spoil_nothing():
    matcher = TriggerMatcher(0, 'rising')
    random = np.random.default_rng(0)
    matches = []
    for index in range(100):
        late_ms = random.uniform(0, 33) if index % 20 == 3 else random.uniform(5, 7)
        matcher.add(edges(index * PERIOD_NS))
        matches.append((index, matcher.match(index * PERIOD_NS + round(late_ms * MS))))
    assert all(match == index * PERIOD_NS for index, match in matches[10:] if index % 20 != 3)


def test_a_delay_of_more_than_a_period_is_taken_for_less():
    """Whole periods cannot be told from stamps: 40 ms behind an edge is 7 ms behind the next."""
    matcher = TriggerMatcher(0, 'rising')
    matcher.add(edges(*(index * PERIOD_NS for index in range(30))))
    matches = [matcher.match(index * PERIOD_NS + 40 * MS) for index in range(25)]
    assert matches[-1] == 25 * PERIOD_NS
    assert matcher.delay_ns == 7 * MS


def test_delays_across_a_whole_period_belong_to_the_edge_before():
    # 28 to 36 ms: some stamps are behind the next edge.
    matcher = TriggerMatcher(0, 'rising')
    matcher.add(edges(*(index * PERIOD_NS for index in range(60))))
    random = np.random.default_rng(3)
    matches = [matcher.match(index * PERIOD_NS + round(random.uniform(28, 36) * MS))
               for index in range(50)]
    assert matches[20:] == [index * PERIOD_NS for index in range(20, 50)]


def test_delays_all_over_the_period_match_nothing():
    matcher = TriggerMatcher(0, 'rising')
    matcher.add(edges(*(index * PERIOD_NS for index in range(60))))
    random = np.random.default_rng(0)
    matches = [matcher.match(index * PERIOD_NS + round(random.uniform(0, 33) * MS))
               for index in range(60)]
    assert all(match is None for match in matches[20:])


def test_stamps_that_are_true_match_though_the_clock_is_a_little_off():
    matcher = TriggerMatcher(0, 'rising')
    matcher.add(edges(*(index * PERIOD_NS for index in range(1, 60))))
    random = np.random.default_rng(0)
    matches = [matcher.match(index * PERIOD_NS + round(random.uniform(-0.3, 0.1) * MS))
               for index in range(1, 60)]
    assert matches[8:] == [index * PERIOD_NS for index in range(9, 60)]


def test_a_frame_is_settled_when_its_edge_must_have_come():
    matcher = TriggerMatcher(0, 'rising')
    assert not matcher.is_settled(100 * MS, 100 * MS)
    assert matcher.is_settled(100 * MS, 101 * MS)
    matcher, next_ns = train(delay_ms=20.0, jitter_ms=0.0)
    # The edge is 20 ms before the stamp, give or take a millisecond.
    assert not matcher.is_settled(next_ns + 20 * MS, next_ns + MS - 1)
    assert matcher.is_settled(next_ns + 20 * MS, next_ns + MS)


def test_a_restart_forgets_edges_and_keeps_the_delay():
    matcher, next_ns = train()
    delay_ns = matcher.delay_ns
    matcher.reset()
    assert matcher.match(next_ns + 9 * MS) is None
    assert matcher.delay_ns == delay_ns
    matcher.add(edges(7, 7 + PERIOD_NS, 7 + 2 * PERIOD_NS))
    assert matcher.match(7 + 2 * PERIOD_NS + 9 * MS) == 7 + 2 * PERIOD_NS


def test_no_triggers_and_very_many_triggers():
    matcher = TriggerMatcher(0, 'rising')
    matcher.add(edges())
    assert matcher.match(0) is None
    for start in range(0, 100_000, 1000):
        matcher.add(edges(*range(start * MS, (start + 1000) * MS, MS)))
    assert len(matcher._edges_ns) <= 5096


@pytest.fixture
def recording(shared_data):
    with BagReader(shared_data / 'evt3_640x480') as bag:
        return list(bag.event_packets())


@pytest.mark.parametrize('trigger_edge', ['rising', 'falling'])
def test_frames_at_every_edge_of_a_real_trigger_train(recording, trigger_edge):
    """1 kHz, as a very fast camera's would be; stamps are 0.1 to 0.4 ms late."""
    sync = FrameSynchronizer(EventSyncConfig(
        sync_mode='hardware_trigger', trigger_input=6, trigger_edge=trigger_edge,
        window_length=0.01, cell_size=32, history_length=5.0, max_wait=0.5,
        max_pending_frames=1000))
    matcher = sync._stream.triggers
    sync.add_frame(Frame(0, 480, 640), 0.0)
    for packet in recording:
        sync.add_packet(packet, 0.0)
    edges_ns = np.array(matcher._edges_ns)
    assert edges_ns.size in (2078, 2079)
    assert np.abs(np.diff(edges_ns) - MS).max() <= 2000  # 1 kHz to the microsecond
    random = np.random.default_rng(0)
    chosen = edges_ns[20:-40][random.random(edges_ns.size - 60) < 0.4]
    for edge_ns in chosen[:900]:
        late_ns = round(random.uniform(0.1, 0.4) * MS)
        sync.add_frame(Frame(sync.clock.to_ros(int(edge_ns)) + late_ns, 480, 640, late_ns), 0.0)
    guided = sync.poll(1.0)[1:]
    assert len(guided) == chosen[:900].size
    matched = [item for item in guided if Missing.NOT_TRIGGERED not in item.missing]
    assert len(matched) >= len(guided) - 8
    for item in matched:
        assert abs(item.sync_error_ns - item.frame.payload) <= 1000  # by the estimated drift
