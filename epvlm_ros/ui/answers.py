"""Answers as objects of JSON, for the page."""

from __future__ import annotations

import math
import time
from typing import Any

from epvlm_interfaces.msg import Answer
from epvlm_ros.ros.answer_status import STATUS_NAMES
from epvlm_ros.time_units import SECOND, stamp_to_ns

_PLAIN = (
    'query_id', 'watch_id', 'camera', 'question', 'text', 'truncated', 'message', 'num_events',
    'moments', 'tokens', 'tokens_kept', 'generated_tokens', 'model', 'fallback', 'scene',
    'tokens_refreshed', 'tokens_stale', 'tokens_doubtful')
_NUMBERS = (
    'time_to_first_token', 'total_time', 'mean_log_probability', 'first_token_margin')


def to_json(answer: Answer) -> dict[str, Any]:
    """Return the fields of an answer that the page shows; what is no finite number is None."""
    shown: dict[str, Any] = {name: getattr(answer, name) for name in _PLAIN}
    shown.update({name: _finite(getattr(answer, name)) for name in _NUMBERS})
    status = STATUS_NAMES.get(answer.status, f'status {answer.status}')
    saved = 1.0 - answer.flops_used / answer.flops_dense if answer.flops_dense else None
    return {
        **shown,
        'status': status,
        'has_picture': status in ('OK', 'DEADLINE', 'CANCELLED') and answer.tokens > 0,
        'stamp': format_stamp(answer.header.stamp),
        'frame_age': stamp_to_ns(answer.frame_age) / SECOND,
        'oldest_token_age': stamp_to_ns(answer.oldest_token_age) / SECOND,
        'flops_saved': saved,
        'choices': list(answer.choices),
        'probabilities': [_finite(value) for value in answer.probabilities],
        'received': time.time(),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def format_stamp(stamp: Any) -> str:
    """Return a stamp in seconds, with all digits: more than a number of JavaScript has."""
    return f'{stamp.sec}.{stamp.nanosec:09d}'
