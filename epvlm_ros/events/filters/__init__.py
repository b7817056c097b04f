"""
Filters of events: each a small step between a packet's parser and its counts.

They run in this order:

1. Hot pixels, which would support their neighbours' noise and look like a flicker.
2. Flicker, which needs a pixel's whole rhythm, before anything thins it.
3. Background activity, where only what is left may support its neighbours.
4. The rate limit, since it is a limit on the events that count.
"""

from __future__ import annotations

from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters.background import BackgroundFilter
from epvlm_ros.events.filters.event_filter import EventFilter
from epvlm_ros.events.filters.flicker import FlickerFilter
from epvlm_ros.events.filters.hot_pixels import HotPixelFilter
from epvlm_ros.events.filters.rate_limit import RateLimit

__all__ = [
    'BackgroundFilter', 'EventFilter', 'FlickerFilter', 'HotPixelFilter', 'make_filters',
    'RateLimit',
]


def make_filters(config: FilterConfig, width: int, height: int) -> tuple[EventFilter, ...]:
    """
    Make the filters that are on, in the order in which they are applied.

    ``width`` and ``height`` of the sensor are in pixels and may be 0; negative ones raise
    ValueError.
    """
    filters: list[tuple[bool, type[EventFilter]]] = [
        (config.hot_pixel_filter, HotPixelFilter),
        (config.flicker_filter, FlickerFilter),
        (config.background_filter, BackgroundFilter),
        (config.max_pixel_rate > 0.0, RateLimit),
    ]
    return tuple(make(width, height, config) for is_on, make in filters if is_on)
