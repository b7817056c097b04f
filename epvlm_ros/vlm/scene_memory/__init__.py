"""
A scene in memory: what changed in it is found out, and computed anew.

What did not change stays as it was computed; a question starts from a snapshot.
"""

from epvlm_ros.vlm.scene_memory.memory import SceneMemory
from epvlm_ros.vlm.scene_memory.scene_update import SceneOptions, SceneUpdate

__all__ = ['SceneMemory', 'SceneOptions', 'SceneUpdate']
