"""What the sync node says about input that it cannot use, and what it does then."""

import array

from diagnostic_msgs.msg import DiagnosticStatus
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros import topic_watch
from epvlm_ros.ros.qos import FRAMES
from epvlm_ros.ros.spinning_node import SpinningNode
from ros_graph import DOMAIN_ID
from sensor_msgs.msg import CompressedImage


def test_an_encoding_that_nobody_can_convert_is_told_and_the_frame_goes_on(start_sync_node, capfd):
    graph = start_sync_node(max_wait=0.0)
    graph.until_connected()
    graph.send_image(encoding='h264')
    assert graph.until(lambda: graph.frames, 'the frame')[0].image.encoding == 'h264'
    text = 'frames have an encoding that cannot be converted'
    graph.until(lambda: text in graph.message('frames'), 'the diagnostics')
    assert graph.status('frames').level == DiagnosticStatus.WARN
    lines = [line for line in capfd.readouterr().err.splitlines() if 'h264' in line]
    assert len(lines) == 1
    assert "frame of /image cannot be converted: image encoding 'h264' is unknown" in lines[0]


def test_a_wait_that_is_shorter_than_the_window_is_not_blamed_on_stamps(start_sync_node, capfd):
    graph = start_sync_node(window_length=0.5, max_wait=0.1)
    graph.until_connected()
    for number in range(50):
        graph.send_packet(10 ** 11 + number * 10_000_000)
    stamp_ns = 10 ** 11 + 490_000_000
    graph.until(lambda: graph.number('events', 'num_packets') == 50, 'the packets')
    graph.send_image(stamp_ns)
    graph.until(lambda: graph.frames, 'the frame')
    assert graph.frames[0].missing & EventGuidedFrame.WINDOW_END_MISSING
    graph.until_logged(
        capfd, 'its window ends 0.25 s after its stamp, but it waits for 0.1 s only: give a '
        'longer max_wait or a shorter window_length')


def test_a_topic_of_another_type_is_told(start_sync_node, capfd, monkeypatch):
    monkeypatch.setattr(topic_watch, 'CHECK_PERIOD_S', 0.3)
    monkeypatch.setattr(topic_watch, 'REPEAT_PERIOD_S', 0.3)
    graph = start_sync_node()
    graph.client.destroy_publisher(graph.images)
    log = ''

    def has_words():
        nonlocal log
        log += capfd.readouterr().err
        return ('/driver publishes it as sensor_msgs/msg/CompressedImage, this node expects '
                'sensor_msgs/msg/Image: set compressed:=true') in log and \
            'nothing came on /events for 0 s: /client would publish it, but has not' in log
    # a participant knows one type of a topic
    with SpinningNode('driver', domain_id=DOMAIN_ID) as driver:
        driver.node.create_publisher(CompressedImage, 'image', FRAMES)
        graph.until(has_words, 'the warnings')


def test_packets_of_no_size_are_no_silence(start_sync_node, capfd):
    graph = start_sync_node()
    graph.until_connected()
    stamps_ns = iter(range(10 ** 11, 10 ** 12, 10_000_000))

    def send():
        graph.send_packet(stamp_ns := next(stamps_ns), height=0, width=0)
        if stamp_ns >= 10 ** 11 + 200_000_000:  # the whole window was seen
            graph.send_image(stamp_ns - 100_000_000)
        return [frame for frame in graph.frames
                if frame.missing & EventGuidedFrame.EVENTS_DISCARDED]
    frame = graph.until(send, 'a frame that says so')[0]
    assert '0 x 0 px' in frame.reason and frame.num_events == 0
    graph.until_logged(capfd, '0 x 0 px')
    text = 'events lie outside the sensor'
    graph.until(lambda: text in graph.message('events'), 'the diagnostics')


def test_a_second_event_camera_on_the_topic_is_told_and_left_out(start_sync_node, capfd):
    graph = start_sync_node(max_wait=0.0)
    graph.until_connected()
    stamps_ns = iter(range(10 ** 11, 10 ** 12, 10_000_000))

    def send():
        graph.send_packet(stamp_ns := next(stamps_ns))
        graph.send_packet(stamp_ns, height=4096, width=4096)
        return 'of another camera' in graph.message('events')
    graph.until(send, 'the diagnostics')
    assert '4096 x 4096' in capfd.readouterr().err
    assert graph.node._worker.failure is None


def test_a_frame_whose_grid_takes_too_much_memory_is_dropped_and_the_next_one_comes(
        start_sync_node, capfd):
    graph = start_sync_node(max_wait=0.0)
    graph.until_connected()
    num_pixels = 30_000_000
    graph.send_packet(10 ** 11)
    graph.send_image(width=num_pixels, step=num_pixels, height=1,
                     data=array.array('B', bytes(num_pixels)))
    assert graph.until_frame().image.width == 28
    log = capfd.readouterr().err
    assert f'an image of {num_pixels} x 1 px' in log and 'give a larger cell_size' in log


def test_stamps_that_are_half_a_second_off_are_told(start_sync_node, capfd):
    graph = start_sync_node(max_wait=0.0)
    graph.until_connected()
    text = 'their clocks differ'

    def send():
        now_ns = graph.client.get_clock().now().nanoseconds
        graph.send_packet(now_ns - 500_000_000)
        graph.send_image(now_ns)
        return text in graph.message('clock')
    graph.until(send, 'the diagnostics')

    def is_logged():
        send()
        return text in capfd.readouterr().err
    graph.until(is_logged, 'the log')
