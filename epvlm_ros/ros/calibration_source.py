"""Registration from two CameraInfo and the transform between the cameras."""

from __future__ import annotations

from typing import Callable

from epvlm_ros.clean_text import clean_text
from epvlm_ros.events.registration import (
    camera_from_info, CameraModel, CameraRegistration, pose_from_message, TransformTree)
import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

_ROLES = ('event_camera_info', 'image_camera_info')
# Less than half a pixel of most cameras; a joint that trembles must not rebuild all tables.
_SAME_ROTATION = 1e-3
_SAME_SHIFT_M = 5e-4


class CalibrationSource:
    """
    Makes a new registration whenever a ``CameraInfo`` or the transform changes.

    Subscribes to ``event_camera_info`` and ``image_camera_info`` (sensor_msgs/CameraInfo; names
    relative to the node), ``/tf`` and ``/tf_static``. ``on_registration`` is called in the node's
    executor. Unusable messages are logged once and leave the last good registration.
    """

    def __init__(
        self, node: Node, scene_depth_m: float,
        on_registration: Callable[[CameraRegistration], None],
    ) -> None:
        self._node = node
        self._scene_depth_m = scene_depth_m
        self._on_registration = on_registration
        self._tree = TransformTree()
        self._cameras: dict[str, tuple[str, CameraModel]] = {}
        self._messages: dict[str, CameraInfo] = {}
        self._transform: np.ndarray | None = None  # of the last registration
        self._is_stale = True  # a camera or the depth differs from the last registration
        self._warned: set[str] = set()
        self._subscriptions = [
            node.create_subscription(
                CameraInfo, role, lambda message, role=role: self._on_info(role, message),
                qos_profile_sensor_data)
            for role in _ROLES]
        for topic, durability in (
                ('/tf_static', DurabilityPolicy.TRANSIENT_LOCAL),
                ('/tf', DurabilityPolicy.VOLATILE)):
            profile = QoSProfile(
                depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
            self._subscriptions.append(
                node.create_subscription(TFMessage, topic, self._on_transforms, profile))

    @property
    def scene_depth_m(self) -> float:
        """Return the scene depth in metres; setting it makes a new registration."""
        return self._scene_depth_m

    @scene_depth_m.setter
    def scene_depth_m(self, depth_m: float) -> None:
        if depth_m != self._scene_depth_m:
            self._scene_depth_m = depth_m
            self._is_stale = True
            self._update()

    @property
    def waiting_for(self) -> str:
        """Name what is missing for a registration; '' once it is up to date."""
        if not self._is_stale:
            return ''
        missing = [self._node.resolve_topic_name(role) for role in _ROLES
                   if role not in self._cameras]
        if missing:
            return ' and '.join(missing)
        (event_frame, _), (image_frame, _) = (self._cameras[role] for role in _ROLES)
        return (f'a transform from {clean_text(event_frame)!r} to {clean_text(image_frame)!r} on '
                '/tf or /tf_static')

    def destroy(self) -> None:
        """Unsubscribe; the callback is not called any more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _on_info(self, role: str, message: CameraInfo) -> None:
        previous = self._messages.get(role)
        if previous is not None and _is_same_info(previous, message):
            return
        self._messages[role] = message
        try:
            if not message.header.frame_id:
                raise ValueError('it has no frame_id: set the one that TF knows')
            self._cameras[role] = message.header.frame_id, camera_from_info(message)
        except ValueError as error:
            self._warn_once(f'{self._node.resolve_topic_name(role)} is unusable: {error}')
            return
        self._is_stale = True
        self._update()

    def _on_transforms(self, message: TFMessage) -> None:
        for stamped in message.transforms:
            try:
                self._tree.set_pose(
                    stamped.header.frame_id, stamped.child_frame_id,
                    pose_from_message(stamped.transform))
            except ValueError as error:
                self._warn_once(f'a transform is unusable: {error}')
        self._update()

    def _update(self) -> None:
        """Make a registration if all is known and something differs from the last one."""
        if len(self._cameras) < len(_ROLES):
            return
        (event_frame, event_camera), (image_frame, image_camera) = (
            self._cameras[role] for role in _ROLES)
        transform = self._tree.find(image_frame, event_frame)
        if transform is None:
            return
        if not self._is_stale and self._transform is not None and \
                _is_same(self._transform, transform):
            return
        try:
            registration = CameraRegistration(
                event_camera, image_camera, transform, self._scene_depth_m)
        except ValueError as error:
            self._warn_once(f'no registration from camera_info: {error}')
            return
        self._transform, self._is_stale = transform, False
        self._on_registration(registration)

    def _warn_once(self, text: str) -> None:
        """Log a warning once: it would come again with every message."""
        if text not in self._warned and len(self._warned) < 100:
            self._warned.add(text)
            self._node.get_logger().warning(text)


def _is_same_info(one: CameraInfo, other: CameraInfo) -> bool:
    """Return whether two messages describe one calibration; their stamps do not count."""
    names = ('width', 'height', 'distortion_model', 'binning_x', 'binning_y', 'roi')
    return one.header.frame_id == other.header.frame_id and all(
        getattr(one, name) == getattr(other, name) for name in names) and \
        np.array_equal(one.k, other.k) and np.array_equal(one.d, other.d)


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(
        np.abs(one[:3, :3] - other[:3, :3]).max() < _SAME_ROTATION
        and np.abs(one[:3, 3] - other[:3, 3]).max() < _SAME_SHIFT_M)
