"""Questions about several moments, and frames that are computed ahead of the question."""

from dataclasses import replace
from pathlib import Path

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import Moment, VlmEngine
import numpy as np
import pytest
from qwen_checkpoints import (
    library_of, make_model, make_moments_prompt, save_original_checkpoint)
from qwen_shapes import VIDEO
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText, AutoTokenizer, Qwen2VLImageProcessorPil

pytestmark = pytest.mark.long

QUESTION = 'what moves?'
HEIGHT, WIDTH = 140, 196  # 5 x 7 tokens


def make_moments(num_moments: int, *busy_rows: int) -> list[Moment]:
    """Return frames of noise, in each of which one row of cells is busy."""
    random = np.random.default_rng(num_moments)
    moments = []
    for place in range(num_moments):
        counts = np.zeros((5, 7), dtype=np.float32)
        if busy_rows:
            counts[busy_rows[place]] = 2000.0
        start_ns = 1_000_000_000 * place
        activity = ActivityGrid(counts, 28, HEIGHT, WIDTH, start_ns, start_ns + 40_000_000)
        image_rgb = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        moments.append(Moment(image_rgb, activity))
    return moments


def make_engine(folder: Path, shape: str = 'wide', **parameters: object) -> VlmEngine:
    if not (folder / 'config.json').exists():
        save_original_checkpoint(folder, make_model(shape))
    return VlmEngine.from_config(VlmConfig(**{  # type: ignore[arg-type]
        'model': str(folder), 'device': 'cpu', 'max_new_tokens': 16, 'selection': 'events',
        **parameters}))


@pytest.mark.parametrize('shape, num_tokens', [
    # at least 65536 pixels in Qwen3-VL: 140 x 196 grows by 1.545 to 6.8 x 9.5 tokens of 32 px
    ('wide', 35), ('qwen2.5 narrow', 35), ('qwen3 wide', 70)])
def test_keeping_all_gives_the_librarys_text_about_a_video(
    shape: str, num_tokens: int, tmp_path: Path,
) -> None:
    engine, moments = make_engine(tmp_path, shape, keep_ratio=1.0), make_moments(3)
    answer = engine.answer_about(moments, QUESTION, seconds_between=0.5)
    processed = Qwen2VLImageProcessorPil.from_pretrained(tmp_path)(
        images=[moment.image_rgb for moment in moments], return_tensors='pt')
    grid = processed['image_grid_thw'][:1].clone()
    grid[0, 0] = 3  # three steps in time in place of three images
    prompt_ids = make_moments_prompt(shape, 3, num_tokens, 0.5)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    more = {'second_per_grid_ts': torch.tensor([0.5])} if 'qwen2.5' in shape else {}
    generated = model.generate(
        input_ids=prompt_ids[None], attention_mask=torch.ones_like(prompt_ids)[None],
        mm_token_type_ids=2 * (prompt_ids == VIDEO).int()[None],
        pixel_values_videos=processed['pixel_values'], video_grid_thw=grid, **more,
        max_new_tokens=16, do_sample=False)
    expected = AutoTokenizer.from_pretrained(tmp_path).decode(
        generated[0, len(prompt_ids):], skip_special_tokens=True)
    assert answer.text == expected != ''
    assert (answer.num_moments, answer.num_tokens, answer.num_tokens_kept) == (
        3, 3 * num_tokens, 3 * num_tokens)


def test_each_moment_keeps_its_own_tokens(tmp_path: Path) -> None:
    # tokens of 28 px, cells of 28 px: a busy row of cells is a row of tokens
    engine = make_engine(tmp_path, keep_ratio=0.6)  # a row of five in each of three
    answer = engine.answer_about(make_moments(3, 1, 4, 0), QUESTION)
    rows = answer.kept_indices.reshape(3, 7) // 7
    assert rows.tolist() == [[1] * 7, [5 + 4] * 7, [10 + 0] * 7]
    assert (answer.rows, answer.cols, answer.num_tokens, answer.num_tokens_kept) == (5, 7, 105, 21)


@pytest.mark.parametrize('shape', ['wide', 'qwen2.5 wide', 'qwen3 narrow'])
def test_flops_are_counted(shape: str, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, shape, attention='eager', max_new_tokens=1)
    moments = make_moments(3, 1, 4, 0)
    for keep_ratio in (0.4, 1.0):
        with FlopCounterMode(display=False) as counter:
            answer = engine.answer_about(moments, QUESTION, keep_ratio=keep_ratio)
        assert counter.get_total_flops() == pytest.approx(answer.flops_used, rel=0.01)
    assert answer.flops_used == answer.flops_dense


def test_the_same_moments_are_computed_once(tmp_path: Path) -> None:
    engine, moments = make_engine(tmp_path, 'qwen2.5 wide'), make_moments(2, 1, 3)
    first = engine.answer_about(moments, QUESTION)
    second = engine.answer_about(moments, QUESTION)
    assert second.text == first.text and first.flops_reused == 0 < second.flops_reused
    older = Moment(moments[0].image_rgb[::-1].copy(), moments[0].activity)
    for changed, seconds in (([older, moments[1]], 1.0), (moments, 2.0), (moments[1:], 1.0)):
        answer = engine.answer_about(changed, QUESTION, seconds_between=seconds)
        assert answer.flops_reused == 0 and answer.text != first.text


def test_moments_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    engine, moments = make_engine(tmp_path), make_moments(2)
    smaller = Moment(moments[1].image_rgb[:100], None)
    with pytest.raises(ValueError, match='images of one size'):
        engine.answer_about([moments[0], smaller], QUESTION)
    with pytest.raises(ValueError, match='at least one moment'):
        engine.answer_about([], QUESTION)


@pytest.mark.parametrize('num_moments', [1, 2])
def test_what_was_prepared_is_not_computed_again(num_moments: int, tmp_path: Path) -> None:
    moments = make_moments(num_moments, 2, 3)
    fresh, engine = (make_engine(tmp_path, keep_ratio=0.4) for _ in range(2))
    frames: list[int] = []
    library_of(engine).model.visual.register_forward_pre_hook(
        lambda module, args: frames.append(1))
    engine.prepare(moments)
    engine.prepare(moments)
    assert len(frames) == 1
    answer, expected = (
        each.answer_about(moments, QUESTION) for each in (engine, fresh))
    assert answer.text == expected.text and len(frames) == 1
    assert np.array_equal(answer.kept_indices, expected.kept_indices)
    assert 0 == expected.flops_reused < answer.flops_reused < answer.flops_used
    engine.prepare(make_moments(3), should_stop=lambda: True)
    assert len(frames) == 1
    engine.reconfigure(replace(engine.config, keep_ratio=0.2))
    share = round(0.2 * 35 / num_moments)
    assert engine.answer_about(moments, QUESTION).num_tokens_kept == share * num_moments


def test_what_stands_before_one_moment_is_not_what_stands_before_two(tmp_path: Path) -> None:
    # Qwen3-VL tells the time before each of several moments
    engine = make_engine(tmp_path, 'qwen3 narrow', system_prompt='be brief, ' * 10)
    reused = [engine.answer_about(make_moments(num_moments), QUESTION).flops_reused > 0
              for num_moments in (1, 2, 1)]
    again = engine.answer_about(make_moments(1, 2), '?').flops_reused
    assert reused == [False] * 3 and again > 0
