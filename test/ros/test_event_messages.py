"""Event arrays of other drivers are taken where their package is installed."""

from importlib.util import find_spec
import struct

from epvlm_ros.events.packet_codecs import make_decoder
from epvlm_ros.ros.event_messages import event_array_to_packets, load_message_type
from event_camera_msgs.msg import EventPacket
import pytest

START_S = 1_700_000_000
DVS = 'dvs_msgs/msg/EventArray'


def serialise(events):
    """Return an event array as it goes over the wire: fields at multiples of their sizes."""
    data = bytearray(b'\0\1\0\0' + struct.pack(
        '<iII4sIII', START_S, 7, 4, b'dvs\0', 48, 64, len(events)))
    for x, y, polarity, t_ns in events:
        data += bytes(-(len(data) - 4) % 2) + struct.pack('<HH', x, y)
        data += bytes(-(len(data) - 4) % 4)
        data += struct.pack('<iIB', START_S + t_ns // 10 ** 9, t_ns % 10 ** 9, polarity)
    return bytes(data)


def test_events_of_an_array_become_packets():
    # the last one is 5 s later: times in a packet have 32 bits of ns
    events = [(1, 2, 0, 1000), (63, 47, 1, 2001), (5, 6, 1, 5_000_000_000)]
    packets = list(event_array_to_packets(serialise(events), seq=4))
    assert [packet.seq for packet in packets] == [4, 5]
    assert [packet.stamp_ns - START_S * 10 ** 9 for packet in packets] == [1000, 5_000_000_000]
    decoder = make_decoder('mono', 64, 48)
    assert [(x, y, polarity, t_ns - START_S * 10 ** 9) for packet in packets
            for x, y, polarity, t_ns in zip(
                *(values.tolist() for values in decoder.decode(packet).events))] == events


def test_an_array_without_events_is_a_packet_without_events():
    packet, = event_array_to_packets(serialise([]), seq=0)
    assert (packet.stamp_ns, packet.events.size) == (START_S * 10 ** 9 + 7, 0)


def test_a_message_that_is_cut_off():
    with pytest.raises(ValueError, match='cut off'):
        list(event_array_to_packets(serialise([(1, 2, 0, 0)])[:-2], seq=0))


def test_types_of_messages():
    assert load_message_type('event_camera_msgs/msg/EventPacket') is EventPacket
    with pytest.raises(ValueError, match='no_msgs is not installed: install it'):
        load_message_type('no_msgs/msg/EventArray')


@pytest.mark.skipif(find_spec('dvs_msgs') is not None, reason='dvs_msgs is installed')
def test_the_package_that_is_missing_is_named(start_sync_node, capfd):
    graph = start_sync_node(event_message=DVS)
    graph.until_logged(capfd, f'not configured: event_message is {DVS}, and dvs_msgs is not')


@pytest.mark.skipif(find_spec('dvs_msgs') is None, reason='dvs_msgs is not installed')
def test_arrays_of_a_driver_reach_the_frames(start_sync_node):
    from dvs_msgs.msg import Event, EventArray
    graph = start_sync_node(
        event_type=EventArray, event_message=DVS, window_length=0.02, max_wait=1.0)
    graph.until_connected()
    for number in range(20):  # an event every 5 ms
        event = Event(x=3, y=4, polarity=True)
        event.ts.sec, event.ts.nanosec = 100, number * 5_000_000
        message = EventArray(height=28, width=28, events=[event])
        message.header.stamp = event.ts
        graph.events.publish(message)
    graph.until(lambda: graph.number('events', 'num_packets') == 20, 'the packets')
    graph.send_image(100 * 10 ** 9 + 50_000_000)
    frame = graph.until(lambda: graph.frames, 'the frame')[0]
    assert (frame.num_events, frame.missing) == (4, 0)
