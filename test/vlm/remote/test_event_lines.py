"""Events of a stream come out whole, however the bytes are cut, and are bounded."""

from epvlm_ros.vlm.remote.event_lines import EventLines, MAX_EVENT_BYTES
from epvlm_ros.vlm.remote.server_error import ServerError
import pytest

STREAM = 'data: a\n\n: a comment\ndata:b\r\ndata: ä\r\n\r\nid: 4\rdata: [DONE]\r\rdata: half'
EVENTS = ['a', 'b\nä', '[DONE]']


@pytest.mark.parametrize('size', [1, 2, 3, 7, 100])
def test_events_come_out_whole_however_the_bytes_are_cut(size):
    lines, received = EventLines(), STREAM.encode()
    found = []
    for start in range(0, len(received), size):
        found += lines.feed(received[start:start + size])
    assert found == EVENTS


def test_an_event_without_an_end_is_bounded():
    lines = EventLines()
    with pytest.raises(ServerError, match='without the end of an event'):
        for _ in range(2 + MAX_EVENT_BYTES // 1000):
            lines.feed(b'x' * 1000)


def test_many_events_are_no_long_one():
    lines = EventLines()
    for _ in range(1000):
        assert len(lines.feed(b'data: ' + b'x' * 1000 + b'\n\n')) == 1


def test_what_is_no_utf_8_is_refused():
    with pytest.raises(ServerError, match='no UTF-8'):
        EventLines().feed(b'data: \xff\n\n')
