"""The names of what may come of a query."""

from __future__ import annotations

from epvlm_interfaces.msg import Answer

STATUS_NAMES = {getattr(Answer, name): name for name in (
    'OK', 'NO_FRAME', 'STALE_FRAME', 'BUSY', 'INVALID', 'ERROR', 'DEADLINE', 'CANCELLED')}
