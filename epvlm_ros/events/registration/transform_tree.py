"""Poses of frames in each other, as a tree: each frame has one parent."""

from __future__ import annotations

from typing import Any

from epvlm_ros.clean_text import clean_text
import numpy as np

MAX_NAME_LENGTH = 256
MAX_FRAMES = 10_000


class TransformTree:
    """
    Keeps the latest pose of every frame in its parent, and chains them.

    A pose is a 4 x 4 matrix that takes a point of the child's frame to the parent's, in metres.
    """

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, np.ndarray]] = {}

    def set_pose(self, parent: str, child: str, pose: np.ndarray) -> None:
        """
        Set the pose of ``child`` in ``parent``; it replaces any earlier one, and parent.

        Raises ValueError, and changes nothing, if a name is empty or too long, there are too many
        frames, or they would form a loop.
        """
        if not parent or not child:
            raise ValueError(
                f'frames {clean_text(parent)!r} and {clean_text(child)!r}: give both a name')
        if max(len(parent), len(child)) > MAX_NAME_LENGTH or \
                len(self._parents) >= MAX_FRAMES and child not in self._parents:
            raise ValueError(
                f'frames {clean_text(parent)!r} and {clean_text(child)!r} are left out: give '
                f'names of at most {MAX_NAME_LENGTH} characters, and at most {MAX_FRAMES} frames')
        ancestor: str | None = parent
        while ancestor is not None:
            if ancestor == child:
                raise ValueError(
                    f'frame {clean_text(child)!r} would be its own ancestor by '
                    f'{clean_text(parent)!r}: each frame has one parent, let one node send it')
            ancestor = self._parents[ancestor][0] if ancestor in self._parents else None
        self._parents[child] = parent, np.array(pose, np.float64).reshape(4, 4)

    def find(self, target: str, source: str) -> np.ndarray | None:
        """
        Return the float64 4 x 4 matrix from points of frame ``source`` to frame ``target``.

        None while nothing connects the two; the identity for one and the same frame.
        """
        if target == source:
            return np.eye(4)
        to_target, to_source = self._ancestors(target), self._ancestors(source)
        for name, from_source in to_source.items():
            if name in to_target:
                return np.linalg.inv(to_target[name]) @ from_source
        return None

    def _ancestors(self, frame: str) -> dict[str, np.ndarray]:
        """Return for a frame and all its ancestors, closest first, its pose in them."""
        poses = {frame: np.eye(4)}
        pose = np.eye(4)
        while frame in self._parents:
            frame, in_parent = self._parents[frame]
            pose = in_parent @ pose
            poses[frame] = pose
        return poses


def pose_from_message(transform: Any) -> np.ndarray:
    """
    Return the 4 x 4 matrix of an object with the fields of ``geometry_msgs/Transform``.

    Raises ValueError if a number is not finite or the quaternion is zero.
    """
    rotation, translation = transform.rotation, transform.translation
    quaternion = np.array([rotation.x, rotation.y, rotation.z, rotation.w], np.float64)
    shift = np.array([translation.x, translation.y, translation.z], np.float64)
    length = float(np.linalg.norm(quaternion))
    if not (np.all(np.isfinite(shift)) and np.isfinite(length) and length > 1e-6):
        raise ValueError(
            f'quaternion {quaternion.tolist()} and translation {shift.tolist()} are no transform: '
            'give finite numbers and a quaternion of length 1')
    x, y, z, w = quaternion / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
    pose[:3, 3] = shift
    return pose
