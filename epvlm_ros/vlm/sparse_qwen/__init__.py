"""
A forward pass of the Qwen vision-language models that computes on the kept visual tokens only.

The only place that touches transformers' model classes; it changes none of them. What the
library has is called as it is: the encoder takes positions and sequence lengths of its patches as
inputs, the language model takes embeddings and positions. So a dropped patch is never embedded or
attended to, and a kept one is where it was in the full image: its row and column in the encoder's
position embeddings, its (time, height, width) in M-RoPE. Text and answer have the positions of
the dense run as well. (EP-VLM, arXiv 2506.07627, sections on sparsification and
position-preserving tokenization.)

``SparseBackend`` is what the engine asks of a model, ``SparseQwenVl`` its eager implementation
for all families, ``families`` what differs between them.
"""

import epvlm_ros.vlm.library_version  # noqa: F401  before anything fails on another version
from epvlm_ros.vlm.sparse_qwen.backend import SparseBackend
from epvlm_ros.vlm.sparse_qwen.decoding_state import BatchState, DecodingState, PromptPrefix
from epvlm_ros.vlm.sparse_qwen.families import find_family
from epvlm_ros.vlm.sparse_qwen.model import SparseQwenVl
from epvlm_ros.vlm.sparse_qwen.model_info import ModelInfo
from epvlm_ros.vlm.sparse_qwen.prompt_layout import PromptLayout
from epvlm_ros.vlm.sparse_qwen.sampling import GREEDY, Sampling, Token
from epvlm_ros.vlm.sparse_qwen.scene.scene_backend import SceneBackend, SceneStates
from epvlm_ros.vlm.sparse_qwen.text_scores import TextScore
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput, VisualFeatures

__all__ = [
    'BatchState', 'DecodingState', 'find_family', 'GREEDY', 'ModelInfo', 'PromptLayout',
    'PromptPrefix', 'Sampling', 'SceneBackend', 'SceneStates', 'SparseBackend', 'SparseQwenVl',
    'TextScore', 'Token', 'VisionInput', 'VisualFeatures']
