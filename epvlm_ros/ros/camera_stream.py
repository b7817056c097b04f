"""One camera of a node: its guided frames of now and then, and the overlay of its answers."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from epvlm_interfaces.msg import Answer, EventGuidedFrame
from epvlm_ros.clean_text import clean_text
from epvlm_ros.ros.buffered_frame import BufferedFrame
from epvlm_ros.ros.config import below, VlmNodeConfig
from epvlm_ros.ros.frame_faults import explain_no_frame, explain_no_past, explain_stale_frame
from epvlm_ros.ros.guided_frame_buffer import GuidedFrameBuffer
from epvlm_ros.ros.node_parameters import NodeParameters
from epvlm_ros.ros.qos import FRAMES, publisher_options, subscription_options
from epvlm_ros.ros.topic_watch import TopicWatch
from epvlm_ros.ros.vlm_diagnostics import CameraStatus
from epvlm_ros.time_units import SECOND
from epvlm_ros.vlm.engine import SceneStatus
from rclpy.clock import ClockChange, TimeJump
from rclpy.node import Node
from sensor_msgs.msg import Image

LOG_PERIOD_S = 10.0
Refusal = tuple[int, str]  # status and message of an answer


class FoundFrames(NamedTuple):
    """
    What a question is about, oldest first, or why there is nothing.

    ``age_ns`` is that of the latest of the frames, ``is_past`` whether there is a later one.
    """

    frames: tuple[BufferedFrame, ...] = ()
    age_ns: int = 0
    is_past: bool = False
    camera: str = ''
    refusal: Refusal | None = None


class CameraStream:
    """
    Subscribes to the guided frames of a camera and keeps them.

    Topics are below the name of the camera; a camera without a name is the only one.

    Parameters
    ----------
    node, settings
        Of the node.
    name : str
        Of the camera.
    on_frame : callable
        Takes this and a frame that questions may be about from now on.

    """

    def __init__(
        self, node: Node, settings: NodeParameters, name: str,
        on_frame: Callable[[CameraStream, EventGuidedFrame], None],
    ) -> None:
        self.name, self.topic = name, below(name, 'event_guided_frame')
        self.frames = GuidedFrameBuffer()
        self.num_frames = 0  # since the start
        self._node, self._settings, self._on_frame = node, settings, on_frame
        overlay = below(name, 'overlay')
        self._overlays: Any = node.create_publisher(
            Image, overlay, **publisher_options(node, overlay, FRAMES))
        self._subscription = node.create_subscription(
            EventGuidedFrame, self.topic, self._take,
            **subscription_options(node, self.topic, FRAMES))
        self._watch = TopicWatch(node, self.topic, EventGuidedFrame)

    def destroy(self) -> None:
        """Leave the topics."""
        self._watch.destroy()
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._overlays)

    @property
    def publish_overlay(self) -> Callable[[Image], None] | None:
        """Return what publishes overlays; None while nobody subscribes."""
        return self._overlays.publish if self._overlays.get_subscription_count() else None

    def make_status(self, now_ns: int, scene: SceneStatus | None) -> CameraStatus:
        """Return what there is of this camera at a time of the node, with its scene in memory."""
        age_ns, span = self.frames.age_ns(now_ns), self.frames.history.span
        return CameraStatus(
            self.name, self.num_frames, age_ns / SECOND if age_ns is not None else None,
            self.frames.silent_s, (span.end_ns - span.start_ns) / SECOND if span else 0.0, scene)

    def follow_jump(self, jump: TimeJump) -> None:
        """Go with the clock of the node, which has jumped."""
        if jump.clock_change in (
                ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            self.frames.clear()
        else:
            self.frames.follow_jump(
                jump.delta.nanoseconds, self._node.get_clock().now().nanoseconds)

    def find_frames(
        self, time_ns: int | None, now_ns: int, config: VlmNodeConfig,
    ) -> FoundFrames:
        """
        Return the frames around a time, None for the latest ones; both times are of the frames.

        ``config`` is that of the question. See ``GuidedFrameBuffer.frame_time_ns``.
        """
        latest = self.frames.get(config)
        if not latest:
            return FoundFrames(camera=self.name, refusal=(
                Answer.NO_FRAME, explain_no_frame(self._node, self.topic)))
        if time_ns is not None:
            return self._find_past(time_ns, now_ns, config)
        age_ns, refusal = now_ns - latest[-1].stamp_ns, None
        if abs(age_ns) > config.max_frame_age * SECOND:
            refusal = Answer.STALE_FRAME, explain_stale_frame(
                self._node, self.topic, age_ns / SECOND, config.max_frame_age,
                self.frames.silent_s)
        return FoundFrames(latest, age_ns, False, self.name, refusal)

    def _find_past(self, time_ns: int, now_ns: int, config: VlmNodeConfig) -> FoundFrames:
        history = self.frames.history
        frames = history.around(time_ns, config.num_moments, config.moment_period)
        span, reach_ns = history.span, config.max_frame_age * SECOND
        if span is None or not span.start_ns <= time_ns <= span.end_ns + reach_ns or \
                min(abs(frame.stamp_ns - time_ns) for frame in frames) > reach_ns:
            return FoundFrames(camera=self.name, refusal=(Answer.NO_FRAME, explain_no_past(
                time_ns, now_ns, span, config.history_memory, history.is_full)))
        return FoundFrames(
            frames, now_ns - frames[-1].stamp_ns, frames[-1].key != self.frames.latest_key,
            self.name)

    def _take(self, message: EventGuidedFrame) -> None:
        self.num_frames += 1
        self._watch.note_message()
        message.header.frame_id = clean_text(message.header.frame_id)
        before = self.frames.last_seen
        if before is not None and before.header.frame_id != message.header.frame_id:
            self._node.get_logger().warning(
                f'{self._node.resolve_topic_name(self.topic)} has frames of two cameras, '
                f'frame_id {before.header.frame_id!r} and {message.header.frame_id!r}: give each '
                'camera topics and an event_sync_node of its own',
                throttle_duration_sec=LOG_PERIOD_S)
        if self.frames.add(message, self._settings.get(VlmNodeConfig)):
            self._on_frame(self, message)
