"""Event arrays, packed by hand as the two serialisations of ROS do."""

import struct

from epvlm_ros.bag.convert.event_arrays import parse_cdr_event_array, parse_ros1_event_array
import pytest

EVENTS = [(1, 2, 5, 7, 1), (300, 65535, 1_700_000_000, 999_999_999, 0), (0, 0, 0, 0, 1),
          (9, 8, 7, 6, 0)]


def make_cdr(events, frame_id='camera', order='<'):
    """Write every field where its alignment lets it begin, as middleware does."""
    data = bytearray()

    def put(code, *values):
        for value in values:
            size = struct.calcsize(code)
            data.extend(bytes(-len(data) % size))
            data.extend(struct.pack(order + code, value))

    put('i', 3)
    put('I', 4)
    put('I', len(frame_id) + 1)
    data.extend(frame_id.encode() + b'\0')
    put('I', 480, 640, len(events))
    for x, y, sec, nanosec, polarity in events:
        put('H', x, y)
        put('i', sec)
        put('I', nanosec)
        put('B', polarity)
    return (b'\0\1\0\0' if order == '<' else b'\0\0\0\0') + bytes(data)


def make_ros1(events, frame_id='camera'):
    head = struct.pack('<IIII', 77, 3, 4, len(frame_id)) + frame_id.encode()
    return head + struct.pack('<III', 480, 640, len(events)) + b''.join(
        struct.pack('<HHIIB', *event) for event in events)


def check(array, events, frame_id='camera'):
    assert array[:4] == (3_000_000_004, frame_id, 640, 480)
    x, y, polarity, t_ns = array.events
    assert [x.dtype, y.dtype, polarity.dtype, t_ns.dtype] == ['u2', 'u2', 'u1', 'i8']
    assert list(zip(x, y, polarity, t_ns)) == [
        (x, y, polarity, sec * 10 ** 9 + nanosec) for x, y, sec, nanosec, polarity in events]


@pytest.mark.parametrize('num_events', range(5))
@pytest.mark.parametrize('frame_id', ['', 'a', 'ab', 'abc', 'abcd'])
def test_every_event_is_read(num_events, frame_id):
    events = EVENTS[:num_events]
    check(parse_ros1_event_array(make_ros1(events, frame_id)), events, frame_id)
    for order in '<>':
        check(parse_cdr_event_array(make_cdr(events, frame_id, order)), events, frame_id)


def test_a_message_that_was_cut_off_is_refused():
    for parse, data in ((parse_cdr_event_array, make_cdr(EVENTS)),
                        (parse_ros1_event_array, make_ros1(EVENTS))):
        check(parse(data), EVENTS)
        for size in range(len(data)):
            with pytest.raises(ValueError, match='cut off|no event array'):
                parse(data[:size])
    with pytest.raises(ValueError, match='no event array in CDR'):
        parse_cdr_event_array(b'\0\3' + make_cdr(EVENTS)[2:])


def test_more_events_than_there_are_bytes_take_no_memory():
    data = bytearray(make_ros1([]))
    data[-4:] = b'\xff\xff\xff\xff'
    with pytest.raises(ValueError, match='of 4294967295 events has 34 bytes'):
        parse_ros1_event_array(bytes(data))
