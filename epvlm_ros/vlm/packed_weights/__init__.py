"""
Weights of 4 and 8 bits: one layout, a reader for each published format, and plain torch.

``formats`` reads what others packed, ``rounding`` makes 8 and 4 bits of plain weights, both into a
``PackedMatrix``. The modules compute with it in plain torch on any device: a matrix is unpacked
for each product.
"""

from epvlm_ros.vlm.packed_weights.modules import (
    count_weights, multiply, PackedEmbedding, PackedLinear, stack)
from epvlm_ros.vlm.packed_weights.packed_matrix import PackedMatrix

__all__ = [
    'count_weights', 'multiply', 'PackedEmbedding', 'PackedLinear', 'PackedMatrix', 'stack']
