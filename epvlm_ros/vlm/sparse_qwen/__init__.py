"""
A forward pass of the Qwen vision-language models that computes on the kept visual tokens only.

The only place that touches transformers' model classes; it changes none of them. What the
library already has is called as it is: the encoder takes the positions and the sequence lengths
of its patches as inputs, the language model takes embeddings and positions. So a dropped patch
is never embedded or attended to, and a kept one is where it was in the full image: its row and
column in the encoder's position embeddings, its (time, height, width) in M-RoPE. Text and answer
have the positions of the dense run as well. (EP-VLM, arXiv 2506.07627, sections on
sparsification and position-preserving tokenization.)

``SparseQwenVl`` is the forward pass that all families share, ``families`` what differs. A
prompt goes through it whole (``prefill``), or once up to the end of its image
(``prefill_image``) and then the text of one question after the other (``ask``) or of several at
once (``ask_together``).
"""

from epvlm_ros.vlm.sparse_qwen.decoding_state import BatchState, DecodingState, PromptPrefix
from epvlm_ros.vlm.sparse_qwen.families import find_family
from epvlm_ros.vlm.sparse_qwen.model import SparseQwenVl
from epvlm_ros.vlm.sparse_qwen.sampling import GREEDY, Sampling
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput, VisualFeatures

__all__ = [
    'BatchState', 'DecodingState', 'find_family', 'GREEDY', 'PromptPrefix', 'Sampling',
    'SparseQwenVl', 'VisionInput', 'VisualFeatures']
