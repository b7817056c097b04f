"""
The sparse forward against the library.

At keep ratio 1.0 the reference is the library's own model as it is. Below, it is the library's
dense model that computes every patch, but in which nothing may attend to a dropped one: an
additive mask on the keys in the encoder and a 4-D mask in the language model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from epvlm_ros.core.sparse_qwen_vl import SparseQwenVl, VisionInput
import numpy as np
import pytest
from qwen_checkpoints import (
    library_inputs, make_model, make_prompt, make_prompt_for, make_vision, MODELS, PATCH_VALUES,
    SHAPES)
import torch
from torch import Tensor
from transformers import (
    AttentionInterface, DynamicCache, Qwen2VLForConditionalGeneration, Qwen2VLTextConfig)

TOLERANCE = 1e-4
GRIDS = ((4, 4), (3, 7), (6, 2), (1, 5))
KEEP_RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)


def masked_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    scaling: float, key_bias: Tensor, **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attend in the slow and plain way, with ``key_bias`` added to the scores of each key."""
    weights = torch.softmax(query @ key.transpose(2, 3) * scaling + key_bias, dim=-1)
    return (weights @ value).transpose(1, 2), weights


AttentionInterface.register('epvlm_test_masked', masked_attention)


class MaskedDenseReference:
    """The library's dense model in which the dropped tokens are masked out of every attention."""

    def __init__(self, shape: str, vision: VisionInput, prompt_ids: Tensor) -> None:
        self.model = make_model(
            shape, {'vision_config': 'epvlm_test_masked', 'text_config': 'eager', '': 'eager'})
        dropped_tokens = torch.ones(vision.rows * vision.cols, dtype=torch.bool)
        dropped_tokens[torch.from_numpy(vision.kept_indices)] = False
        self.kept_tokens = ~dropped_tokens
        self.is_image = prompt_ids == self.model.config.image_token_id
        self.kept_places = ~self.is_image
        self.kept_places[self.is_image] = self.kept_tokens
        self.vision, self.prompt_ids = vision, prompt_ids
        self.cache = DynamicCache(config=self.model.config.text_config)

    @torch.no_grad()
    def encode(self) -> Tensor:
        """Return the features of all tokens, of which those of dropped ones mean nothing."""
        kept_patches = self.kept_tokens.repeat_interleave(4)
        key_bias = torch.zeros(len(kept_patches)).masked_fill(~kept_patches, -torch.inf)
        return self.model.model.visual(
            self.vision.pixel_values, grid_thw=self.grid(), key_bias=key_bias).pooler_output

    @torch.no_grad()
    def prefill(self) -> tuple[Tensor, Tensor]:
        """Return logits and positions of the whole dense prompt."""
        is_image = self.is_image
        embeddings = self.model.get_input_embeddings()(self.prompt_ids)
        embeddings[is_image] = self.encode()
        self.positions, self.position_delta = self.model.model.get_rope_index(
            self.prompt_ids[None], mm_token_type_ids=is_image.int()[None],
            image_grid_thw=self.grid())
        causal = torch.ones(len(is_image), len(is_image), dtype=torch.bool).tril()
        # a dropped token still sees itself: a row of nothing but -inf is not a number
        visible = causal & (self.kept_places | torch.eye(len(is_image), dtype=torch.bool))
        return self.run(embeddings, self.positions, visible), self.positions[:, 0]

    @torch.no_grad()
    def decode(self, num_tokens: int) -> tuple[list[int], float]:
        """Return greedy tokens and the narrowest lead of a chosen token over the next one."""
        logits = self.prefill()[0][-1]
        token_ids: list[int] = []
        leads = []
        for index in range(num_tokens):
            best, second = logits.topk(2).values.tolist()
            leads.append(best - second)
            token_ids.append(int(logits.argmax()))
            length = len(self.prompt_ids) + index
            positions = (length + self.position_delta).expand(3, 1, 1)
            visible = torch.cat([self.kept_places, torch.ones(index + 1, dtype=torch.bool)])
            embedding = self.model.get_input_embeddings()(torch.tensor(token_ids[-1:]))
            logits = self.run(embedding, positions, visible[None])[-1]
        return token_ids, min(leads)

    def run(self, embeddings: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        mask = torch.zeros(visible.shape).masked_fill(~visible, -torch.inf)[None, None]
        output = self.model.model.language_model(
            inputs_embeds=embeddings[None], position_ids=positions, attention_mask=mask,
            past_key_values=self.cache, use_cache=True)
        return self.model.lm_head(output.last_hidden_state[0])

    def grid(self) -> Tensor:
        return torch.tensor([[1, 2 * self.vision.rows, 2 * self.vision.cols]])


def cases() -> Iterator[Any]:
    for index, keep_ratio in enumerate(KEEP_RATIOS):
        for shape in MODELS:
            grid = GRIDS[index % len(GRIDS)]
            name = f'{shape}-{grid}-{keep_ratio}'
            yield pytest.param(shape, grid, keep_ratio, 10 + index, id=name)


@pytest.fixture(params=SHAPES, name='model')
def model_fixture(request: pytest.FixtureRequest) -> Qwen2VLForConditionalGeneration:
    return make_model(request.param)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('shape', MODELS)
def test_keeping_all_equals_the_library(shape: str, grid: tuple[int, int]) -> None:
    model = make_model(shape)
    vision = make_vision(*grid, keep_ratio=1.0)
    prompt_ids = make_prompt_for(shape, grid[0] * grid[1])
    inputs = library_inputs(vision, prompt_ids, model.config.image_token_id)
    with torch.no_grad():
        expected = model(**inputs).logits[0]
    sparse = SparseQwenVl(model)
    features = sparse.encode(vision)
    logits = sparse.prompt_logits(prompt_ids, vision, features)
    assert expected.std() > 0.1  # a model that says the same everywhere would prove nothing
    assert (logits - expected).abs().max() <= TOLERANCE

    state = sparse.prefill(prompt_ids, vision, features)
    assert (state.logits - expected[-1]).abs().max() <= TOLERANCE
    token_ids = list(sparse.decode(state, (), 64))
    generated = model.generate(
        **inputs, do_sample=False, max_new_tokens=64, min_new_tokens=64,
        eos_token_id=None, pad_token_id=0)
    assert token_ids == generated[0, len(prompt_ids):].tolist()


@pytest.mark.parametrize('shape, grid, keep_ratio, seed', cases())
def test_dropped_tokens_equal_masked_ones(
    shape: str, grid: tuple[int, int], keep_ratio: float, seed: int,
) -> None:
    vision = make_vision(*grid, keep_ratio, seed)
    prompt_ids = make_prompt_for(shape, grid[0] * grid[1])
    reference = MaskedDenseReference(shape, vision, prompt_ids)
    sparse = SparseQwenVl(make_model(shape))

    features = sparse.encode(vision)
    expected_features = reference.encode()
    assert (features - expected_features[reference.kept_tokens]).abs().max() <= TOLERANCE

    expected_logits, expected_positions = reference.prefill()
    logits = sparse.prompt_logits(prompt_ids, vision, features)
    assert (logits - expected_logits[reference.kept_places]).abs().max() <= TOLERANCE
    positions = sparse.positions(prompt_ids, *grid)
    assert torch.equal(positions, expected_positions)

    state = sparse.prefill(prompt_ids, vision, features)
    assert state.next_position == int(expected_positions.max()) + 1
    token_ids = list(sparse.decode(state, (), 64))
    reference.cache = DynamicCache(config=reference.model.config.text_config)
    expected_ids, narrowest_lead = reference.decode(64)
    assert narrowest_lead > TOLERANCE  # else rounding might choose, and the case proves nothing
    assert token_ids == expected_ids


def test_positions_reach_the_model(model: Qwen2VLForConditionalGeneration) -> None:
    # The positions that the model computes with, not those that positions() returns.
    rows, cols = 3, 5
    vision = make_vision(rows, cols, keep_ratio=0.4)
    seen: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[name] = kwargs['position_ids'] if 'position_ids' in kwargs else args[1]
        return hook

    inner = model.model
    inner.visual.rotary_pos_emb.register_forward_pre_hook(record('encoder'), with_kwargs=True)
    inner.language_model.rotary_emb.register_forward_pre_hook(record('text'), with_kwargs=True)
    sparse = SparseQwenVl(model)
    prompt_ids = make_prompt(rows * cols, question='?')
    sparse.prefill(prompt_ids, vision, sparse.encode(vision))

    # by hand: the four patches of a token, row by row, at twice its row and column
    expected_patches = [
        [2 * (index // cols) + down, 2 * (index % cols) + right]
        for index in vision.kept_indices.tolist() for down in (0, 1) for right in (0, 1)]
    assert seen['encoder'].tolist() == expected_patches
    # by hand: 7 tokens before the image (turn start, 5 bytes, vision start) count from 0; the
    # image starts at 7 and the text goes on after its longer side, 7 + 5
    image = [[7, 7 + index // cols, 7 + index % cols] for index in vision.kept_indices.tolist()]
    num_after = len(prompt_ids) - 7 - rows * cols
    text = [[place] * 3 for place in range(12, 12 + num_after)]
    assert seen['text'][:, 0].T.tolist() == [[place] * 3 for place in range(7)] + image + text


def test_dropped_patches_are_never_computed_on(model: Qwen2VLForConditionalGeneration) -> None:
    vision = make_vision(4, 4, keep_ratio=0.25)
    dropped = np.setdiff1d(np.arange(16), vision.kept_indices)
    pixels = vision.pixel_values.clone().unflatten(0, (16, 4))
    pixels[dropped] = torch.nan
    poisoned = VisionInput(pixels.flatten(0, 1), 4, 4, vision.kept_indices)
    lengths = []
    model.model.visual.patch_embed.register_forward_pre_hook(
        lambda module, args: lengths.append(len(args[0])))
    sparse = SparseQwenVl(model)
    assert torch.equal(sparse.encode(poisoned), sparse.encode(vision))
    assert lengths == [16, 16]  # 4 tokens of 4 patches


def test_the_input_and_the_model_stay_as_they_are(
    model: Qwen2VLForConditionalGeneration,
) -> None:
    vision = make_vision(3, 3, keep_ratio=0.5)
    prompt_ids = make_prompt(9)
    inputs = library_inputs(vision, prompt_ids)
    with torch.no_grad():
        before = model(**inputs).logits
    copies = [item.clone() for item in (vision.pixel_values, prompt_ids)]
    sparse = SparseQwenVl(model)
    sparse.prefill(prompt_ids, vision, sparse.encode(vision))
    assert torch.equal(vision.pixel_values, copies[0]) and torch.equal(prompt_ids, copies[1])
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, before)


@pytest.mark.parametrize('attention', ['eager', 'sdpa'])
def test_low_precision_runs(attention: str) -> None:
    vision = make_vision(4, 3, keep_ratio=0.5)
    prompt_ids = make_prompt(12)
    exact = SparseQwenVl(make_model('wide', attention))
    rounded = SparseQwenVl(make_model('wide', attention).to(torch.bfloat16))
    logits = [
        sparse.prompt_logits(prompt_ids, vision, sparse.encode(vision)).float()
        for sparse in (exact, rounded)]
    # bfloat16 keeps 8 bits: close to the exact one, far closer than another image is
    assert torch.corrcoef(torch.stack(logits).flatten(1))[0, 1] > 0.99


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('shape', SHAPES)
def test_a_gpu_answers_as_a_cpu_does(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # by default torch lets cuDNN round the inputs of the patch embedding to 10 bits
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    vision = make_vision(5, 4, keep_ratio=0.4)
    prompt_ids = make_prompt(20)
    answers = []
    for device in ('cpu', 'cuda'):
        sparse = SparseQwenVl(make_model(shape).to(device))
        state = sparse.prefill(prompt_ids, vision, sparse.encode(vision))
        answers.append((state.logits.cpu(), list(sparse.decode(state, (), 64))))
    assert (answers[0][0] - answers[1][0]).abs().max() <= TOLERANCE
    assert answers[0][1] == answers[1][1]


def test_decoding_ends_before_an_end_token_and_at_the_limit() -> None:
    vision, prompt_ids = make_vision(2, 2, keep_ratio=0.5), make_prompt(4)
    sparse = SparseQwenVl(make_model('wide'))
    features = sparse.encode(vision)

    def decode(end_token_ids: Any, max_new_tokens: int) -> list[int]:
        state = sparse.prefill(prompt_ids, vision, features)
        return list(sparse.decode(state, end_token_ids, max_new_tokens))

    token_ids = decode((), 12)
    assert len(token_ids) == 12 and len(set(token_ids)) > 1
    end = token_ids[5]
    assert decode({end}, 12) == token_ids[:token_ids.index(end)]
    assert decode((), 1) == token_ids[:1]
    assert decode((), 0) == []


@pytest.mark.parametrize('configured, expected', [(3, {3}), ([4, 5], {4, 5}), (None, set())])
def test_end_tokens_come_from_the_generation_config(configured: Any, expected: set[int]) -> None:
    model = make_model('narrow')
    model.generation_config.eos_token_id = configured
    assert SparseQwenVl(model).end_token_ids == expected


@pytest.mark.parametrize('kept_indices', [
    [], [0, 0], [2, 1], [-1, 0], [3, 4], [[0, 1]], [0.0, 1.0]])
def test_bad_indices_are_refused(kept_indices: list[Any]) -> None:
    with pytest.raises(ValueError, match='kept_indices'):
        VisionInput(torch.zeros(16, PATCH_VALUES), 2, 2, np.array(kept_indices))


def test_patches_that_do_not_fill_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match='2 x 2 tokens'):
        VisionInput(torch.zeros(15, PATCH_VALUES), 2, 2, np.array([0]))


@pytest.mark.parametrize('prompt_ids', [
    make_prompt(3), make_prompt(5), torch.cat([make_prompt(2), make_prompt(2)]),
    torch.tensor([1, 2])])
def test_a_prompt_without_the_image_is_refused(prompt_ids: Tensor) -> None:
    with pytest.raises(ValueError, match='image tokens: give one run of 4'):
        SparseQwenVl(make_model('narrow')).positions(prompt_ids, 2, 2)


def test_other_models_and_sliding_windows_are_refused() -> None:
    model = make_model('narrow')
    model.config.text_config.layer_types = ['full_attention', 'sliding_attention']
    with pytest.raises(ValueError, match='use_sliding_window'):
        SparseQwenVl(model)
    model.config = Qwen2VLTextConfig()
    with pytest.raises(ValueError, match='give a Qwen2-VL checkpoint'):
        SparseQwenVl(model)
