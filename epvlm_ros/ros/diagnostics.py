"""Diagnostics of event_sync_node."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from epvlm_ros.events.registration import RegistrationMonitor
from epvlm_ros.events.sync.guided_frame import GuidedFrame
from epvlm_ros.events.sync.input_queue import InputQueue
from epvlm_ros.events.sync.stamp_monitor import StampMonitor
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
from epvlm_ros.time_units import SECOND
import numpy as np
from std_msgs.msg import Header

# Counters whose growth within a period is a warning, and its text.
_EVENT_FAULTS = {
    'num_lost_packets': 'packets were lost on the way',
    'num_bad_packets': 'packets are of no known encoding, or of another camera than the others',
    'num_shed_packets': 'events come faster than they can be processed',
    'num_dropped_packets': 'events come faster than they can be processed',
    'decoder_num_unknown_words': 'packets hold words of unknown meaning',
    'decoder_num_out_of_range': 'events lie outside the sensor',
    'num_change_doubts': 'some of what changed is not known: events were lost or came too late, '
                         'or a frame did',
}
_FRAME_FAULTS = {
    'num_late_frames': 'frames had to go without waiting for all of their events',
    'num_incomplete_frames': 'frames lack events',
    'num_dropped_frames': 'frames come faster than they can be processed',
    'num_unmatched_frames': 'frames have no trigger edge',
    'num_unconvertible_frames': 'frames have an encoding that cannot be converted',
}


class SyncDiagnostics:
    """Makes periodic reports: levels and rates are about the period, counters since the start."""

    def __init__(self, node_name: str) -> None:
        self._name = node_name.lstrip('/')
        self._waits_s: list[float] = []
        self._latencies_s: list[float] = []
        self._totals: dict[str, int] = {}
        self._made_s: float | None = None
        self.num_unconvertible_frames = 0

    def add_frame(self, guided: GuidedFrame, now_ns: int) -> None:
        """Count a guided frame that was published at ``now_ns`` of ROS time."""
        self._waits_s.append(guided.wait_s)
        self._latencies_s.append((now_ns - guided.frame.stamp_ns) / SECOND)

    def make(
        self, stamp: Time, now_s: float, synchronizer: FrameSynchronizer, input_queue: InputQueue,
        monitor: RegistrationMonitor, stamp_monitor: StampMonitor,
    ) -> DiagnosticArray:
        """Report what happened since the last call, in four parts."""
        totals = _totals(synchronizer, input_queue)
        totals['num_unconvertible_frames'] = self.num_unconvertible_frames
        news = {key: value - self._totals.get(key, 0) for key, value in totals.items()}
        period_s = now_s - self._made_s if self._made_s is not None else None
        rates = {f'{key[4:]}_per_s': news[key] / period_s if period_s else None
                 for key in ('num_packets', 'num_events', 'num_bytes', 'num_frames')}
        status = [
            self._events(totals, news, rates, synchronizer, input_queue),
            self._clock(synchronizer, stamp_monitor),
            self._frames(totals, news, rates),
            self._registration(monitor),
        ]
        self._totals, self._made_s = totals, now_s
        self._waits_s.clear()
        self._latencies_s.clear()
        return DiagnosticArray(header=Header(stamp=stamp), status=status)

    def _events(
        self, totals: dict[str, int], news: dict[str, int], rates: dict[str, Any],
        synchronizer: FrameSynchronizer, input_queue: InputQueue,
    ) -> DiagnosticStatus:
        values: dict[str, Any] = {
            key: rates[key] for key in ('packets_per_s', 'events_per_s', 'bytes_per_s')}
        values['queued_bytes'] = input_queue.num_bytes
        values.update({key: value for key, value in totals.items() if 'frames' not in key})
        faults = _faults(_EVENT_FAULTS, news)
        if not totals['num_packets']:
            faults = ['no event packet yet']
        elif not news['num_packets']:
            faults = ['no event packet lately']
        return make_status(self._name, 'events', faults, values)

    def _clock(
        self, synchronizer: FrameSynchronizer, stamp_monitor: StampMonitor,
    ) -> DiagnosticStatus:
        clock = synchronizer.clock
        values = {
            'sync_mode': synchronizer.config.sync_mode, 'offset_ns': clock.offset_ns,
            'drift_ppm': clock.drift_ppm, 'residual_ns': clock.residual_ns,
            'sync_error_ns': synchronizer.sync_error_ns,
            'num_resets': synchronizer.counters.num_resets}
        faults = ['the time of the sensor is not known yet'] if clock.offset_ns is None else []
        if stamp_monitor.warning:
            faults.append(stamp_monitor.warning)
        return make_status(self._name, 'clock', faults, values)

    def _frames(
        self, totals: dict[str, int], news: dict[str, int], rates: dict[str, Any],
    ) -> DiagnosticStatus:
        values: dict[str, Any] = {'frames_per_s': rates['frames_per_s']}
        values.update({key: value for key, value in totals.items() if 'frames' in key})
        for name, samples in (('wait', self._waits_s), ('latency', self._latencies_s)):
            for label, percent in (('median', 50), ('p99', 99)):
                values[f'{name}_{label}_s'] = \
                    float(np.percentile(samples, percent)) if samples else None
        faults = _faults(_FRAME_FAULTS, news)
        if not totals['num_frames']:
            faults = ['no frame yet']
        elif not news['num_frames']:
            faults = ['no frame lately']
        return make_status(self._name, 'frames', faults, values)

    def _registration(self, monitor: RegistrationMonitor) -> DiagnosticStatus:
        rows, cols = monitor.shift_px or (None, None)
        return make_status(
            self._name, 'registration', [monitor.warning] if monitor.warning else [],
            {'shift_rows_px': rows, 'shift_cols_px': cols})


def make_status(
    name: str, part: str, faults: list[str], values: dict[str, Any],
) -> DiagnosticStatus:
    """Return the state of a part of the node ``name``: a warning where there are faults."""
    return DiagnosticStatus(
        level=DiagnosticStatus.WARN if faults else DiagnosticStatus.OK,
        name=f'{name}: {part}', message='; '.join(faults) or 'good',
        values=[KeyValue(key=key, value=_text(value)) for key, value in values.items()])


def _totals(synchronizer: FrameSynchronizer, input_queue: InputQueue) -> dict[str, int]:
    totals = {**asdict(synchronizer.counters), **asdict(input_queue.counters)}
    totals.update({
        f'decoder_{key}': value
        for key, value in asdict(synchronizer.decoder_counters).items()})
    totals.update({
        f'removed_by_{event_filter.name}': event_filter.num_removed
        for event_filter in synchronizer.filters})
    return totals


def _faults(texts: dict[str, str], news: dict[str, int]) -> list[str]:
    """Return the faults of the period, each text once."""
    return list(dict.fromkeys(text for key, text in texts.items() if news.get(key)))


def _text(value: Any) -> str:
    if value is None:
        return 'unknown'
    return f'{value:.6g}' if isinstance(value, float) else str(value)
