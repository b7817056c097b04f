"""Where the tokens of a prompt are, and which of them are computed on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from epvlm_ros.vlm.sparse_qwen.decoding_state import KeysValues, PromptPrefix
import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PromptLayout:
    """
    A dense prompt about an image of which some tokens are kept; all tensors on the CPU.

    ``positions`` are the M-RoPE positions (time, height, width) of the tokens and of the text
    token after them.
    """

    prompt_ids: Tensor  # int64 (tokens,)
    positions: Tensor  # int64 (3, tokens + 1)
    is_visual: Tensor  # bool (tokens,)
    is_kept: Tensor  # bool (tokens,): text and kept visual tokens

    @property
    def next_position(self) -> int:
        """M-RoPE position (the same on its three axes) of the token after the prompt."""
        return int(self.positions[0, -1])

    def up_to_image(self) -> PromptLayout:
        """Return the part of the prompt up to the end of its image."""
        end = int(self.is_visual.nonzero()[-1, 0]) + 1
        return PromptLayout(
            self.prompt_ids[:end], self.positions[:, :end + 1], self.is_visual[:end],
            self.is_kept[:end])

    def keep(self, is_known: np.ndarray) -> PromptLayout:
        """Return the layout with these visual tokens kept, bool (visual tokens,)."""
        is_kept = ~self.is_visual
        is_kept[self.is_visual] = torch.from_numpy(is_known)
        return replace(self, is_kept=is_kept)

    def prefix(self, keys_values: KeysValues) -> PromptPrefix:
        """Return the computed prompt, which ends with its image, given its keys and values."""
        return PromptPrefix(
            self.prompt_ids, int(self.is_kept.sum()), self.next_position, keys_values)
