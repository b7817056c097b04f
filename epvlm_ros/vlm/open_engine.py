"""The engine that the parameters ask for: with a model on this computer, or on a server."""

from __future__ import annotations

from epvlm_ros.vlm.config import ServerConfig, VlmConfig
from epvlm_ros.vlm.engine import Engine, VlmEngine
from epvlm_ros.vlm.remote import RemoteEngine


def open_engine(config: VlmConfig, server: ServerConfig = ServerConfig()) -> Engine:
    """Load what answers need; takes seconds to minutes. Raises a ValueError if it cannot be."""
    if server.server:
        return RemoteEngine.from_config(config, server)
    return VlmEngine.from_config(config)
