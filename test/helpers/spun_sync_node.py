"""A sync node in this process, spun by hand, with a client that sends and receives."""

import array

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.events.packet import Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.ros.event_sync_node import EventSyncNode
from epvlm_ros.ros.qos import EVENTS, FRAMES
from event_camera_msgs.msg import EventPacket
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from ros_graph import wait_until
from sensor_msgs.msg import Image


class SpunSyncNode:
    """A sync node and a client in one executor that is spun by hand."""

    def __init__(self, context, image_type=Image, event_type=EventPacket, **parameters):
        self.node = EventSyncNode(context=context, cli_args=['--ros-args', *(
            word for name, value in parameters.items() for word in ('-p', f'{name}:={value}'))])
        self.client = rclpy.create_node('client', context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._executor.add_node(self.client)
        self.frames, self.reports = [], []
        self._seq = 0
        self.client.create_subscription(
            EventGuidedFrame, 'event_guided_frame', self.frames.append, FRAMES)
        self.client.create_subscription(DiagnosticArray, '/diagnostics', self.reports.append, 10)
        self.images = self.client.create_publisher(image_type, 'image', FRAMES)
        self.events = self.client.create_publisher(event_type, 'events', EVENTS)

    def until(self, condition, what):
        def spin():
            self._executor.spin_once(timeout_sec=0.02)
            return condition()
        return wait_until(spin, 15, what)

    def until_connected(self):
        self.until(lambda: self.images.get_subscription_count()
                   and self.events.get_subscription_count()
                   and self.client.count_publishers('event_guided_frame'), 'the connections')

    def send_image(self, stamp_ns=0, **changes):
        """Send a black image of 28 x 28 pixels."""
        message = Image(**{
            'height': 28, 'width': 28, 'encoding': 'mono8', 'step': 28,
            'data': array.array('B', bytes(28 * 28)), **changes})
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10 ** 9)
        self.images.publish(message)

    def send_packet(self, start_ns, **changes):
        """Send a packet with one event, at column 3 of row 4."""
        one = Events(np.array([3], np.uint16), np.array([4], np.uint16), np.array([1], np.uint8),
                     np.array([start_ns]))
        self._seq += 1
        message = EventPacket(**{
            'height': 28, 'width': 28, 'encoding': 'evt3', 'seq': self._seq,
            'events': array.array('B', encode_evt3(one, start_ns=start_ns).tobytes()), **changes})
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(start_ns, 10 ** 9)
        self.events.publish(message)

    def until_frame(self):
        """Send images until a frame comes, and return it."""
        del self.frames[:]

        def find():
            self.send_image()
            return self.frames
        return self.until(find, 'a frame')[0]

    def status(self, part):
        found = [status for report in self.reports for status in report.status
                 if status.name.endswith(part)]
        return found[-1] if found else None

    def message(self, part):
        """Return the text of the latest diagnostics of a part, '' before the first."""
        status = self.status(part)
        return status.message if status is not None else ''

    def number(self, part, key):
        """Return a number of the latest diagnostics of a part, None before the first."""
        status = self.status(part)
        return status and float({item.key: item.value for item in status.values}[key])

    def until_logged(self, capfd, text):
        """Wait for a line in the log, and return what was logged until then."""
        parts = []

        def is_logged():
            parts.append(capfd.readouterr().err)
            return text in ''.join(parts)
        self.until(is_logged, f'the line {text!r}')
        return ''.join(parts)

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()
        self.client.destroy_node()
