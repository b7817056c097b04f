"""How likely given texts are as answers: all of them in one pass behind the same prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from epvlm_ros.vlm.model_error import NonFiniteLogits
from epvlm_ros.vlm.sparse_qwen.sampling import read_tokens, Token
import torch
from torch import Tensor

MAX_PACKED_TOKENS = 512  # of one pass: the mask grows with their square
NUM_ROWS_AT_ONCE = 64  # of the logits, which are as wide as the vocabulary


@dataclass(frozen=True)
class TextScore:
    """
    How likely a text is as the whole answer.

    ``end_log_probability`` is that of any end token behind it; 0 where none is known.
    """

    tokens: tuple[Token, ...]
    end_log_probability: float

    @property
    def log_probability(self) -> float:
        """Of the text and its end, given the prompt: the logarithm of a product."""
        return sum(token.log_probability for token in self.tokens) + self.end_log_probability


@dataclass(frozen=True, eq=False)
class PackedTexts:
    """
    Texts one behind the other, each of which sees the prompt and itself only.

    So keys and values of the prompt are there once, not once for each text as in a batch.
    """

    texts: Sequence[Tensor]  # int64 on the CPU (tokens,)

    @property
    def ids(self) -> Tensor:
        """All tokens, int64 on the CPU."""
        return torch.cat(list(self.texts))

    def positions(self, next_position: int) -> Tensor:
        """Return M-RoPE positions of shape (3, 1, tokens): all texts start behind the prompt."""
        places = torch.cat([torch.arange(len(text)) for text in self.texts])
        return (next_position + places).expand(3, 1, -1)

    def attention_mask(self, num_before: int, dtype: torch.dtype) -> Tensor:
        """Return what is added to the scores of attention, (1, 1, tokens, before + tokens)."""
        blocks = torch.block_diag(*[
            torch.ones(len(text), len(text), dtype=torch.bool).tril() for text in self.texts])
        seen = torch.cat([torch.ones(len(blocks), num_before, dtype=torch.bool), blocks.bool()], 1)
        # numbers, since the library's plain attention adds what it gets
        return torch.zeros(seen.shape, dtype=dtype).masked_fill(
            ~seen, torch.finfo(dtype).min)[None, None]


def pack(texts: Sequence[Tensor], max_tokens: int = MAX_PACKED_TOKENS) -> list[PackedTexts]:
    """Return as few packs as hold so many tokens each; a longer text is one by itself."""
    packs: list[list[Tensor]] = []
    for text in texts:
        if packs and sum(map(len, packs[-1])) + len(text) <= max_tokens:
            packs[-1].append(text)
        else:
            packs.append([text])
    return [PackedTexts(parts) for parts in packs]


def read_score(
    text: Tensor, logits_before: Tensor, logits: Tensor, end_token_ids: Collection[int],
) -> TextScore:
    """
    Return the score of one text, int64 (tokens,).

    ``logits_before`` are those after the prompt, (vocabulary,), ``logits`` those after each token
    of the text, (tokens, vocabulary).
    """
    logits = torch.cat([logits_before[None], logits]).float()
    if not bool(logits.isfinite().all()):
        raise NonFiniteLogits()
    tokens = read_tokens(logits[:-1], text.to(logits.device)[:, None])
    ends_known = sorted(token_id for token_id in end_token_ids if token_id < logits.shape[1])
    if not ends_known:
        return TextScore(tuple(tokens), 0.0)
    ends = logits[-1, ends_known].logsumexp(dim=-1) - logits[-1].logsumexp(dim=-1)
    return TextScore(tuple(tokens), float(ends))
