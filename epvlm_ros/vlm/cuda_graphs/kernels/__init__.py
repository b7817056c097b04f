"""Operations as Triton kernels, one each; needs Triton, which comes with torch for GPUs."""

from epvlm_ros.vlm.cuda_graphs.kernels.best_kernels import self_checked
from epvlm_ros.vlm.cuda_graphs.kernels.fused import FusedOperations
from epvlm_ros.vlm.cuda_graphs.kernels.packed_operations import PackedOperations

__all__ = ['FusedOperations', 'PackedOperations', 'self_checked']
