"""The lifecycle node that combines every camera frame with the events around it."""

from __future__ import annotations

from typing import Any, Callable

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.events.packet import packet_from_message
from epvlm_ros.events.registration import make_registration
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer, warm_up
from epvlm_ros.images import (
    check_image_encoding, check_image_size, compressed_to_rgb, image_to_rgb, WhiteLevel)
from epvlm_ros.ros.autostart_node import AutostartNode
from epvlm_ros.ros.calibration_source import CalibrationSource
from epvlm_ros.ros.config import EVENT_PACKET_MESSAGE, EventSyncNodeConfig
from epvlm_ros.ros.conversions import rgb_to_image
from epvlm_ros.ros.event_messages import event_array_to_packets, load_message_type
from epvlm_ros.ros.node_parameters import NodeParameters
from epvlm_ros.ros.qos import EVENTS, FRAMES, publisher_options, subscription_options
from epvlm_ros.ros.sync_worker import LOG_PERIOD_S, SyncWorker
from epvlm_ros.ros.topic_watch import TopicWatch
from epvlm_ros.time_units import stamp_to_ns
from event_camera_msgs.msg import EventPacket as EventPacketMessage
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage, Image

FAILURE_PERIOD_S = 1.0


class EventSyncNode(AutostartNode):
    """
    Publishes an EventGuidedFrame for every frame.

    Subscribes while it is active to ``events`` (event_camera_msgs/EventPacket, or what the
    parameter ``event_message`` says) and ``image`` (sensor_msgs/Image, or CompressedImage with the
    parameter ``compressed``), and with registration ``camera_info`` to what `CalibrationSource`
    needs; publishes ``event_guided_frame`` and ``/diagnostics``. Parameters are the fields of
    `EventSyncConfig`, `FilterConfig` and `EventSyncNodeConfig`. ``should_stop`` cuts the warm-up
    short. Callbacks only hand over to a `SyncWorker`, whose thread owns everything else.
    """

    def __init__(
        self, *, should_stop: Callable[[], bool] = lambda: False, **options: Any,
    ) -> None:
        super().__init__('event_sync_node', **options)
        self._should_stop = should_stop
        self._worker: SyncWorker | None = None
        self._calibration: CalibrationSource | None = None
        self._while_configured: list[Callable[[], Any]] = []  # what takes down what was made
        self._while_active: list[Callable[[], Any]] = []
        self._settings = NodeParameters(
            self, EventSyncConfig, FilterConfig, EventSyncNodeConfig,
            on_change=self._reconfigure, frozen=lambda: bool(self._while_configured))
        if self._settings.get(EventSyncNodeConfig).autostart:
            self.start()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the registration, compile what counts events, and create the publishers."""
        try:
            warm_up(self._settings.get(FilterConfig), self._should_stop)
            image_to_rgb(Image(height=1, width=1, encoding='mono8', step=1, data=b'0'))
            self._make_synchronizer()
            load_message_type(self._event_message)
        except Exception as error:  # of files and compilers
            return self._fail('configured', error)
        self._frames = self.create_publisher(
            EventGuidedFrame, 'event_guided_frame',
            **publisher_options(self, 'event_guided_frame', FRAMES))
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._while_configured += [
            lambda: self.destroy_publisher(self._frames),
            lambda: self.destroy_publisher(self._diagnostics)]
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe; no event of before an inactive time counts."""
        try:
            synchronizer = self._make_synchronizer()
        except Exception as error:  # the file of the registration may have changed
            return self._fail('activated', error)
        self._white_level = WhiteLevel(self.resolve_topic_name('image'))
        worker = self._worker = SyncWorker(
            self, synchronizer, self._white_level, publish=self._frames.publish,
            report=self._diagnostics.publish, waiting_for=self._waiting_for)
        timer = self.create_timer(
            FAILURE_PERIOD_S, self._raise_failure, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._while_active += [worker.stop, lambda: self.destroy_timer(timer)]
        config = synchronizer.config
        if config.registration == 'camera_info':
            self._calibration = CalibrationSource(
                self, config.scene_depth, worker.set_registration)
            self._while_active.append(self._calibration.destroy)
        self._num_array_packets = 0
        is_packet = self._event_message == EVENT_PACKET_MESSAGE
        self._watch_events = self._subscribe(
            load_message_type(self._event_message), 'events', EVENTS,
            self._on_packet if is_packet else self._on_event_array, raw=not is_packet)
        self._watch_image = self._subscribe(
            CompressedImage if config.compressed else Image, 'image', FRAMES,
            self._on_compressed if config.compressed else self._on_image)
        self.get_logger().info(
            f'{self.resolve_topic_name("events")} and {self.resolve_topic_name("image")} to '
            f'{self.resolve_topic_name("event_guided_frame")}, windows of '
            f'{config.window_length * 1e3:g} ms, {config.sync_mode}')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker; frames that wait are dropped."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything but the parameters."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End in any state."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """End the worker, then the node."""
        self._release()
        super().destroy_node()

    @property
    def _event_message(self) -> str:
        return self._settings.get(EventSyncNodeConfig).event_message

    def _make_synchronizer(self) -> FrameSynchronizer:
        config = self._settings.get(EventSyncConfig)
        return FrameSynchronizer(
            config, self._settings.get(FilterConfig), make_registration(config))

    def _subscribe(
        self, message_type: Any, topic: str, qos: Any, callback: Any, raw: bool = False,
    ) -> TopicWatch:
        subscription = self.create_subscription(
            message_type, topic, callback, raw=raw, **subscription_options(self, topic, qos))
        watch = TopicWatch(self, topic, message_type)
        self._while_active += [lambda: self.destroy_subscription(subscription), watch.destroy]
        return watch

    def _stop(self) -> None:
        self._worker = self._calibration = None
        while self._while_active:
            self._while_active.pop()()

    def _release(self) -> None:
        self._stop()
        while self._while_configured:
            self._while_configured.pop()()

    def _waiting_for(self) -> str:
        calibration = self._calibration  # the worker's thread asks
        return calibration.waiting_for if calibration is not None else ''

    def _on_packet(self, message: EventPacketMessage) -> None:
        self._watch_events.note_message()
        if self._worker is not None:
            self._worker.put_packet(packet_from_message(message))

    def _on_event_array(self, data: bytes) -> None:
        self._watch_events.note_message()
        try:
            packets = list(event_array_to_packets(data, self._num_array_packets))
        except ValueError as error:
            self.get_logger().error(
                f'message of {self.resolve_topic_name("events")} dropped: {error}',
                throttle_duration_sec=LOG_PERIOD_S)
            return
        self._num_array_packets += len(packets)
        if self._worker is not None:
            for packet in packets:
                self._worker.put_packet(packet)

    def _on_compressed(self, message: CompressedImage) -> None:
        self._watch_image.note_message()
        try:
            rgb = compressed_to_rgb(message, self._white_level)
        except ValueError as error:
            self._log_frame(f'dropped: {error}')
            return
        self._on_image(rgb_to_image(message.header, rgb))

    def _on_image(self, message: Image) -> None:
        self._watch_image.note_message()
        is_convertible = True
        try:
            check_image_size(message)
        except ValueError as error:
            self._log_frame(f'dropped: {error}')
            return
        try:
            check_image_encoding(message)
        except ValueError as error:
            is_convertible = False  # it goes on: vlm_node answers INVALID
            self._log_frame(f'cannot be converted: {error}')
        frame = Frame(stamp_to_ns(message.header.stamp), message.height, message.width, message)
        if self._worker is not None:
            self._worker.put_frame(frame, is_convertible)

    def _log_frame(self, text: str) -> None:
        self.get_logger().error(
            f'frame of {self.resolve_topic_name("image")} {text}',
            throttle_duration_sec=LOG_PERIOD_S)

    def _reconfigure(self) -> None:
        config, filters = self._settings.get(EventSyncConfig), self._settings.get(FilterConfig)
        if self._worker is not None:
            self._worker.reconfigure(config, filters)
        if self._calibration is not None:
            self._calibration.scene_depth_m = config.scene_depth

    def _raise_failure(self) -> None:
        """End the node by an error of the worker: it must not go on without its work."""
        if self._worker is not None and self._worker.failure is not None:
            raise self._worker.failure
