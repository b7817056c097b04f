"""What the synchronizer counted, as diagnostic messages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from epvlm_ros.core.synchronizer import FrameSynchronizer
from std_msgs.msg import Header


def sync_diagnostics(
    name: str, stamp: Time, synchronizer: FrameSynchronizer,
) -> DiagnosticArray:
    """
    Return the counters of a synchronizer and its decoder.

    The level is a warning while no packet or no frame has come, or when packets were lost or bad.
    """
    counters = synchronizer.counters
    values: dict[str, Any] = {**asdict(counters), 'clock_offset_ns': synchronizer.clock.offset_ns}
    if synchronizer.decoder is not None:
        decoder = asdict(synchronizer.decoder.counters)
        values.update({f'decoder_{key}': value for key, value in decoder.items()})
    level, message = DiagnosticStatus.OK, 'in sync'
    if counters.num_lost_packets or counters.num_bad_packets:
        level, message = DiagnosticStatus.WARN, 'packets were lost or unusable'
    if not counters.num_packets:
        level, message = DiagnosticStatus.WARN, 'no event packet yet'
    elif not counters.num_frames:
        level, message = DiagnosticStatus.WARN, 'no frame yet'
    status = DiagnosticStatus(
        level=level, name=f'{name.lstrip("/")}: synchronisation', message=message,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])
