"""The node that combines every camera frame with the events around it."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.events.packet import packet_from_message
from epvlm_ros.events.registration import (
    CameraRegistration, make_registration, RegistrationMonitor)
from epvlm_ros.events.sync.completeness import Missing
from epvlm_ros.events.sync.guided_frame import Frame, GuidedFrame
from epvlm_ros.events.sync.input_queue import InputQueue, Kind, QueueItem
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer, warm_up
from epvlm_ros.images import check_image_size, compressed_to_rgb, image_to_rgb, WhiteLevel
from epvlm_ros.ros.calibration_source import CalibrationSource
from epvlm_ros.ros.conversions import rgb_to_image, to_guided_frame_message
from epvlm_ros.ros.diagnostics import SyncDiagnostics
from epvlm_ros.ros.node_parameters import NodeParameters
from epvlm_ros.ros.qos import EVENTS, FRAMES, publisher_options, subscription_options
from epvlm_ros.time_units import SECOND, stamp_to_ns
from event_camera_msgs.msg import EventPacket as EventPacketMessage
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

POLL_PERIOD_S = 0.002
LOG_PERIOD_S = 5.0
REPORT_PERIOD_S = 1.0
MEGABYTE = 1_000_000


class EventSyncNode(Node):
    """
    Publishes an EventGuidedFrame for every frame.

    Subscribes to ``events`` (event_camera_msgs/EventPacket) and ``image`` (sensor_msgs/Image, or
    CompressedImage with the parameter ``compressed``), and with registration ``camera_info`` to
    what `CalibrationSource` needs; publishes ``event_guided_frame`` and ``/diagnostics``.
    Parameters are the fields of `EventSyncConfig` and `FilterConfig`. ``should_stop`` cuts the
    warm-up short. Callbacks only append to a bounded queue; one thread owns everything else.
    """

    _thread: threading.Thread | None = None

    def __init__(
        self, *, should_stop: Callable[[], bool] = lambda: False, **options: Any,
    ) -> None:
        super().__init__('event_sync_node', **options)
        self._settings = NodeParameters(
            self, EventSyncConfig, FilterConfig, on_change=self._reconfigure)
        config, filters = self._settings.get(EventSyncConfig), self._settings.get(FilterConfig)
        warm_up(filters, should_stop)
        image_to_rgb(Image(height=1, width=1, encoding='mono8', step=1, data=b'0'))
        self._synchronizer = FrameSynchronizer(config, filters, make_registration(config))
        self._input_queue = InputQueue(
            config.max_event_delay, round(config.max_queued_event_data * MEGABYTE),
            config.max_pending_frames)
        self._monitor = RegistrationMonitor()
        self._report = SyncDiagnostics(self.get_fully_qualified_name())
        self._next_report_s = time.monotonic() + REPORT_PERIOD_S
        self._last_check_s = time.monotonic()  # of the registration
        self._publisher = self.create_publisher(
            EventGuidedFrame, 'event_guided_frame',
            **publisher_options(self, 'event_guided_frame', FRAMES))
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._white_level = WhiteLevel(self.resolve_topic_name('image'))
        self._subscribe(config)
        self._failure: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='event_sync', daemon=True)
        self._thread.start()
        self.create_timer(
            REPORT_PERIOD_S, self._raise_failure, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(
            f'{self.resolve_topic_name("events")} and {self.resolve_topic_name("image")} to '
            f'{self.resolve_topic_name("event_guided_frame")}, windows of '
            f'{config.window_length * 1e3:g} ms, {config.sync_mode}')

    def destroy_node(self) -> None:
        """End the thread, which a failed constructor may not have started, then the node."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
        super().destroy_node()

    def _subscribe(self, config: EventSyncConfig) -> None:
        self.create_subscription(
            EventPacketMessage, 'events', self._on_packet,
            **subscription_options(self, 'events', EVENTS))
        image_type, on_image = \
            (CompressedImage, self._on_compressed) if config.compressed else \
            (Image, self._on_image)
        self.create_subscription(
            image_type, 'image', on_image, **subscription_options(self, 'image', FRAMES))
        self._calibration: CalibrationSource | None = None
        if config.registration == 'camera_info':
            self._calibration = CalibrationSource(
                self, config.scene_depth, self._on_registration)

    # Called on the executor's thread.

    def _on_packet(self, message: EventPacketMessage) -> None:
        self._input_queue.put_packet(packet_from_message(message), time.monotonic())

    def _on_compressed(self, message: CompressedImage) -> None:
        try:
            rgb = compressed_to_rgb(message, self._white_level)
        except ValueError as error:
            self._log_dropped_frame(error)
            return
        self._on_image(rgb_to_image(message.header, rgb))

    def _on_image(self, message: Image) -> None:
        try:
            check_image_size(message)
        except ValueError as error:
            self._log_dropped_frame(error)
            return
        frame = Frame(stamp_to_ns(message.header.stamp), message.height, message.width, message)
        self._input_queue.put_frame(frame, time.monotonic())

    def _log_dropped_frame(self, error: ValueError) -> None:
        self.get_logger().error(
            f'frame of {self.resolve_topic_name("image")} dropped: {error}',
            throttle_duration_sec=LOG_PERIOD_S)

    def _on_registration(self, registration: CameraRegistration) -> None:
        self._input_queue.put_call(lambda: self._register(registration))

    def _reconfigure(self) -> None:
        config, filters = self._settings.get(EventSyncConfig), self._settings.get(FilterConfig)
        self._input_queue.put_call(lambda: self._synchronizer.reconfigure(config, filters))
        if self._calibration is not None:
            self._calibration.scene_depth_m = config.scene_depth

    def _raise_failure(self) -> None:
        """End the node by an error of the thread: it must not go on without its work."""
        if self._failure is not None:
            raise self._failure

    # Called on the thread that owns the synchronizer.

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                queued = self._input_queue.get(POLL_PERIOD_S)
                if queued is not None:
                    self._take(queued)
                for guided in self._synchronizer.poll(time.monotonic()):
                    self._publish(guided)
                if time.monotonic() >= self._next_report_s:
                    self._publish_report()
        except BaseException as error:
            self._failure = error

    def _take(self, queued: QueueItem) -> None:
        try:
            if queued.kind is Kind.CALL:
                queued.item()
            elif queued.kind is Kind.FRAME:
                self._synchronizer.add_frame(queued.item, queued.arrival_s)
            else:
                self._synchronizer.add_packet(queued.item, time.monotonic(), queued.shed)
        except ValueError as error:
            what = 'event packet' if queued.kind is Kind.PACKET else 'frame'
            self.get_logger().error(
                f'{what} dropped: {error}', throttle_duration_sec=LOG_PERIOD_S)

    def _register(self, registration: CameraRegistration) -> None:
        self._synchronizer.set_registration(registration)
        self._monitor.reset()

    def _publish(self, guided: GuidedFrame) -> None:
        self._publisher.publish(to_guided_frame_message(guided))
        self._report.add_frame(guided, self.get_clock().now().nanoseconds)
        if guided.missing != Missing.COMPLETE:
            self.get_logger().warning(
                self._explain(guided), throttle_duration_sec=LOG_PERIOD_S)
        if time.monotonic() - self._last_check_s >= REPORT_PERIOD_S:
            self._last_check_s = time.monotonic()
            self._check_registration(guided)

    def _check_registration(self, guided: GuidedFrame) -> None:
        try:
            rgb = image_to_rgb(guided.frame.payload, self._white_level)
        except ValueError:
            return  # vlm_node answers INVALID
        self._monitor.observe(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), guided.activity)
        if self._monitor.warning:
            self.get_logger().warning(
                self._monitor.warning, throttle_duration_sec=12 * LOG_PERIOD_S)

    def _explain(self, guided: GuidedFrame) -> str:
        """Say what a frame lacks and the likely cause."""
        names = ', '.join(str(flag.name) for flag in Missing if flag and flag in guided.missing)
        text = f'incomplete frame: {names}, {guided.completeness:.0%} of its window covered'
        packet_ns = self._synchronizer.last_packet_ns
        if self._calibration is not None and self._calibration.waiting_for:
            return f'{text}; no registration yet, waiting for {self._calibration.waiting_for}'
        if packet_ns is None:
            return f'{text}; no event packet yet on {self.resolve_topic_name("events")}'
        if guided.missing & Missing.EVENTS_SHED:
            return (f'{text}; events come faster than they can be processed: '
                    f'{self._synchronizer.counters.num_shed_packets} packets were skimmed and '
                    f'{self._input_queue.counters.num_dropped_packets} dropped so far')
        # The latest packet came after the frame: compare with those that came together with it.
        ahead_s = (guided.frame.stamp_ns - packet_ns) / SECOND + guided.wait_s
        return (f'{text}; its stamp is {ahead_s:+.3f} s from that of the event packets that came '
                'with it')

    def _publish_report(self) -> None:
        now_s = time.monotonic()
        self._next_report_s = now_s + REPORT_PERIOD_S
        self._diagnostics.publish(self._report.make(
            self.get_clock().now().to_msg(), now_s, self._synchronizer, self._input_queue,
            self._monitor))
