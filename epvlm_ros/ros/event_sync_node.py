"""The node that gives every camera frame the events around it."""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.core.clock import SECOND
from epvlm_ros.core.config import EventSyncConfig
from epvlm_ros.core.coverage import Missing
from epvlm_ros.core.packets import packet_from_message
from epvlm_ros.core.synchronizer import Frame, FrameSynchronizer, GuidedFrame, warm_up
from epvlm_ros.images import compressed_to_rgb
from epvlm_ros.ros.conversions import rgb_to_image, to_guided_frame_message, to_ns
from epvlm_ros.ros.diagnostics import sync_diagnostics
from epvlm_ros.ros.parameters import NodeParameters
from epvlm_ros.ros.quality import EVENTS, FRAMES, publisher_options, subscription_options
from event_camera_msgs.msg import EventPacket as EventPacketMessage
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

POLL_PERIOD_S = 0.002
LOG_PERIOD_S = 5.0


class EventSyncNode(Node):
    """
    Publishes an EventGuidedFrame for every frame.

    Subscribes to ``events`` (event_camera_msgs/EventPacket) and ``image`` (sensor_msgs/Image, or
    CompressedImage with the parameter ``compressed``); publishes ``event_guided_frame`` and
    ``/diagnostics``. Parameters are the fields of `epvlm_ros.core.config.EventSyncConfig`.
    """

    def __init__(self, **options) -> None:
        super().__init__('event_sync_node', **options)
        self._settings = NodeParameters(self, EventSyncConfig, on_change=self._reconfigure)
        config = self._settings.get(EventSyncConfig)
        warm_up()
        self._synchronizer = FrameSynchronizer(config)
        self._publisher = self.create_publisher(
            EventGuidedFrame, 'event_guided_frame', FRAMES,
            **publisher_options(self, 'event_guided_frame'))
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_subscription(
            EventPacketMessage, 'events', self._on_packet, EVENTS,
            **subscription_options(self, 'events'))
        image_type, on_image = \
            (CompressedImage, self._on_compressed) if config.compressed else \
            (Image, self._on_image)
        self.create_subscription(
            image_type, 'image', on_image, FRAMES, **subscription_options(self, 'image'))
        # Waits are bounded in real time, also when ROS time is simulated and stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(POLL_PERIOD_S, self._publish_ready, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self.get_logger().info(
            f'{self.resolve_topic_name("events")} and {self.resolve_topic_name("image")} to '
            f'{self.resolve_topic_name("event_guided_frame")}, windows of '
            f'{config.window_length * 1e3:g} ms')

    def _reconfigure(self) -> None:
        self._synchronizer.reconfigure(self._settings.get(EventSyncConfig))

    def _on_packet(self, message: EventPacketMessage) -> None:
        try:
            self._synchronizer.add_packet(packet_from_message(message), time.monotonic())
        except ValueError as error:
            self.get_logger().error(
                f'event packet dropped: {error}', throttle_duration_sec=LOG_PERIOD_S)
        self._publish_ready()

    def _on_compressed(self, message: CompressedImage) -> None:
        try:
            rgb = compressed_to_rgb(message)
        except ValueError as error:
            self.get_logger().error(
                f'frame dropped: {error}', throttle_duration_sec=LOG_PERIOD_S)
            return
        self._on_image(rgb_to_image(message.header, rgb))

    def _on_image(self, message: Image) -> None:
        stamp_ns = to_ns(message.header.stamp)
        try:
            self._synchronizer.add_frame(
                Frame(stamp_ns, message.height, message.width, message), time.monotonic())
        except ValueError as error:
            self.get_logger().error(
                f'frame dropped: {error}', throttle_duration_sec=LOG_PERIOD_S)
        self._publish_ready()

    def _publish_ready(self) -> None:
        for guided in self._synchronizer.poll(time.monotonic()):
            self._publisher.publish(to_guided_frame_message(guided))
            if guided.missing != Missing.COMPLETE:
                self.get_logger().warning(
                    self._explain(guided), throttle_duration_sec=LOG_PERIOD_S)

    def _explain(self, guided: GuidedFrame) -> str:
        """Say what a frame lacked and where to look."""
        names = ', '.join(str(flag.name) for flag in Missing if flag and flag in guided.missing)
        text = f'incomplete frame: {names}, {guided.coverage:.0%} of its window covered'
        packet_ns = self._synchronizer.last_packet_ns
        if packet_ns is None:
            return f'{text}; no event packet yet on {self.resolve_topic_name("events")}'
        ahead_s = (guided.frame.stamp_ns - packet_ns) / SECOND
        return f'{text}; its stamp is {ahead_s:+.3f} s from that of the latest event packet'

    def _publish_diagnostics(self) -> None:
        self._diagnostics.publish(sync_diagnostics(
            self.get_fully_qualified_name(), self.get_clock().now().to_msg(),
            self._synchronizer))
