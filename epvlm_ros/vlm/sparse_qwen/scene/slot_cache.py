"""A cache of the library whose entries have fixed slots, written in any order."""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.sparse_qwen.scene.token_states import KeysValues
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin


class SlotLayer(CacheLayerMixin):
    """
    One layer: new states go to the slots of this run, all slots come back.

    Parameters
    ----------
    states : KeysValues or None
        The slots; None makes them at the first run.
    slots : torch.Tensor
        int64, shape (tokens,): where the tokens of this run belong.
    num_slots : int
        Slots of the whole scene.

    """

    is_sliding = False

    def __init__(self, states: KeysValues | None, slots: Tensor, num_slots: int) -> None:
        super().__init__()
        self.states = states
        self._slots = slots
        self._num_slots = num_slots
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the slots."""
        self.states = KeysValues.empty_like(key_states, self._num_slots)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any,
    ) -> tuple[Tensor, Tensor]:
        """Write the states of this run and return those of all slots."""
        if self.states is None:
            self.lazy_initialization(key_states, value_states)
        assert self.states is not None
        self.states.write(self._slots, key_states, value_states)
        return self.states.keys, self.states.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of slots and their offset."""
        return self._num_slots, 0

    def get_seq_length(self) -> int:
        """Return the number of slots."""
        return self._num_slots

    def get_max_length(self) -> int:
        """Return the number of slots."""
        return self._num_slots


def make_slot_cache(
    layers: list[KeysValues], num_layers: int, slots: Tensor, num_slots: int,
) -> Cache:
    """Return a cache over the slots of a scene; ``layers`` may be empty at first."""
    return Cache(layers=[
        SlotLayer(layers[number] if layers else None, slots, num_slots)
        for number in range(num_layers)])


def slots_of(cache: Cache) -> list[KeysValues]:
    """Return the slots of each layer of such a cache, once it was run."""
    layers: list[Any] = cache.layers
    return [layer.states for layer in layers]
