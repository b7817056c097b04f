"""
A scene in memory: the model's own keys and values, refreshed where something changed.

What did not change stays as it was computed; a question starts from a snapshot.
"""

from epvlm_ros.vlm.scene_memory.memory import SceneMemory, SceneOptions, SceneUpdate
from epvlm_ros.vlm.scene_memory.scene_forward import SceneForward
from epvlm_ros.vlm.scene_memory.token_states import TokenStates

__all__ = ['SceneForward', 'SceneMemory', 'SceneOptions', 'SceneUpdate', 'TokenStates']
