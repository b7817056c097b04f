"""Which nodes are there and what they report: graph and diagnostics."""

from __future__ import annotations

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from epvlm_ros.ui.gauges import Parts

SILENT_AFTER_S = 3.0
FAULT_SHOWN_S = 10.0  # since it was last reported: what comes and goes can be read
NODES = ('event_sync_node', 'vlm_node')


class Presence:
    """What was heard of the nodes of one namespace, which ends in a slash."""

    def __init__(self, namespace: str) -> None:
        self._names = {f'{namespace}{name}'.lstrip('/'): name for name in NODES}
        self._parts: dict[str, Parts] = {name: {} for name in NODES}
        # The last fault of each part, and until when it is shown.
        self._faults: dict[str, dict[str, tuple[str, float]]] = {name: {} for name in NODES}
        self._heard_s: dict[str, float] = {}

    def add(self, message: DiagnosticArray) -> None:
        """Take the diagnostics of any node."""
        for status in message.status:
            full_name, _, part = status.name.rpartition(': ')
            name = self._names.get(full_name)
            if name is None:
                continue
            now_s = self._heard_s[name] = time.monotonic()
            self._parts[name][part] = {item.key: item.value for item in status.values}
            if status.level != DiagnosticStatus.OK:
                self._faults[name][part] = status.message, now_s + FAULT_SHOWN_S

    def parts(self, name: str) -> Parts:
        """Return the values that a node reports, by part; empty if it is silent."""
        return self._parts[name] if self._is_heard(name) else {}

    @property
    def cameras(self) -> list[str]:
        """Return the names of the cameras of ``vlm_node``, empty where it has one."""
        return [part.removeprefix('frames of ') for part in self.parts('vlm_node')
                if part.startswith('frames of ')]

    def states(self, there: set[str]) -> list[dict[str, Any]]:
        """
        Return each node's state and faults as objects of JSON.

        ``there`` are the full names of the nodes of the graph, without the first slash.
        """
        return [self._state(full_name, name, full_name in there)
                for full_name, name in self._names.items()]

    def _state(self, full_name: str, name: str, is_there: bool) -> dict[str, Any]:
        now_s = time.monotonic()
        faults = [f'{part}: {text}' for part, (text, until_s) in self._faults[name].items()
                  if until_s > now_s]
        if not is_there:
            state, faults = 'absent', []
        elif self._is_heard(name):
            state = self._parts[name].get('model', {}).get('state', 'active')
        else:
            state, faults = 'silent', []
        return {'node': f'/{full_name}', 'name': name, 'state': state, 'faults': faults}

    def _is_heard(self, name: str) -> bool:
        return time.monotonic() - self._heard_s.get(name, -1e9) < SILENT_AFTER_S
