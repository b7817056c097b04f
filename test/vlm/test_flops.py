"""The counted FLOPs against torch's FLOP counter and against the published table."""

from __future__ import annotations

from dataclasses import replace

from epvlm_ros.vlm.flops import (
    encoder_flops, language_model_flops, ModelShape, prefill_flops, refresh_flops)
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
from epvlm_ros.vlm.sparse_qwen.scene.scene_forward import SceneForward
from epvlm_ros.vlm.token_selection import token_budget
import numpy as np
import pytest
from qwen_checkpoints import library_inputs, make_model, make_prompt, make_vision
from qwen_shapes import SHAPES
import torch
from torch.nn.attention import sdpa_kernel, SDPBackend
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig

QWEN2_VL_2B = Qwen2VLConfig(
    vision_config={
        'depth': 32, 'embed_dim': 1280, 'hidden_size': 1536, 'num_heads': 16, 'mlp_ratio': 4},
    text_config={
        'hidden_size': 1536, 'num_hidden_layers': 28, 'num_attention_heads': 12,
        'num_key_value_heads': 2, 'intermediate_size': 8960, 'vocab_size': 151936})


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('keep_ratio', [0.25, 0.6, 1.0])
def test_sparse_runs_agree_with_torch(shape: str, keep_ratio: float) -> None:
    model = make_model(shape, 'eager')  # torch does not count the fused attention of a CPU
    sparse = SparseQwenVl(model)
    vision, prompt_ids = make_vision(6, 9, keep_ratio, shape=shape), make_prompt(54)
    with FlopCounterMode(display=False) as encoder_counter:
        features = sparse.encode(vision)
    with FlopCounterMode(display=False) as text_counter:
        sparse.prefill(prompt_ids, vision, features)
    model_shape = ModelShape.from_config(model.config)
    num_kept = len(vision.kept_indices)
    assert encoder_counter.get_total_flops() == pytest.approx(encoder_flops(
        model_shape, num_kept, model_shape.window_sizes(vision.kept_indices, 9)), rel=0.01)
    assert text_counter.get_total_flops() == pytest.approx(
        language_model_flops(model_shape, num_kept + len(prompt_ids) - 54), rel=0.01)


@pytest.mark.parametrize('shape', SHAPES)
def test_the_librarys_dense_run_agrees_with_torch(shape: str) -> None:
    model = make_model(shape, 'eager')
    vision, prompt_ids = make_vision(5, 7, 1.0, shape=shape), make_prompt(35)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**library_inputs(vision, prompt_ids), logits_to_keep=1)
    model_shape = ModelShape.from_config(model.config)
    counted = prefill_flops(
        model_shape, 35, len(prompt_ids) - 35,
        window_sizes=model_shape.window_sizes(np.arange(35), 7))
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.01)


# Visual tokens, then of the published table (60 text tokens, causal attention in the language
# model): TFLOPs, the encoder's share, saved by dropping half of the tokens before the encoder.
@pytest.mark.parametrize('num_tokens, teraflops, encoder_share, saved', [
    (256, 2.32, 0.64, 0.485), (391, 3.60, 0.67, 0.508), (1196, 13.3, 0.74, 0.567),
    (2691, 40.6, 0.81, 0.619)])
def test_the_2b_shape_agrees_with_the_table(
    num_tokens: int, teraflops: float, encoder_share: float, saved: float,
) -> None:
    shape = ModelShape.from_config(QWEN2_VL_2B)
    dense = prefill_flops(shape, num_tokens, 60, causal=True)
    half = prefill_flops(shape, num_tokens // 2, 60, causal=True)
    assert dense / 1e12 == pytest.approx(teraflops, rel=0.003)
    assert encoder_flops(shape, num_tokens) / dense == pytest.approx(encoder_share, abs=0.006)
    assert 1 - half / dense == pytest.approx(saved, abs=0.001)


@pytest.mark.parametrize('causal', [False, True])
def test_half_the_tokens_save_half_of_the_prefill_at_vga(causal: bool) -> None:
    shape = ModelShape.from_config(QWEN2_VL_2B)
    dense = prefill_flops(shape, 391, 60, causal=causal)
    sparse = prefill_flops(shape, token_budget(0.5, 391), 60, causal=causal)
    assert 1 - sparse / dense >= 0.49


ONE_LAYER = ModelShape(
    encoder_depth=1, encoder_dim=2, encoder_mlp_dim=4, encoder_mlp_matrices=2,
    num_windowed_layers=0, window_size=0, num_mergers=1, patch_values=3, patches_per_token=4,
    depth=1, dim=5, query_dim=5, key_value_dim=1, mlp_dim=7, vocabulary_size=11)


def test_by_hand() -> None:
    # one token of 4 patches; patch embedding 4*3*2; qkv 4*2*6, projection 4*2*2, MLP 2*4*2*4,
    # scores and sum 2*4*4*2; merger 8*8 + 8*5
    assert encoder_flops(ONE_LAYER, 1) == 2 * (24 + 48 + 16 + 64 + 64 + 64 + 40)
    # 3 tokens; q and output 2*3*25, k and v 2*3*5, MLP 3*3*35, attention 2*9*5 or 2*6*5; head 55
    assert language_model_flops(ONE_LAYER, 3) == 2 * (150 + 30 + 315 + 90 + 55)
    assert language_model_flops(ONE_LAYER, 3, causal=True) == 2 * (150 + 30 + 315 + 60 + 55)


def test_other_families_by_hand() -> None:
    shape = replace(
        ONE_LAYER, encoder_depth=3, encoder_mlp_matrices=3, num_windowed_layers=2, window_size=2,
        num_mergers=2, query_dim=6)
    # 3 tokens of 4 patches, 2 of them in one window; a layer: qkv and projection 12*2*8, MLP
    # 3*12*2*4; scores and sum 2*2 for each pair: 12*12 in one layer, 8*8 + 4*4 in two
    encoder = 12 * 6 + 3 * (192 + 288) + 4 * (144 + 2 * 80) + 2 * 3 * (64 + 40)
    assert encoder_flops(shape, 3, [2, 1]) == 2 * encoder
    # q and output 2*3*5*6, k and v 2*3*5, MLP 3*3*35, attention 2*9*6; head 55
    assert language_model_flops(shape, 3) == 2 * (180 + 30 + 315 + 108 + 55)
    assert prefill_flops(shape, 3, 0, window_sizes=[2, 1]) == 2 * (encoder + 688)


@pytest.mark.parametrize('window_sizes', [None, [], [2], [2, 2]])
def test_windows_that_do_not_add_up_are_refused(window_sizes: list[int] | None) -> None:
    shape = replace(ONE_LAYER, num_windowed_layers=1, window_size=2)
    with pytest.raises(ValueError, match='of 3 visual tokens: give window_sizes'):
        encoder_flops(shape, 3, window_sizes)


def test_windows_by_hand() -> None:
    # 3 x 3 tokens in windows of 2 x 2; the corner of the last window is kept
    shape = replace(ONE_LAYER, num_windowed_layers=1, window_size=2)
    sizes = shape.window_sizes(np.array([0, 2, 4, 8]), cols=3)
    assert sizes is not None and sizes.tolist() == [2, 1, 1]
    assert ONE_LAYER.window_sizes(np.array([0, 2, 4, 8]), cols=3) is None


def test_published_shapes() -> None:
    # as in config.json of Qwen2.5-VL-3B-Instruct and Qwen3-VL-2B-Instruct
    windowed = ModelShape.from_config(Qwen2_5_VLConfig(vision_config={
        'depth': 32, 'hidden_size': 1280, 'intermediate_size': 3420, 'window_size': 112,
        'out_hidden_size': 2048, 'fullatt_block_indexes': [7, 15, 23, 31]}))
    assert (windowed.num_windowed_layers, windowed.window_size, windowed.num_mergers) == (28, 4, 1)
    deepstack = ModelShape.from_config(Qwen3VLConfig(
        text_config={'hidden_size': 2048, 'num_attention_heads': 16, 'num_key_value_heads': 8,
                     'head_dim': 128},
        vision_config={'depth': 24, 'hidden_size': 1024, 'out_hidden_size': 2048,
                       'deepstack_visual_indexes': [5, 11, 17]}))
    assert (deepstack.num_windowed_layers, deepstack.num_mergers) == (0, 4)
    assert (deepstack.query_dim, deepstack.key_value_dim) == (2048, 1024)
    assert deepstack.patch_values == 3 * 2 * 16 * 16


# One layer of the encoder, on 1 of 3 known tokens: as test_by_hand, but scores and sum are of 4
# patches with 12.
ENCODER_OF_ONE = 24 + 48 + 16 + 64 + 2 * 4 * 12 * 2 + 64 + 40
KNOWN = np.array([True, True, False, True])


def test_a_refresh_by_hand() -> None:
    # the language model on one token with 2 of text: q and output 2*25, k and v 2*5, MLP 3*35,
    # attention 2*5 for each token that it attends to: 2 + 3, or 2 + 2 up to itself; no head
    counted = refresh_flops(ONE_LAYER, np.array([1]), KNOWN, 2, num_text_tokens=2)
    assert counted == 2 * (ENCODER_OF_ONE + 50 + 10 + 105 + 50)
    counted = refresh_flops(ONE_LAYER, np.array([1]), KNOWN, 2, num_text_tokens=2, causal=True)
    assert counted == 2 * (ENCODER_OF_ONE + 50 + 10 + 105 + 40)


def test_a_refresh_of_tokens_encoded_by_themselves_by_hand() -> None:
    counted = refresh_flops(
        ONE_LAYER, np.array([1]), KNOWN, 2, num_text_tokens=2, attends_to_scene=False)
    assert counted == encoder_flops(ONE_LAYER, 1) + 2 * (50 + 10 + 105 + 50)


@pytest.mark.parametrize('causal, pairs', [(False, 5 * 5), (True, 1 + 2 + 3 + 4 + 5)])
def test_a_scene_that_begins_costs_a_dense_run_without_the_head(causal: bool, pairs: int) -> None:
    counted = refresh_flops(
        ONE_LAYER, np.arange(3), np.ones(3, np.bool_), 3, num_text_tokens=2, runs_text=True,
        causal=causal)
    assert counted == encoder_flops(ONE_LAYER, 3) + 2 * (5 * (50 + 10 + 105) + 10 * pairs)


def test_nothing_refreshed_costs_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert refresh_flops(ONE_LAYER, none, KNOWN, 2, num_text_tokens=2) == 0


def test_a_refresh_in_windows_by_hand() -> None:
    # 2 x 3 tokens in windows of 2 x 2: tokens 0 1 3 4 and 2 5; 4 is unknown
    shape = replace(ONE_LAYER, num_windowed_layers=1, window_size=2, depth=0)
    known = np.array([True, True, True, True, False, True])
    counted = refresh_flops(shape, np.array([0, 5]), known, 3, num_text_tokens=0)
    # 0 attends to 3 tokens, 5 to 2, each of 4 patches with 4; the rest twice that of one token
    assert counted == 2 * (2 * (24 + 48 + 16 + 64 + 64 + 40) + 2 * 2 * (3 + 2) * 16)


def test_a_refreshed_token_has_to_be_known() -> None:
    with pytest.raises(ValueError, match='token 2 is refreshed and not known'):
        refresh_flops(ONE_LAYER, np.array([1, 2]), KNOWN, 2, num_text_tokens=2)


@pytest.mark.parametrize('shape', [
    name for name, shape in SHAPES.items() if shape.model_type != 'qwen2_5_vl'])
@pytest.mark.parametrize('attends_to_scene', [True, False])
def test_refreshes_agree_with_torch(shape: str, attends_to_scene: bool) -> None:
    model = make_model(shape, 'eager')
    forward = SceneForward(SparseQwenVl(model), attends_to_scene)
    vision = make_vision(6, 9, 1.0, shape=shape)
    scene = forward.begin(make_prompt(54), 6, 9)
    num_text_tokens = int((~scene.layout.is_visual).sum())
    for refreshed, runs_text in ((vision.kept_indices, True), (np.array([0, 7, 30]), False)):
        # torch does not count the fused attention of a CPU
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            forward.refresh(scene, replace(vision, kept_indices=refreshed))
        assert counter.get_total_flops() == pytest.approx(refresh_flops(
            ModelShape.from_config(model.config), refreshed, np.ones(54, np.bool_), 9,
            num_text_tokens=num_text_tokens, runs_text=runs_text,
            attends_to_scene=attends_to_scene), rel=0.01)
