"""The thread that gives frames their events, publishes them and reports on them."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.packet import EventPacket
from epvlm_ros.events.registration import CameraRegistration, RegistrationMonitor
from epvlm_ros.events.sync.completeness import Missing
from epvlm_ros.events.sync.guided_frame import Frame, GuidedFrame
from epvlm_ros.events.sync.input_queue import InputQueue, Kind, QueueItem
from epvlm_ros.events.sync.stamp_monitor import StampMonitor
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
from epvlm_ros.images import image_to_rgb, WhiteLevel
from epvlm_ros.ros.conversions import to_guided_frame_message
from epvlm_ros.ros.diagnostics import SyncDiagnostics
from epvlm_ros.time_units import SECOND
from rclpy.node import Node

POLL_PERIOD_S = 0.002
LOG_PERIOD_S = 5.0
REPORT_PERIOD_S = 1.0
MEGABYTE = 1_000_000


class SyncWorker:
    """
    Owns a synchronizer, on a thread; what is put in waits in a bounded queue.

    ``publish`` and ``report`` are called on the thread. ``waiting_for`` returns what is missing
    for a registration, '' where nothing is. ``failure`` is an error that ended the thread.
    """

    def __init__(
        self, node: Node, synchronizer: FrameSynchronizer, white_level: WhiteLevel, *,
        publish: Callable[[EventGuidedFrame], None], report: Callable[[DiagnosticArray], None],
        waiting_for: Callable[[], str],
    ) -> None:
        config = synchronizer.config
        self._node, self._synchronizer, self._white_level = node, synchronizer, white_level
        self._send, self._report, self._waiting_for = publish, report, waiting_for
        self._input_queue = InputQueue(
            config.max_event_delay, round(config.max_queued_event_data * MEGABYTE),
            config.max_pending_frames)
        self._monitor = RegistrationMonitor()
        self._stamp_monitor = StampMonitor()
        self._diagnostics = SyncDiagnostics(node.get_fully_qualified_name())
        self._next_report_s = time.monotonic() + REPORT_PERIOD_S
        self._last_check_s = time.monotonic()  # of the registration
        self._warn_of(config)
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='event_sync', daemon=True)
        self._thread.start()

    def put_packet(self, packet: EventPacket) -> None:
        """Let an event packet wait for its turn."""
        self._input_queue.put_packet(packet, time.monotonic())

    def put_frame(self, frame: Frame, is_convertible: bool) -> None:
        """Let a frame wait for its turn; one that nobody can convert is counted as such."""
        self._diagnostics.num_unconvertible_frames += not is_convertible
        self._input_queue.put_frame(frame, time.monotonic())

    def set_registration(self, registration: CameraRegistration) -> None:
        """Use a new registration from now on."""
        def register() -> None:
            self._synchronizer.set_registration(registration)
            self._monitor.reset()

        self._input_queue.put_call(register)

    def reconfigure(self, config: EventSyncConfig, filters: Any) -> None:
        """Use new values of the dynamic parameters from now on."""
        self._input_queue.put_call(lambda: self._synchronizer.reconfigure(config, filters))
        self._warn_of(config)

    def stop(self) -> None:
        """End the thread and wait for its end."""
        self._stopping.set()
        self._thread.join()

    def _warn_of(self, config: EventSyncConfig) -> None:
        if config.warning:
            self._node.get_logger().warning(config.warning)

    # Called on the thread.

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
            self.failure = error

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
            self._node.get_logger().error(
                f'{what} dropped: {error}', throttle_duration_sec=LOG_PERIOD_S)

    def _publish(self, guided: GuidedFrame) -> None:
        self._send(to_guided_frame_message(guided))
        now_ns = self._node.get_clock().now().nanoseconds
        self._diagnostics.add_frame(guided, now_ns)
        if self._synchronizer.config.sync_mode == 'free_running':  # else stamps do not matter
            self._stamp_monitor.observe(
                self._synchronizer.last_packet_ns, guided.frame.stamp_ns, guided.wait_s, now_ns)
        if guided.missing != Missing.COMPLETE:
            self._node.get_logger().warning(
                self._explain(guided), throttle_duration_sec=LOG_PERIOD_S)
        if time.monotonic() - self._last_check_s >= REPORT_PERIOD_S:
            self._last_check_s = time.monotonic()
            self._check_registration(guided)

    def _check_registration(self, guided: GuidedFrame) -> None:
        try:
            rgb = image_to_rgb(guided.frame.payload, self._white_level)
        except ValueError:
            return  # was logged when the frame came
        self._monitor.observe(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), guided.activity)
        warning = self._stamp_monitor.warning or self._monitor.warning
        if warning:
            self._node.get_logger().warning(warning, throttle_duration_sec=12 * LOG_PERIOD_S)

    def _explain(self, guided: GuidedFrame) -> str:
        """Say what a frame lacks and the likely cause."""
        names = ', '.join(str(flag.name) for flag in Missing if flag and flag in guided.missing)
        text = f'incomplete frame: {names}, {guided.completeness:.0%} of its window covered'
        packet_ns, config = self._synchronizer.last_packet_ns, self._synchronizer.config
        waiting_for = self._waiting_for()
        if waiting_for:
            return f'{text}; no registration yet, waiting for {waiting_for}'
        if packet_ns is None:
            return f'{text}; no event packet yet on {self._node.resolve_topic_name("events")}'
        if guided.missing & (Missing.EVENTS_DISCARDED | Missing.NO_EVENT_STREAM):
            return f'{text}; {guided.reason}'
        if guided.missing & Missing.EVENTS_SHED:
            return (f'{text}; events come faster than they can be processed: '
                    f'{self._synchronizer.counters.num_shed_packets} packets were skimmed and '
                    f'{self._input_queue.counters.num_dropped_packets} dropped so far')
        # The latest packet came after the frame: compare with those that came together with it.
        ahead_s = (guided.frame.stamp_ns - packet_ns) / SECOND + guided.wait_s
        end_s = config.window_centre + config.window_length / 2
        if guided.missing & Missing.WINDOW_END_MISSING and ahead_s < end_s and \
                ahead_s + end_s > config.max_wait:
            return (f'{text}; its window ends {end_s:g} s after its stamp, but it waits for '
                    f'{config.max_wait:g} s only: give a longer max_wait or a shorter '
                    'window_length')
        return (f'{text}; its stamp is {ahead_s:+.3f} s from that of the event packets that came '
                'with it')

    def _publish_report(self) -> None:
        now_s = time.monotonic()
        self._next_report_s = now_s + REPORT_PERIOD_S
        self._report(self._diagnostics.make(
            self._node.get_clock().now().to_msg(), now_s, self._synchronizer, self._input_queue,
            self._monitor, self._stamp_monitor))
