"""The rate limit: no pixel may count more than so often."""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters.event_filter import EventFilter
from epvlm_ros.events.packet.pixel_runs import first_pixel
from epvlm_ros.time_units import BACKWARD_JUMP_NS
import numpy as np

_BURST_S = 0.02
_MAX_INTERVAL_NS = 1 << 50  # 13 days


class RateLimit(EventFilter):
    """
    Drops events of a pixel beyond ``max_pixel_rate``.

    A token bucket for each pixel, as the generic cell rate algorithm (ITU-T I.371): a pixel may
    save up what it is allowed in 20 ms, one event at least. In any time T no more than
    ``max_pixel_rate`` x (T + 20 ms) of its events count, or ``max_pixel_rate`` x T + 1 if that is
    more. A refractory time instead would cut the burst by which an edge shows, however seldom one
    comes.
    """

    name = 'rate_limit'

    def __init__(self, width: int, height: int, config: FilterConfig) -> None:
        super().__init__(width, height, config)
        if config.max_pixel_rate <= 0.0:
            raise ValueError('max_pixel_rate is 0, no limit: leave this filter out')
        interval_ns = 1e9 / max(config.max_pixel_rate, 1e9 / _MAX_INTERVAL_NS)
        self._interval_ns = max(1, round(interval_ns))
        # An event may come so much earlier than an even stream would bring it.
        self._early_ns = max(0, round(_BURST_S * 1e9) - self._interval_ns)
        self._forget()

    def reset(self) -> None:
        """Let every pixel begin with all that it can save."""
        self._due_ns.fill(np.iinfo(np.int64).min)

    def _forget(self) -> None:
        # When an even stream of max_pixel_rate would bring the next event of each pixel.
        self._due_ns = np.zeros(self._num_lines * self._line_length, np.int64)
        self.reset()

    def _apply(self, records: np.ndarray) -> int:
        return int(_drop_early(
            records, self._is_vertical, self._line_length, self._interval_ns, self._early_ns,
            self._due_ns))


@compiled
def _drop_early(  # type: ignore[no-untyped-def]
    records, is_vertical, line_length, interval_ns, early_ns, due_ns,
):
    num_dropped = 0
    # Nothing is due later than this after the present, unless time was set back.
    horizon_ns = early_ns + interval_ns + BACKWARD_JUMP_NS
    for i in range(records.size):
        run = records[i]
        t_ns = run.t_ns
        mask = np.int64(run.mask)
        rest, bit, pixel = mask, 1, first_pixel(run, is_vertical, line_length)
        while rest:
            if rest & 1:
                due = due_ns[pixel]
                if due <= t_ns or due > t_ns + horizon_ns:
                    due_ns[pixel] = t_ns + interval_ns
                elif due <= t_ns + early_ns:
                    due_ns[pixel] = due + interval_ns
                else:
                    mask ^= bit
                    num_dropped += 1
            rest >>= 1
            bit <<= 1
            pixel += 1
        if mask != run.mask:
            run.mask = mask
    return num_dropped
