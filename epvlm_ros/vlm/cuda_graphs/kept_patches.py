"""Patches of some tokens on their way to the device."""

from __future__ import annotations

from epvlm_ros.vlm.sparse_qwen import VisionInput
import numpy as np
import torch
from torch import Tensor


class KeptPatches:
    """Gathers patches on the host if they are there, in memory that is copied from at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._staging = torch.empty(0)

    def __call__(self, vision: VisionInput, indices: np.ndarray) -> Tensor:
        """Return the patches (patches, values) of tokens in this order, on the device."""
        pixels, device = vision.pixel_values, self._device
        tokens = pixels.unflatten(0, (vision.num_tokens, -1))
        kept = torch.from_numpy(indices)
        if pixels.device.type != 'cpu' or device.type == 'cpu':
            return tokens.index_select(0, kept.to(pixels.device)).flatten(0, 1)
        shape = (len(kept), *tokens.shape[1:])
        needed = len(kept) * tokens[0].numel()
        if self._staging.numel() < needed or self._staging.dtype != pixels.dtype:
            self._staging = torch.empty(needed, dtype=pixels.dtype, pin_memory=True)
        else:
            torch.cuda.current_stream(device).synchronize()  # it may still be read from
        staged = self._staging[:needed].view(shape)
        torch.index_select(tokens, 0, kept, out=staged)
        return staged.to(device, non_blocking=True).flatten(0, 1)
