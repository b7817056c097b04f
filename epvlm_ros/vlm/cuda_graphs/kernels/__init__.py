"""Operations as Triton kernels, one each; needs Triton, which comes with torch for GPUs."""

from epvlm_ros.vlm.cuda_graphs.kernels.fused import FusedOperations, self_checked

__all__ = ['FusedOperations', 'self_checked']
