"""Gauges of the page, from the diagnostics of both nodes and the latest answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
import math
from typing import Any

_LOSSES = {
    'events': {'num_lost_packets': 'lost on the way', 'num_shed_packets': 'shed',
               'num_dropped_packets': 'dropped', 'num_bad_packets': 'at fault'},
    'frames': {'num_dropped_frames': 'frames dropped'},
}
Parts = dict[str, dict[str, str]]  # values by part of the diagnostics of a node


@dataclass(frozen=True)
class Gauge:
    """A figure with its unit; ``value`` is for its curve and None where it is not known."""

    name: str
    value: float | None
    text: str
    details: str = ''


def make_gauges(
    syncs: dict[str, Parts], vlm: Parts, answer: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """
    Return all gauges that something is known of, as objects of JSON.

    Parameters
    ----------
    syncs : dict
        Diagnostics of the ``event_sync_node`` of each camera; a single one has no name.
    vlm : dict
        Diagnostics of ``vlm_node``: key and value by part.
    answer : dict or None
        The latest answer that was computed, see `epvlm_ros.ui.answers.to_json`.

    """
    gauges = [gauge for camera, sync in syncs.items() for gauge in _of_sync(sync, _of(camera))]
    gauges += _of_vlm(vlm)
    if answer is not None:
        gauges += _of_answer(answer)
    return [asdict(gauge) for gauge in gauges]


def _of(camera: str) -> str:
    return f', {camera}' if camera else ''


def _of_sync(parts: Parts, of_camera: str) -> list[Gauge]:
    if not parts:
        return []
    events, frames, clock = (parts.get(name, {}) for name in ('events', 'frames', 'clock'))
    latency, rate = _number(frames, 'latency_median_s'), _number(events, 'events_per_s')
    frame_rate, drift = _number(frames, 'frames_per_s'), _number(clock, 'drift_ppm')
    losses = {text: _number(parts.get(part, {}), key) or 0.0
              for part, texts in _LOSSES.items() for key, text in texts.items()}
    total = sum(losses.values())
    return [
        Gauge(f'Events{of_camera}', rate, _rate(rate)),
        Gauge(f'Frames{of_camera}', frame_rate, _with_unit(frame_rate, 1.0, '/s')),
        Gauge(f'Frame latency{of_camera}', latency, _with_unit(latency, 1e3, 'ms'),
              f'p99 {_with_unit(_number(frames, "latency_p99_s"), 1e3, "ms")}'),
        Gauge(f'Drops{of_camera}', total, f'{total:.0f}', ', '.join(
            f'{count:.0f} {text}' for text, count in losses.items() if count)
            or 'since the start'),
        Gauge(f'Clock drift{of_camera}', drift, _with_unit(drift, 1.0, 'ppm'),
              f'sync error {_with_unit(_number(clock, "sync_error_ns"), 1e-6, "ms")}'),
    ]


def _of_vlm(parts: Parts) -> list[Gauge]:
    if not parts:
        return []
    queued = _number(parts.get('queries', {}), 'num_queued')
    memory = _number(parts.get('model', {}), 'memory_mb')
    gauges = [Gauge('Questions waiting', queued, _with_unit(queued, 1.0, ''))]
    if memory is not None:
        gauges.append(Gauge(
            'Model memory', memory, _memory(memory), 'of the process, or of tensors on a GPU'))
    for part, values in parts.items():  # 'frames', or 'frames of front' where there are several
        name, _, camera = part.partition(' of ')
        of_camera = _of(camera)
        if name == 'frames':
            age = _number(values, 'age_s')
            gauges.append(Gauge(f'Frame age{of_camera}', age, _with_unit(age, 1e3, 'ms')))
        elif name == 'scene':
            gauges += _of_scene(values, of_camera)
    return gauges


def _of_scene(scene: dict[str, str], of_camera: str) -> list[Gauge]:
    age, memory = _number(scene, 'oldest_age_s'), _number(scene, 'memory_mb')
    refreshed = _number(scene, 'tokens_refreshed_per_s')
    return [
        Gauge(f'Age of the scene{of_camera}', age, _with_unit(age, 1.0, 's'),
              f'{scene.get("num_known", "?")} of {scene.get("num_tokens", "?")} tokens known, '
              f'{scene.get("num_stale", "?")} stale'),
        Gauge(f'Scene updates{of_camera}', refreshed, _with_unit(refreshed, 1.0, 'tokens/s'),
              _with_unit(_number(scene, 'gflops_per_s'), 1.0, 'GFLOP/s')),
        Gauge(f'Scene memory{of_camera}', memory, _memory(memory)),
    ]


def _of_answer(answer: dict[str, Any]) -> list[Gauge]:
    saved, total = answer['flops_saved'], answer['total_time']
    return [
        Gauge('Tokens kept', float(answer['tokens_kept']),
              f'{answer["tokens_kept"]} of {answer["tokens"]}', 'last answer'),
        Gauge('FLOPs saved', saved, 'unknown' if saved is None else f'{saved:.0%}',
              'last answer'),
        Gauge('Answer time', total, _with_unit(total, 1e3, 'ms'),
              f'first token {_with_unit(answer["time_to_first_token"], 1e3, "ms")}'),
    ]


def _number(values: dict[str, str], key: str) -> float | None:
    try:
        number = float(values[key])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _with_unit(value: float | None, factor: float, unit: str) -> str:
    if value is None:
        return 'unknown'
    scaled = value * factor
    digits = 0 if scaled == round(scaled) or abs(scaled) >= 100 else 1 if abs(scaled) >= 1 else 2
    return f'{scaled:.{digits}f} {unit}'.strip()


def _rate(value: float | None) -> str:
    if value is None:
        return 'unknown'
    for size, prefix in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= size:
            return f'{value / size:.2f} {prefix}/s'
    return f'{value:.0f} /s'


def _memory(megabytes: float | None) -> str:
    if megabytes is None:
        return 'unknown'
    return f'{megabytes / 1e3:.2f} GB' if megabytes >= 1e3 else f'{megabytes:.1f} MB'
