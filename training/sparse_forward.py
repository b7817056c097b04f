"""
The forward pass of training: many images, the same number of kept tokens in each.

The layers are the library's own. Several moments are a video to the model, each a step in time
that the encoder sees alone. The questions about an image stand side by side behind it: each
sees the image and itself, at the positions that it would have alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import itertools
from typing import Any, NamedTuple

from epvlm_ros.sim.questions import RELATIONS
from epvlm_ros.sim.scene import COLOURS, SHAPES, SYMBOLS
import torch
from torch import nn, Tensor
import torch.nn.functional as functional
from training.blocks import prefix_tokens
from training.pictures import NUM_CHANGES, NUM_MOTIONS
from training.scene_in_memory import see_in_memory
from transformers import Qwen2VLForConditionalGeneration

MAX_GRID_SIDE = 32
# What a later step builds on must be known in a layer before: places, then where the named objects
# are, then how they lie; before the answer all of that and what is asked about them. What
# changed between moments is known before questions look for it.
PLACE_LAYER, CHANGE_LAYER, MENTION_LAYER, ORDER_LAYER, ANSWER_LAYER = 2, 4, 4, 6, 7
BlockFunction = Callable[[Any, Tensor, Tensor, Tensor], Tensor]


class ForwardResult(NamedTuple):
    """
    What the losses need.

    Attributes
    ----------
    visual : Tensor (scenes, kept, dim)
        The encoder's tokens.
    image_hidden : Tensor (scenes, kept, dim)
        States of the language model at the visual tokens, after ``PLACE_LAYER`` layers.
    change_hidden : Tensor (scenes, kept, dim)
        The same after ``CHANGE_LAYER`` layers.
    mention_hidden : Tensor (scenes, questions, length, dim)
        States at the tokens of the questions after ``MENTION_LAYER`` layers.
    order_hidden : Tensor (scenes, questions, length, dim)
        The same after ``ORDER_LAYER`` layers.
    answer_hidden : Tensor (scenes, questions, length, dim)
        The same after ``ANSWER_LAYER`` layers.
    logits : Tensor (scenes, questions, length, words)
        Scores of the next token.

    """

    visual: Tensor
    image_hidden: Tensor
    change_hidden: Tensor
    mention_hidden: Tensor
    order_hidden: Tensor
    answer_hidden: Tensor
    logits: Tensor


class AuxiliaryHeads(nn.Module):
    """
    What else is asked for in training, and thrown away afterwards.

    Of every visual token: which shape and colour cover it (``shape``, ``colour``), what is written
    on that (``symbol``), whether it moves (``motion``), and where the token is (``row``, ``col``);
    what changed there since the first moment (``change``), and which way (``way_y``, ``way_x``).
    Of the last word of every name: where the object is that it names (``mention_row``,
    ``mention_col``). Of the last word of a question about a relation: whether
    the first object is above and left of the second one, or neither (``order_y``, ``order_x``),
    and again of the last word before the answer (``answer_y``, ``answer_x``), together with the
    relation that is asked about (``relation``).
    """

    def __init__(self, dim: int) -> None:
        """Make the linear heads."""
        super().__init__()
        self.shape = nn.Linear(dim, len(SHAPES) + 1)
        self.colour = nn.Linear(dim, len(COLOURS) + 1)
        self.symbol = nn.Linear(dim, len(SYMBOLS) + 1)
        self.motion = nn.Linear(dim, NUM_MOTIONS + 1)
        self.change = nn.Linear(dim, NUM_CHANGES + 1)
        self.way_y = nn.Linear(dim, 3)
        self.way_x = nn.Linear(dim, 3)
        self.row = nn.Linear(dim, MAX_GRID_SIDE)
        self.col = nn.Linear(dim, MAX_GRID_SIDE)
        self.mention_row = nn.Linear(dim, MAX_GRID_SIDE)
        self.mention_col = nn.Linear(dim, MAX_GRID_SIDE)
        self.order_y = nn.Linear(dim, 3)
        self.order_x = nn.Linear(dim, 3)
        self.answer_y = nn.Linear(dim, 3)
        self.answer_x = nn.Linear(dim, 3)
        self.relation = nn.Linear(dim, len(RELATIONS))


def encode_images(
    model: Qwen2VLForConditionalGeneration, patches: Tensor, kept: Tensor, grid: tuple[int, int],
    counts: Sequence[int] = (), run_block: BlockFunction | None = None,
) -> Tensor:
    """
    Run the encoder on kept tokens only.

    Parameters
    ----------
    model : Qwen2VLForConditionalGeneration
        The model.
    patches : Tensor (scenes, moments * tokens, 4, 588)
        As ``draw_pictures`` returns them.
    kept : Tensor int64 (scenes, num_kept)
        Indices ``moment * tokens + token`` of those that are computed on, ascending.
    grid : tuple of int
        Rows and columns of visual tokens of a moment.
    counts : sequence of int
        How many are kept of each moment; empty for one moment.
    run_block : callable, optional
        A compiled form of ``run_vision_block``.

    Returns
    -------
    Tensor (scenes, num_kept, dim)
        Visual tokens of the language model.

    """
    moments = kept.split(list(counts) or kept.shape[1], dim=1)
    found = []
    for _, group in itertools.groupby(moments, key=lambda moment: moment.shape[1]):
        alike = list(group)  # go through the encoder together
        encoded = _encode(model, patches, torch.stack(alike, dim=1), grid, run_block)
        found.append(encoded.flatten(1, 2))
    return torch.cat(found, dim=1)


def _encode(
    model: Qwen2VLForConditionalGeneration, patches: Tensor, kept: Tensor, grid: tuple[int, int],
    run_block: BlockFunction | None,
) -> Tensor:
    """Run the encoder on (scenes, moments, kept), each moment by itself; return (..., dim)."""
    visual = model.model.visual
    shape, kept = kept.shape, kept.flatten(1)
    chosen = patches.gather(1, kept[:, :, None, None].expand(-1, -1, *patches.shape[2:]))
    # Both moments of an image are the same picture: their weights add up.
    weight = visual.patch_embed.proj.weight.sum(dim=2).flatten(1)
    kept = (kept % (grid[0] * grid[1])).reshape(-1, shape[2])  # (scenes * moments, kept)
    hidden = functional.linear(chosen.reshape(len(kept), -1, chosen.shape[-1]), weight)
    cos, sin = _vision_rotary(visual.rotary_pos_emb.inv_freq, kept, grid[1])
    for block in visual.blocks:
        hidden = (run_block or run_vision_block)(block, hidden, cos, sin)
    return visual.merger(hidden.reshape(-1, hidden.shape[-1])).reshape(*shape, -1)


def _vision_rotary(inv_freq: Tensor, kept: Tensor, num_cols: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (scenes, 1, 4 * kept, head_dim) of the places in the full grid."""
    inner = torch.arange(4, device=kept.device)
    row = (2 * (kept // num_cols))[..., None] + inner // 2
    col = (2 * (kept % num_cols))[..., None] + inner % 2
    places = torch.stack([row, col], dim=-1).flatten(1, 2)  # (scenes, 4 * kept, 2)
    angles = (places[..., None].float() * inv_freq.float()).flatten(2)
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos(), angles.sin()


def run_vision_block(block: Any, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Run one layer of the encoder on (scenes, patches, dim)."""
    hidden = hidden + _attend(block.attn, block.norm1(hidden), cos, sin)
    return hidden + block.mlp(block.norm2(hidden))


def _attend(attention: Any, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    num_scenes, length, _ = hidden.shape
    states = attention.qkv(hidden).reshape(num_scenes, length, 3, attention.num_heads, -1)
    query, key, value = states.permute(2, 0, 3, 1, 4).unbind(0)  # (scenes, heads, tokens, dim)
    query, key = (
        (item * cos + _rotate_half(item) * sin).to(value.dtype) for item in (query, key))
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return attention.proj(mixed.transpose(1, 2).reshape(num_scenes, length, -1))


def _rotate_half(states: Tensor) -> Tensor:
    first, second = states.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def run_model(
    model: Qwen2VLForConditionalGeneration, patches: Tensor, kept: Tensor,
    grid: tuple[int, int], tokens: Tensor, counts: Sequence[int] = (),
    run_block: BlockFunction | None = None, *, in_memory: bool = False,
) -> ForwardResult:
    """
    Run encoder and language model on kept tokens and all questions about each image.

    Parameters
    ----------
    model, patches, kept, grid, counts, run_block
        As for ``encode_images``.
    tokens : Tensor int64 (scenes, questions, length)
        Blocks of questions, as in ``Batch``.
    in_memory : bool
        Whether the moments are one picture in memory, see ``see_in_memory``; then the encoder
        sees the whole of each.

    """
    num_scenes, num_questions, length = tokens.shape
    num_tokens = grid[0] * grid[1]
    if in_memory:
        whole = torch.arange(patches.shape[1], device=kept.device).expand(num_scenes, -1)
        visual = encode_images(
            model, patches, whole, grid, (num_tokens,) * len(counts), run_block)
        visual = visual.gather(1, kept[..., None].expand(-1, -1, visual.shape[-1]))
    else:
        visual = encode_images(model, patches, kept, grid, counts, run_block)
    embed = model.get_input_embeddings()
    prefix = torch.tensor(prefix_tokens(), device=tokens.device)
    embeddings = torch.cat([
        embed(prefix).expand(num_scenes, -1, -1).to(visual.dtype), visual,
        embed(tokens.flatten(1)).to(visual.dtype)], dim=1)
    num_seen = len(prefix) + kept.shape[1]
    mask, placed = _mask(num_seen, num_questions, length, tokens.device), kept
    if in_memory:
        mask = see_in_memory(kept, counts, num_tokens, len(prefix), mask)
        placed = kept % num_tokens
    states = _run_layers(
        model, embeddings, _positions(len(prefix), placed, grid, num_questions, length), mask)

    def of_questions(state: Tensor) -> Tensor:
        return state[:, num_seen:].reshape(num_scenes, num_questions, length, -1)

    image = slice(len(prefix), num_seen)
    return ForwardResult(
        visual, states[PLACE_LAYER][:, image], states[CHANGE_LAYER][:, image],
        of_questions(states[MENTION_LAYER]),
        of_questions(states[ORDER_LAYER]), of_questions(states[ANSWER_LAYER]),
        model.lm_head(of_questions(states[-1])))


def _run_layers(
    model: Qwen2VLForConditionalGeneration, embeddings: Tensor, positions: Tensor, mask: Tensor,
) -> list[Tensor]:
    """Return the input, the state after each layer but the last, and the final normed state."""
    language_model = model.model.language_model
    rotary = language_model.rotary_emb(embeddings, positions)
    states = [embeddings]
    for layer in language_model.layers:
        states.append(layer(states[-1], attention_mask=mask, position_embeddings=rotary))
    states[-1] = language_model.norm(states[-1])
    return states


def _positions(
    num_prefix: int, kept: Tensor, grid: tuple[int, int], num_questions: int, length: int,
) -> Tensor:
    """Return M-RoPE positions (3, scenes, sequence): those of the dense run of each question."""
    num_scenes = len(kept)
    prefix = torch.arange(num_prefix, device=kept.device).expand(3, num_scenes, -1)
    moment, place = kept // (grid[0] * grid[1]), kept % (grid[0] * grid[1])
    image = num_prefix + torch.stack([moment, place // grid[1], place % grid[1]])
    text = torch.arange(length, device=kept.device) + num_prefix + max(grid)
    text = text.repeat(num_questions).expand(3, num_scenes, -1)
    return torch.cat([prefix, image, text], dim=2)


def _mask(num_seen: int, num_questions: int, length: int, device: torch.device) -> Tensor:
    """Return what each token sees, bool (1, 1, sequence, sequence)."""
    total = num_seen + num_questions * length
    place = torch.arange(total, device=device)
    block = torch.where(place < num_seen, -1, (place - num_seen) // length)
    same = (block[None, :] == block[:, None]) | (block[None, :] == -1)
    return (same & (place[None, :] <= place[:, None]))[None, None]
