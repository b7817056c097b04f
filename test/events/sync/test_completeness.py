"""What a window lacks, by hand."""

from epvlm_ros.events.sync.completeness import Missing, StreamCompleteness
import pytest


def stream(*packets):
    completeness = StreamCompleteness()
    for first_ns, last_ns, after_loss in packets:
        completeness.extend(first_ns, last_ns, after_loss)
    return completeness


@pytest.mark.parametrize('start, end, missing, share', [
    (100, 200, Missing.COMPLETE, 1.0),
    (50, 150, Missing.WINDOW_START_MISSING, 0.5),
    (350, 450, Missing.WINDOW_END_MISSING, 0.5),
    (0, 1000, Missing.WINDOW_START_MISSING | Missing.WINDOW_END_MISSING, 0.3),
    (0, 100, Missing.WINDOW_START_MISSING, 0.0),
    (0, 50, Missing.WINDOW_START_MISSING, 0.0),
    (400, 500, Missing.WINDOW_END_MISSING, 0.0),
    (900, 950, Missing.WINDOW_END_MISSING, 0.0),
])
def test_a_window_against_a_stream_from_100_to_400(start, end, missing, share):
    completeness = stream((100, 200, False), (200, 400, False))
    assert completeness.judge(start, end, oldest_ns=0) == (missing, pytest.approx(share))


def test_nothing_seen():
    assert StreamCompleteness().judge(0, 10, 0) == (Missing.NO_EVENT_STREAM, 0.0)
    assert StreamCompleteness().latest_ns is None


def test_a_loss_between_packets_counts_by_its_overlap():
    completeness = stream((0, 100, False), (150, 300, True))
    assert completeness.judge(0, 100, 0) == (Missing.COMPLETE, 1.0)
    assert completeness.judge(50, 250, 0) == (Missing.PACKETS_LOST, 0.75)
    assert completeness.judge(140, 240, 0) == (Missing.PACKETS_LOST, 0.9)


def test_what_is_forgotten_is_missing():
    completeness = stream((0, 400, False))
    assert completeness.judge(100, 300, oldest_ns=200) == (Missing.WINDOW_START_MISSING, 0.5)
    assert completeness.judge(100, 200, oldest_ns=300) == (Missing.WINDOW_START_MISSING, 0.0)


def test_a_window_around_the_one_time_that_was_seen():
    assert stream((100, 100, False)).judge(50, 150, 0) == (
        Missing.WINDOW_START_MISSING | Missing.WINDOW_END_MISSING, 0.0)


def test_the_stream_reaches_its_latest_time_in_disorder():
    completeness = stream((0, 100, False), (90, 95, False))
    assert completeness.latest_ns == 100


def test_a_shed_packet_counts_from_the_end_of_the_one_before():
    completeness = stream((0, 100, False))
    completeness.extend(120, 200, after_loss=False, uncounted=Missing.EVENTS_SHED)
    completeness.extend(200, 300, after_loss=False)
    assert completeness.judge(0, 100, 0) == (Missing.COMPLETE, 1.0)
    assert completeness.judge(50, 250, 0) == (Missing.EVENTS_SHED, 0.5)
    assert completeness.judge(200, 300, 0) == (Missing.COMPLETE, 1.0)


def test_loss_and_shedding_add_up():
    completeness = stream((0, 100, False))
    completeness.extend(200, 300, after_loss=True, uncounted=Missing.EVENTS_SHED)
    completeness.extend(300, 400, after_loss=False)
    assert completeness.judge(0, 400, 0) == (Missing.PACKETS_LOST | Missing.EVENTS_SHED, 0.5)
    assert completeness.judge(100, 200, 0) == (Missing.PACKETS_LOST, 0.0)
    assert completeness.judge(200, 300, 0) == (Missing.EVENTS_SHED, 0.0)
    assert completeness.judge(290, 310, 0) == (Missing.EVENTS_SHED, 0.5)


def test_a_stream_may_begin_with_a_shed_packet():
    completeness = StreamCompleteness()
    completeness.extend(100, 200, after_loss=False, uncounted=Missing.EVENTS_SHED)
    completeness.extend(200, 300, after_loss=False)
    assert completeness.judge(100, 300, 0) == (Missing.EVENTS_SHED, 0.5)


def test_every_second_packet_shed_for_seconds():
    completeness = StreamCompleteness()
    for index in range(1000):  # 4 s of packets of 4 ms
        uncounted = Missing.EVENTS_SHED if index % 2 else Missing.COMPLETE
        completeness.extend(index * 4, index * 4 + 4, after_loss=False, uncounted=uncounted)
    assert completeness.judge(0, 4000, 0) == (Missing.EVENTS_SHED, 0.5)


def test_a_shed_packet_in_disorder_takes_nothing_back():
    completeness = stream((0, 100, False), (100, 200, False))
    completeness.extend(50, 90, after_loss=False, uncounted=Missing.EVENTS_SHED)
    assert completeness.judge(0, 200, 0) == (Missing.COMPLETE, 1.0)
