"""Parameters where the model is on a server: some cannot be, some do nothing, none in silence."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.vlm.config import ServerConfig, VlmConfig

# About weights and where they compute; the embedded model that helps out goes by them.
_OF_WEIGHTS = ('device', 'dtype', 'weights', 'attention', 'acceleration', 'cache_tokens',
               'warm_up_sizes', 'num_threads')
# About what a model on this computer keeps between two questions.
_OF_MEMORY = ('memory_context', 'memory_fill', 'memory_image_check', 'memory_max_age',
              'memory_motion_share', 'memory_limit', 'change_threshold', 'change_margin_px')


def check_for_server(server: ServerConfig, vlm: VlmConfig, node: VlmNodeConfig) -> list[str]:
    """
    Return the names of the parameters that are set and do nothing with a server.

    None without a server. Raises a ValueError for those that would change what an answer means.
    """
    if not server.server:
        return []
    for name, value, plain in (
            ('scene_memory', vlm.scene_memory, False), ('num_moments', node.num_moments, 1),
            ('shadow_every', node.shadow_every, 0)):
        if value != plain:
            raise ValueError(
                f'{name} is {value}, which needs the model on this computer: set it to {plain}, '
                'or leave server empty')
    of_weights = () if server.server_fallback == 'embedded' else _OF_WEIGHTS
    return [*_changed(vlm, (*of_weights, *_OF_MEMORY)),
            *_changed(node, ('encode_ahead', 'moment_period'))]


def _changed(config: Any, names: tuple[str, ...]) -> list[str]:
    """Return those of the names whose values are not the defaults."""
    return [item.name for item in fields(config)
            if item.name in names and getattr(config, item.name) != item.default]
