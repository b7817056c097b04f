"""
Frame + event activity + question -> answer, with timings and FLOPs.

``VlmEngine`` does it, ``EngineAnswer`` is what it returns, a ``Moment`` what it is about. What a
node asks of it is the interface ``Engine``, so that a model on a server can take its place.
"""

from epvlm_ros.vlm.engine.answer import EngineAnswer
from epvlm_ros.vlm.engine.dense_check import Agreement
from epvlm_ros.vlm.engine.engine import VlmEngine
from epvlm_ros.vlm.engine.interface import Engine, ServerStatus
from epvlm_ros.vlm.engine.living_scene import SceneStatus
from epvlm_ros.vlm.engine.memory_guard import OutOfMemory
from epvlm_ros.vlm.engine.moment import Moment

__all__ = [
    'Agreement', 'Engine', 'EngineAnswer', 'Moment', 'OutOfMemory', 'SceneStatus',
    'ServerStatus', 'VlmEngine']
