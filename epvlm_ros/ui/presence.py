"""Which nodes are there and what they report: graph and diagnostics."""

from __future__ import annotations

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from epvlm_ros.ros.config import below
from epvlm_ros.ui.gauges import Parts

SILENT_AFTER_S = 3.0
FAULT_SHOWN_S = 10.0  # since it was last reported: what comes and goes can be read


class Presence:
    """
    What was heard of the nodes of one namespace, which ends in a slash.

    They are named as they are below it: vlm_node, and event_sync_node or, where ``vlm_node`` has
    several cameras, front/event_sync_node and so on.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace.lstrip('/')
        self._parts: dict[str, Parts] = {}
        # The last fault of each part, and until when it is shown.
        self._faults: dict[str, dict[str, tuple[str, float]]] = {}
        self._heard_s: dict[str, float] = {}

    def add(self, message: DiagnosticArray) -> None:
        """Take the diagnostics of any node, all its parts in one message."""
        heard: dict[str, Parts] = {}
        now_s, names = time.monotonic(), self.names
        for status in message.status:
            full_name, _, part = status.name.rpartition(': ')
            name = full_name.removeprefix(self._namespace)
            if name not in names or full_name != self._namespace + name:
                continue
            heard.setdefault(name, {})[part] = {item.key: item.value for item in status.values}
            if status.level != DiagnosticStatus.OK:
                self._faults.setdefault(name, {})[part] = status.message, now_s + FAULT_SHOWN_S
        self._parts.update(heard)
        self._heard_s.update(dict.fromkeys(heard, now_s))

    def parts(self, name: str) -> Parts:
        """Return the values that a node reports, by part; empty if it is silent."""
        return self._parts[name] if self._is_heard(name) else {}

    @property
    def cameras(self) -> list[str]:
        """Return the names of the cameras of ``vlm_node``, empty where it has one."""
        return [part.removeprefix('frames of ') for part in self._parts.get('vlm_node', {})
                if part.startswith('frames of ')]

    @property
    def sync_names(self) -> dict[str, str]:
        """Return the name of the ``event_sync_node`` of each camera; one has no name."""
        return {camera: below(camera, 'event_sync_node') for camera in self.cameras or ['']}

    @property
    def names(self) -> list[str]:
        """Return the names of all nodes."""
        return [*self.sync_names.values(), 'vlm_node']

    def states(self, there: set[str]) -> list[dict[str, Any]]:
        """
        Return each node's state and faults as objects of JSON.

        ``there`` are the full names of the nodes of the graph, without the first slash.
        """
        return [self._state(name, self._namespace + name in there) for name in self.names]

    def _state(self, name: str, is_there: bool) -> dict[str, Any]:
        now_s = time.monotonic()
        faults = [
            f'{part}: {text}' for part, (text, until_s) in self._faults.get(name, {}).items()
            if until_s > now_s]
        if not is_there:
            state, faults = 'absent', []
        elif self._is_heard(name):
            state = self._parts[name].get('model', {}).get('state', 'active')
        else:
            state, faults = 'silent', []
        return {
            'node': f'/{self._namespace}{name}', 'name': name, 'state': state, 'faults': faults}

    def _is_heard(self, name: str) -> bool:
        return time.monotonic() - self._heard_s.get(name, -1e9) < SILENT_AFTER_S
