"""What came of queries and frames, as diagnostic messages of ``vlm_node``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
import threading
from typing import Any, NamedTuple, Sequence

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from epvlm_interfaces.msg import Answer
from epvlm_ros.ros.answer_status import STATUS_NAMES
from epvlm_ros.ros.diagnostics import make_status
from epvlm_ros.ros.frame_faults import SILENT_AFTER_S
from epvlm_ros.ros.shadow_answers import ShadowStatus
from epvlm_ros.ros.watch_services import WatchStatus
from epvlm_ros.time_units import SECOND
from epvlm_ros.vlm.engine import SceneStatus, ServerStatus
import numpy as np
from std_msgs.msg import Header

_MANY_RESTARTS = 3  # of the scene in a second: there is no use in keeping it
# Outcomes that make the level a warning, and what the text says.
_FAULTS = {
    Answer.NO_FRAME: 'queries found no guided frame',
    Answer.STALE_FRAME: 'queries found only a stale guided frame',
    Answer.BUSY: 'queries come faster than they are answered',
    Answer.INVALID: 'queries or frames are at fault',
    Answer.ERROR: 'answers failed',
    Answer.DEADLINE: 'answers missed their deadline',
}


class CameraStatus(NamedTuple):
    """
    What there is of a camera: frames since the start, the latest one, and the past.

    The latest frame is ``age_s`` old, None if there is none, and came ``silent_s`` ago; those that
    are kept reach ``history_s`` back from it. ``scene`` is None where there is none in memory.
    """

    name: str
    num_frames: int
    age_s: float | None
    silent_s: float
    history_s: float
    scene: SceneStatus | None = None


class VlmDiagnostics:
    """
    Makes the report of a period: levels and rates are about it, numbers since the start.

    ``name`` is the full name of the node. Answers may be added from any thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name.lstrip('/')
        self._lock = threading.Lock()
        self._totals: Counter[int] = Counter()
        self._news: list[Answer] = []
        self._frames_before: Counter[str] = Counter()
        self._scenes_before: dict[str, SceneStatus] = {}
        self._server_before = ServerStatus()

    def add_answer(self, answer: Answer) -> None:
        """Count the outcome of a query."""
        with self._lock:
            self._totals[answer.status] += 1
            self._news.append(answer)

    def make(
        self, stamp: Time, period_s: float, state: str, model: str, num_queued: int,
        cameras: Sequence[CameraStatus] = (), num_encoded: int = 0,
        watches: WatchStatus = WatchStatus(), memory_taken: int | None = None,
        shadow: ShadowStatus | None = None, server: ServerStatus | None = None,
    ) -> DiagnosticArray:
        """
        Return what happened since the last call, in a few parts.

        ``num_encoded`` frames of all cameras were encoded; ``memory_taken`` are bytes of the
        model, None without one. ``shadow`` is None where no answers are compared, ``server`` where
        the model is on this computer.
        """
        with self._lock:
            news, self._news = self._news, []
            totals = dict(self._totals)
        status = [
            make_status(self._name, 'model', [] if state == 'active' else [f'the node is {state}'],
                        {'state': state, 'model': model, 'num_encoded': num_encoded,
                         'memory_mb': None if memory_taken is None else memory_taken / 1e6}),
            self._queries(totals, news, num_queued),
            *(self._frames(period_s, camera) for camera in cameras),
            make_status(self._name, 'watches', list(watches.faults), {
                'num_watches': watches.num_watches, 'num_asked': watches.num_asked,
                'num_held_back': watches.num_held_back, 'num_busy': watches.num_busy}),
        ]
        status += [self._scene(period_s, camera.name, camera.scene) for camera in cameras
                   if camera.scene is not None]
        if shadow is not None:
            status.append(self._shadow(shadow))
        if server is not None:
            status.append(self._server(server))
        return DiagnosticArray(header=Header(stamp=stamp), status=status)

    def _shadow(self, shadow: ShadowStatus) -> DiagnosticStatus:
        number = shadow.num_compared

        def per_answer(total: float) -> float | None:
            return total / number if number else None

        return make_status(self._name, 'agreement with the dense model', [], {
            'num_compared': number, 'num_broken_off': shadow.num_broken_off,
            'num_failed': shadow.num_failed, 'same_text': per_answer(shadow.num_same_text),
            'same_first_token': per_answer(shadow.num_same_first_token),
            'mean_log_probability_lost': per_answer(shadow.log_probability_lost)})

    def _server(self, server: ServerStatus) -> DiagnosticStatus:
        before, self._server_before = self._server_before, server
        faults = []
        if server.circuit != 'closed':
            faults = [f'the server is left alone: {server.last_fault}']
        elif server.num_failed > before.num_failed:
            faults = [f'the server failed: {server.last_fault}']
        return make_status(self._name, 'server', faults, {
            name: value for name, value in asdict(server).items() if name != 'latency_s'} | {
            'latency_to_first_token_s': server.latency_s})

    def _queries(
        self, totals: dict[int, int], news: list[Answer], num_queued: int,
    ) -> DiagnosticStatus:
        values: dict[str, Any] = {'num_queued': num_queued}
        values.update({f'num_{name.lower()}': totals.get(status, 0)
                       for status, name in STATUS_NAMES.items()})
        answered = [answer for answer in news if answer.status == Answer.OK]
        for name in ('time_to_first_token', 'total_time'):
            times_s = [getattr(answer, name) for answer in answered]
            for label, percent in (('median', 50), ('p99', 99)):
                values[f'{name}_{label}_s'] = \
                    float(np.percentile(times_s, percent)) if times_s else None
        seen = {answer.status for answer in news}
        faults = [text for status, text in _FAULTS.items() if status in seen]
        return make_status(self._name, 'queries', faults, values)

    def _scene(self, period_s: float, camera: str, scene: SceneStatus) -> DiagnosticStatus:
        before = self._scenes_before.get(camera, SceneStatus())
        self._scenes_before[camera] = scene
        faults = []
        if scene.num_restarts - before.num_restarts > _MANY_RESTARTS * period_s:
            faults = [f'the scene begins anew all the time: {scene.last_restart}']
        return make_status(self._name, _part('scene', camera), faults, {
            'num_updates': scene.num_updates,
            'updates_per_s': (scene.num_updates - before.num_updates) / period_s,
            'tokens_refreshed_per_s': (
                scene.num_tokens_refreshed - before.num_tokens_refreshed) / period_s,
            'gflops_per_s': (scene.flops - before.flops) / period_s / 1e9,
            'num_restarts': scene.num_restarts, 'last_restart': scene.last_restart,
            'num_tokens': scene.num_tokens, 'num_known': scene.num_known,
            'num_stale': scene.num_stale, 'num_doubtful': scene.num_doubtful,
            'oldest_age_s': scene.oldest_age_ns / SECOND,
            'memory_mb': scene.num_bytes / 1e6})

    def _frames(self, period_s: float, camera: CameraStatus) -> DiagnosticStatus:
        num_new = camera.num_frames - self._frames_before[camera.name]
        self._frames_before[camera.name] = camera.num_frames
        faults = []
        if camera.silent_s > SILENT_AFTER_S:
            faults = ['no guided frame lately' if camera.num_frames else 'no guided frame yet']
        return make_status(self._name, _part('frames', camera.name), faults, {
            'num_frames': camera.num_frames, 'frames_per_s': num_new / period_s,
            'age_s': camera.age_s, 'history_s': camera.history_s})


def _part(name: str, camera: str) -> str:
    return f'{name} of {camera}' if camera else name
