"""Published formats of packed weights, a reader each."""

from epvlm_ros.vlm.packed_weights.formats.find import find_reader, is_packed
from epvlm_ros.vlm.packed_weights.formats.reader import Reader

__all__ = ['find_reader', 'is_packed', 'Reader']
