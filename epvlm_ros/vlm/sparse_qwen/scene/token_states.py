"""What the model computed of every visual token of a scene: its own keys, values and features."""

from __future__ import annotations

from dataclasses import dataclass, field

from epvlm_ros.vlm.sparse_qwen.decoding_state import PromptPrefix
from epvlm_ros.vlm.sparse_qwen.prompt_layout import PromptLayout
from epvlm_ros.vlm.sparse_qwen.scene.scene_backend import check_known
import numpy as np
from torch import Tensor


@dataclass
class KeysValues:
    """
    Keys and values of one attention layer, one slot for each token (or patch) of the scene.

    Parameters
    ----------
    keys, values : torch.Tensor
        Shape (1, heads, slots, dim of a head). Slots are written in place.

    """

    keys: Tensor
    values: Tensor

    @classmethod
    def empty_like(cls, states: Tensor, num_slots: int) -> KeysValues:
        """Return empty slots for states of shape (1, heads, tokens, dim of a head)."""
        shape = (*states.shape[:2], num_slots, states.shape[3])
        return cls(states.new_zeros(shape), states.new_zeros(shape))

    def write(self, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put new states, (1, heads, tokens, dim of a head), into their slots (tokens,)."""
        self.keys.index_copy_(2, slots, keys)
        self.values.index_copy_(2, slots, values)

    @property
    def num_bytes(self) -> int:
        """Memory of all slots."""
        return 2 * self.keys.numel() * self.keys.element_size()


@dataclass
class TokenStates:
    """
    The states of the visual tokens of one scene, and of the text before them.

    Attributes
    ----------
    layout : PromptLayout
        The dense prompt up to the end of its image; slots of the language model are its tokens.
    rows, cols : int
        The grid of visual tokens.
    known : numpy.ndarray
        bool, shape (visual tokens,): which were computed. The others are invisible.
    encoder, language_model : list of KeysValues
        One for each layer: slots are patches in the encoder, prompt tokens in the language model.
        Empty until something is computed; the encoder's stay empty where tokens are encoded
        alone.
    features : list of torch.Tensor
        Each (visual tokens, hidden size of the language model): embeddings, then DeepStack.

    """

    layout: PromptLayout
    rows: int
    cols: int
    known: np.ndarray
    encoder: list[KeysValues] = field(default_factory=list)
    language_model: list[KeysValues] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Visual tokens of the scene, known or not."""
        return len(self.known)

    @property
    def num_text_tokens(self) -> int:
        """Tokens of the layout that are text."""
        return int((~self.layout.is_visual).sum())

    @property
    def num_bytes(self) -> int:
        """Memory of all states."""
        layers = sum(layer.num_bytes for layer in (*self.encoder, *self.language_model))
        return layers + sum(part.numel() * part.element_size() for part in self.features)

    @property
    def visual_slots(self) -> Tensor:
        """Where the visual tokens stand in the prompt, int64 on the CPU, (visual tokens,)."""
        return self.layout.is_visual.nonzero()[:, 0]

    def snapshot(self) -> PromptPrefix:
        """Return a copy of what a question about the scene starts from."""
        check_known(self)
        known = self.layout.keep(self.known)
        slots = known.is_kept.nonzero()[:, 0].to(self.language_model[0].keys.device)
        return known.prefix(tuple(
            (layer.keys.index_select(2, slots), layer.values.index_select(2, slots))
            for layer in self.language_model))
