"""
The sparse forward of the Qwen vision-language models as functions of fixed shapes.

Dropping tokens saves arithmetic, but as long as every layer is launched kernel by kernel the
processor that launches them is what limits. With fixed shapes, which a token budget gives, the
same work is one launch each for encoder, prompt and token (CUDA graphs), norms, rotations and
products with one token are kernels of their own (``kernels``), and the next token is chosen on
the GPU.

``CapturedQwenVl`` stands in for ``SparseQwenVl``, which stays the reference and does what has no
fixed shapes.
"""

from epvlm_ros.vlm.cuda_graphs.model import capture, CapturedQwenVl
from epvlm_ros.vlm.cuda_graphs.warm_up import record
from epvlm_ros.vlm.cuda_graphs.weights import Unsupported

__all__ = ['capture', 'CapturedQwenVl', 'record', 'Unsupported']
