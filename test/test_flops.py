"""The counted FLOPs against torch's FLOP counter and against the published table."""

from epvlm_ros.core.flops import encoder_flops, language_model_flops, ModelShape, prefill_flops
from epvlm_ros.core.selection import token_budget
from epvlm_ros.core.sparse_qwen_vl import SparseQwenVl, VisionInput
import numpy as np
import pytest
from qwen_checkpoints import IMAGE, make_model, make_prompt, SHAPES
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2VLConfig

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
    kept = np.arange(token_budget(keep_ratio, 48))
    vision = VisionInput(torch.zeros(4 * 48, 1176), 6, 8, kept)
    prompt_ids = make_prompt(48)
    with FlopCounterMode(display=False) as encoder_counter:
        features = sparse.encode(vision)
    with FlopCounterMode(display=False) as text_counter:
        sparse.prefill(prompt_ids, vision, features)
    model_shape = ModelShape.from_config(model.config)
    num_text_tokens = len(prompt_ids) - 48
    assert encoder_counter.get_total_flops() == pytest.approx(
        encoder_flops(model_shape, len(kept)), rel=0.01)
    assert text_counter.get_total_flops() == pytest.approx(
        language_model_flops(model_shape, len(kept) + num_text_tokens), rel=0.01)


@pytest.mark.parametrize('shape', SHAPES)
def test_the_librarys_dense_run_agrees_with_torch(shape: str) -> None:
    model = make_model(shape, 'eager')
    prompt_ids = make_prompt(35)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(
            input_ids=prompt_ids[None], pixel_values=torch.zeros(4 * 35, 1176),
            image_grid_thw=torch.tensor([[1, 10, 14]]),
            mm_token_type_ids=(prompt_ids == IMAGE).int()[None], logits_to_keep=1)
    counted = prefill_flops(ModelShape.from_config(model.config), 35, len(prompt_ids) - 35)
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


def test_by_hand() -> None:
    shape = ModelShape(
        encoder_depth=1, encoder_dim=2, encoder_mlp_dim=4, patch_values=3, patches_per_token=4,
        depth=1, dim=5, key_value_dim=1, mlp_dim=7, vocabulary_size=11)
    # one token of 4 patches; patch embedding 4*3*2; qkv 4*2*6, projection 4*2*2, MLP 2*4*2*4,
    # scores and sum 2*4*4*2; merger 8*8 + 8*5
    assert encoder_flops(shape, 1) == 2 * (24 + 48 + 16 + 64 + 64 + 64 + 40)
    # 3 tokens; q and output 2*3*25, k and v 2*3*5, MLP 3*3*35, attention 2*9*5 or 2*6*5; head 55
    assert language_model_flops(shape, 3) == 2 * (150 + 30 + 315 + 90 + 55)
    assert language_model_flops(shape, 3, causal=True) == 2 * (150 + 30 + 315 + 60 + 55)
