"""Real nodes in processes of their own, and a client node in this one, on their own domain."""

from __future__ import annotations

from contextlib import ExitStack
import fcntl
import os
from pathlib import Path
import tempfile
import time
from typing import IO

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros.processes import NodeProcess
from epvlm_ros.ros.spinning_node import SpinningNode
from rclpy.qos import QoSProfile, ReliabilityPolicy

# What is tested is which frames come out, not whether a busy machine keeps up: queues are deep.
DEEP = QoSProfile(depth=500, reliability=ReliabilityPolicy.RELIABLE)
# Of the player, and of the node that it plays to: events are sent again until they arrive, too.
DEEP_PLAYER = {'qos_overrides./camera/image_raw.publisher.depth': 500,
               'qos_overrides./event_camera/events.publisher.depth': 5000,
               'qos_overrides./event_camera/events.publisher.reliability': 'reliable'}
DEEP_SYNC = {'qos_overrides./camera/image_raw.subscription.depth': 500,
             'qos_overrides./event_camera/events.subscription.depth': 5000,
             'qos_overrides./event_camera/events.subscription.reliability': 'reliable',
             'qos_overrides./event_guided_frame.publisher.depth': 500}
# What is tested is which events a frame gets, not how promptly a busy machine delivers them: what
# DDS lost is sent again after three seconds.
PATIENT_SYNC = {'max_wait': 5.0, 'history_length': 5.0, 'max_pending_frames': 1000,
                'max_event_delay': 10.0, **DEEP_SYNC}
START_TIMEOUT_S = 120
_DOMAINS = range(20, 100)


def claim_domain() -> tuple[int, IO[str]]:
    """Return a domain that no other test process on this machine has, and the lock on it."""
    for number in _DOMAINS:
        try:
            lock = Path(tempfile.gettempdir(), f'epvlm_ros_test_domain_{number}').open('w')
        except PermissionError:  # another user's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return number, lock
    raise RuntimeError(f'all domains of {_DOMAINS} are in use: wait for other runs of the tests')


# Held to the end of the process. Tests of one process follow each other.
DOMAIN_ID, _lock = claim_domain()


class RosGraph:
    """A context manager: a client node that spins on a thread, and processes of nodes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.environment = {
            'ROS_DOMAIN_ID': str(DOMAIN_ID), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}

    def __enter__(self) -> RosGraph:
        os.environ.update(self.environment)
        self._client = SpinningNode('client', DOMAIN_ID)
        self.node = self._client.node
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()
        self._client.close()

    def start(self, module: str, *arguments: str, parameters=None, remappings=None):
        """Start a node of this package; it ends with the graph."""
        command = list(arguments)
        if parameters or remappings:
            command.append('--ros-args')
        for name, value in (parameters or {}).items():
            command += ['-p', f'{name}:={value}']
        for name, value in (remappings or {}).items():
            command += ['-r', f'{name}:={value}']
        log = self._folder / f'{module}_{time.monotonic_ns()}.log'
        return self._stack.enter_context(NodeProcess(module, command, log, self.environment))


def wait_until(condition, timeout_s: float, what: str):
    """Return the first true value of ``condition``, or fail after a time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f'not within {timeout_s:g} s: {what}')


def wait_for_start(process, condition, what: str) -> None:
    """Wait for a node, however long a busy machine takes to start it; fail if it ends."""
    wait_until(lambda: condition() or not process.is_running(), START_TIMEOUT_S, what)
    assert process.is_running(), process.log.read_text()


def assert_whole_round(frames) -> None:
    """
    Check that each frame of a recording that loops had its events.

    The window of the first begins before the first event. What still waits for events when time
    is set back goes out without them; on an idle machine that is none or one.
    """
    first, *others = [frame.missing for frame in frames]
    assert first == EventGuidedFrame.WINDOW_START_MISSING
    num_complete = others.count(EventGuidedFrame.COMPLETE)
    assert num_complete > 0 and others == [
        *[EventGuidedFrame.COMPLETE] * num_complete,
        *[EventGuidedFrame.WINDOW_END_MISSING] * (len(others) - num_complete)]
