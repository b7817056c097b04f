"""How far the language model has come: after an image, and in the middle of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

KeysValues = tuple[tuple[Tensor, Tensor], ...]


def keys_values_of(cache: Cache, num_tokens: int) -> KeysValues:
    """
    Return views of the keys and values of the first tokens.

    No token sees a later one, so that they are those of a prompt which ends there.
    """
    layers: list[Any] = cache.layers
    return tuple(
        (layer.keys[:, :, :num_tokens], layer.values[:, :, :num_tokens]) for layer in layers)


@dataclass(frozen=True, eq=False)
class PromptPrefix:
    """
    The beginning of a prompt, computed, most often up to the end of its image.

    That much all questions about an image share.

    Parameters
    ----------
    token_ids : torch.Tensor
        int64 on the CPU, shape (tokens,), of the dense prompt.
    keys_values : tuple of (torch.Tensor, torch.Tensor)
        Of each layer of the language model, shape (1, heads, kept tokens, dim of a head); never
        written to.
    next_position : int
        M-RoPE position (the same on its three axes) of the text that follows.
    holds_image : bool
        Whether it ends with the image, not before it.

    """

    token_ids: Tensor
    keys_values: KeysValues
    next_position: int
    holds_image: bool = True

    @property
    def num_tokens_kept(self) -> int:
        """How many tokens were computed: those of the text and the kept ones of the image."""
        return self.keys_values[0][0].shape[2]

    def text_after(self, prompt_ids: Tensor) -> Tensor:
        """
        Return the part of a prompt that is to be computed after this prefix.

        Parameters
        ----------
        prompt_ids : torch.Tensor
            int64 on the CPU, shape (tokens,), a dense prompt.

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
    """
    Where an answer stands after its prompt; ``SparseQwenVl.step`` moves it on.

    Parameters
    ----------
    logits : torch.Tensor
        Shape (vocabulary,), for the next token.
    cache : transformers.Cache
        Keys and values of all tokens so far.
    next_position : int
        M-RoPE position (the same on its three axes) of the next token.
    prompt_ids : torch.Tensor
        int64 on the CPU, shape (tokens,), the dense prompt.
    prefix : PromptPrefix
        Where a further question about the same image may start from.

    """

    logits: Tensor
    cache: Cache
    next_position: int
    prompt_ids: Tensor
    prefix: PromptPrefix


@dataclass
class BatchState:
    """
    Where several answers about one image stand; ``SparseQwenVl.step_together`` moves them on.

    Parameters
    ----------
    questions : list of int
        Which questions are still being answered: one row of the other fields each.
    logits : torch.Tensor
        Shape (questions, vocabulary), for the next token of each.
    cache : transformers.Cache
        Keys and values of all tokens so far; some are padding.
    next_positions : torch.Tensor
        int64, shape (questions,), M-RoPE position of the next token of each.
    visible : torch.Tensor
        int64, shape (questions, tokens), 1 where the cache holds a token and 0 for padding.
    prompts : list of torch.Tensor
        int64 on the CPU, shape (tokens,), the dense prompt of each.

    """

    questions: list[int]
    logits: Tensor
    cache: Cache
    next_positions: Tensor
    visible: Tensor
    prompts: list[Tensor]

    def keep(self, rows: list[int]) -> None:
        """Go on with some of the answers only."""
        indices = torch.tensor(rows, device=self.visible.device)
        self.questions = [self.questions[row] for row in rows]
        self.prompts = [self.prompts[row] for row in rows]
        self.logits, self.next_positions = self.logits[indices], self.next_positions[indices]
        self.visible = self.visible[indices]
        self.cache.batch_select_indices(indices)
