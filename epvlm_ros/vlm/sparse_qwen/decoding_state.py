"""How far the language model has come: after an image, and in the middle of answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

KeysValues = Iterable[tuple[Tensor, Tensor]]  # any number of times


def keys_values_of(cache: Cache, num_tokens: int) -> KeysValues:
    """Return views of the keys and values of the first tokens, which see no later one."""
    layers: list[Any] = cache.layers
    return tuple(
        (layer.keys[:, :, :num_tokens], layer.values[:, :, :num_tokens]) for layer in layers)


@dataclass(frozen=True, eq=False)
class PromptPrefix:
    """
    The computed beginning of a prompt, up to the end of its image or of what stands before it.

    ``keys_values`` are those of each layer of the language model, shape (1, heads, kept tokens,
    dim of a head); never written to, and empty if they are not in this process.
    """

    token_ids: Tensor  # int64 on the CPU (tokens,), of the dense prompt
    num_tokens_kept: int  # of these: the text and the kept tokens of the image
    next_position: int  # M-RoPE, the same on its three axes, of the text that follows
    keys_values: KeysValues
    holds_image: bool = True  # whether it ends with the image, not before it

    @property
    def num_bytes(self) -> int:
        """Memory of the keys and values."""
        return sum(part.numel() * part.element_size()
                   for layer in self.keys_values for part in layer)

    def text_after(self, prompt_ids: Tensor) -> Tensor:
        """
        Return the part of a dense prompt, int64 on the CPU, that follows this prefix.

        Raises
        ------
        ValueError
            If it does not begin with this prefix or nothing follows.

        """
        num_tokens = len(self.token_ids)
        if len(prompt_ids) <= num_tokens or not torch.equal(
                prompt_ids[:num_tokens], self.token_ids):
            raise ValueError(
                f'the prompt does not go on from the prefix of {num_tokens} tokens: give one '
                'about the same image, with text after it')
        return prompt_ids[num_tokens:]

    def make_cache(self, num_questions: int = 1) -> Cache:
        """Return a cache of the library, a copy that as many questions may write to."""
        return DynamicCache([
            tuple(values.expand(num_questions, -1, -1, -1) for values in layer)
            for layer in self.keys_values])


@dataclass
class DecodingState:
    """Where an answer stands after its prompt; ``SparseQwenVl.step`` moves it on."""

    logits: Tensor  # (vocabulary,), for the next token
    cache: Cache  # keys and values of all tokens so far
    next_position: int  # M-RoPE
    prompt_ids: Tensor  # int64 on the CPU (tokens,), dense
    prefix: PromptPrefix  # where a further question about the same image starts from


@dataclass
class BatchState:
    """Where several answers about one image stand, see ``SparseQwenVl.step_together``."""

    questions: list[int]  # numbers of those that have not ended: one row of the others each
    logits: Tensor  # (questions, vocabulary), for the next tokens
    cache: Cache  # keys and values of all tokens so far; some are padding
    next_positions: Tensor  # int64 (questions,), M-RoPE
    visible: Tensor  # int64 (questions, tokens), 1 for a token in the cache and 0 for padding
    prompts: list[Tensor]  # int64 on the CPU (tokens,), dense

    def keep(self, rows: list[int]) -> None:
        """Go on with some of the answers only."""
        indices = torch.tensor(rows, device=self.visible.device)
        self.questions = [self.questions[row] for row in rows]
        self.prompts = [self.prompts[row] for row in rows]
        self.logits, self.next_positions = self.logits[indices], self.next_positions[indices]
        self.visible = self.visible[indices]
        self.cache.batch_select_indices(indices)
