"""
Frame + event activity + question -> answer, with timings and FLOPs.

``VlmEngine`` does it, ``EngineAnswer`` is what it returns, ``FrameMemory`` keeps what further
questions about a frame can start from.
"""

from epvlm_ros.core.engine.answer import EngineAnswer
from epvlm_ros.core.engine.engine import VlmEngine

__all__ = ['EngineAnswer', 'VlmEngine']
