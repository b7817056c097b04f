"""
The sparse forward of the Qwen vision-language models as functions of fixed shapes.

Dropping tokens saves arithmetic, but as long as every layer is launched kernel by kernel the
processor that launches them is what limits. With fixed shapes, which a token budget gives, the
same work is one launch each for encoder, prompt and token (CUDA graphs). Norms, rotary embeddings
and products with one token are kernels of their own (``kernels``), and the next token is sampled
on the GPU.

``CudaGraphQwenVl`` implements ``SparseBackend``. It holds the eager ``SparseQwenVl``, which stays
the reference, as its fallback for what has no fixed shapes.
"""

from epvlm_ros.vlm.cuda_graphs.model import CudaGraphQwenVl, with_cuda_graphs
from epvlm_ros.vlm.cuda_graphs.weights import Unsupported

__all__ = ['CudaGraphQwenVl', 'Unsupported', 'with_cuda_graphs']
