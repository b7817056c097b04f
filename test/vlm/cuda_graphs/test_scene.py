"""
Scenes in memory as functions of fixed shapes, against the eager model.

Where there is no GPU nothing is captured; what is computed is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
import gc
from typing import Any

from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.scene import CudaGraphScene
from epvlm_ros.vlm.sparse_qwen import SceneStates, SparseBackend, SparseQwenVl, VisionInput
import numpy as np
import pytest
from qwen_checkpoints import make_model, make_prompt, make_prompt_for, make_vision, needs_gpu
from qwen_shapes import SHAPES
import torch
from torch import Tensor

TOLERANCE = 1e-4
ROWS, COLS = 5, 9  # windows of 4 x 4 tokens are cut at both edges
NUM_TOKENS = ROWS * COLS
ALL = np.arange(NUM_TOKENS)
# 1 to 17 tokens: padded to 16 and 32; among them the first, the last and neighbours
PARTS = [np.array(part) for part in (
    [0], [44], [7, 8, 16, 17], [0, 1, 9, 20, 21, 33, 44], range(2, 36, 2), range(NUM_TOKENS))]


def make_backends(shape: str, **options: Any) -> tuple[SparseQwenVl, CudaGraphQwenVl]:
    eager = SparseQwenVl(make_model(shape))
    return eager, CudaGraphQwenVl(eager, **{'cache_tokens': 512, **options})


def pictures(shape: str, number: int) -> list[VisionInput]:
    return [make_vision(ROWS, COLS, 1.0, seed, shape=shape) for seed in range(number)]


def part_of(vision: VisionInput, tokens: np.ndarray) -> VisionInput:
    return replace(vision, kept_indices=tokens)


def ask(model: SparseBackend, scene: SceneStates, prompt_ids: Tensor) -> Tensor:
    prefix = scene.snapshot()
    logits: Tensor = model.extend(prefix, prefix.text_after(prompt_ids)).logits
    return logits.float().clone()


def answer(
    model: SparseBackend, scene: SceneStates, prompt_ids: Tensor, length: int,
) -> list[int]:
    prefix = scene.snapshot()
    state = model.extend(prefix, prefix.text_after(prompt_ids))
    return list(model.decode(state, (), length))


def follow(
    model: SparseBackend, updates: Iterable[VisionInput], prompt_ids: Tensor,
    attends_to_scene: bool = True,
) -> tuple[SceneStates, list[Tensor]]:
    """Return the scene after some updates, and the logits of a question after each."""
    forward = model.scene_forward(attends_to_scene)
    scene, logits = forward.begin(prompt_ids, ROWS, COLS), []
    for vision in updates:
        forward.refresh(scene, vision)
        logits.append(ask(model, scene, prompt_ids))
    return scene, logits


@pytest.mark.parametrize('attends_to_scene', [True, False], ids=['scene', 'alone'])
@pytest.mark.parametrize('shape', SHAPES)
def test_every_update_equals_the_eager_one(shape: str, attends_to_scene: bool) -> None:
    eager, graphs = make_backends(shape)
    first, *others = pictures(shape, 1 + len(PARTS))
    prompt_ids = make_prompt_for(shape, NUM_TOKENS)
    updates = [first, *(part_of(vision, part) for vision, part in zip(others, PARTS))]
    _, expected = follow(eager, updates, prompt_ids, attends_to_scene)
    scene, found = follow(graphs, updates, prompt_ids, attends_to_scene)
    assert isinstance(scene, CudaGraphScene) and scene.known.all()
    assert min(float((after - before).abs().max())
               for before, after in zip(expected, expected[1:])) > 100 * TOLERANCE
    assert max(float((own - other).abs().max())
               for own, other in zip(found, expected)) <= TOLERANCE


@pytest.mark.parametrize('attends_to_scene', [True, False], ids=['scene', 'alone'])
@pytest.mark.parametrize('shape', SHAPES)
def test_a_scene_that_is_filled_over_several_updates_equals_the_eager_one(
    shape: str, attends_to_scene: bool,
) -> None:
    eager, graphs = make_backends(shape)
    prompt_ids = make_prompt_for(shape, NUM_TOKENS)
    # the second update computes some tokens again, the last one knows all
    parts = [ALL[30:], np.array([3, 29, 30, 44]), ALL[1::2], ALL[:20]]
    updates = [part_of(vision, part) for vision, part in zip(pictures(shape, 4), parts)]
    _, expected = follow(eager, updates, prompt_ids, attends_to_scene)
    _, found = follow(graphs, updates, prompt_ids, attends_to_scene)
    for own, other in zip(found, expected):
        assert (own - other).abs().max() <= TOLERANCE


@pytest.mark.parametrize('shape', SHAPES)
def test_a_scene_filled_at_once_equals_the_dense_run(shape: str) -> None:
    eager, graphs = make_backends(shape)
    vision, prompt_ids = pictures(shape, 1)[0], make_prompt_for(shape, NUM_TOKENS)
    expected = eager.prefill(prompt_ids, vision, eager.encode(vision)).logits
    unchanged = [vision, *(part_of(vision, part) for part in PARTS)]
    _, found = follow(graphs, unchanged, prompt_ids)
    for logits in found:
        assert (logits - expected).abs().max() <= TOLERANCE


def check_answers(shape: str, length: int) -> None:
    eager, graphs = make_backends(shape)
    prompt_ids = make_prompt_for(shape, NUM_TOKENS)
    first, second = pictures(shape, 2)
    updates = [first, part_of(second, PARTS[4])]
    expected, _ = follow(eager, updates, prompt_ids)
    found, _ = follow(graphs, updates, prompt_ids)
    token_ids = answer(graphs, found, prompt_ids, length)
    assert token_ids == answer(eager, expected, prompt_ids, length)


@pytest.mark.parametrize('shape', ['narrow', 'qwen2.5 narrow', 'qwen3 narrow'])
def test_answers_about_a_scene_are_the_eager_ones(shape: str) -> None:
    check_answers(shape, 24)


@pytest.mark.slow
@pytest.mark.parametrize('shape', SHAPES)
def test_long_answers_about_a_scene_are_the_eager_ones(shape: str) -> None:
    check_answers(shape, 128)


@pytest.mark.parametrize('shape', ['narrow', 'qwen2.5 narrow', 'qwen3 narrow'])
def test_padding_is_seen_by_nobody(shape: str) -> None:
    # 7 tokens in place of 16; the places behind them held large numbers, and then nothing finite
    eager, graphs = make_backends(shape)
    first, second = pictures(shape, 2)
    prompt_ids = make_prompt_for(shape, NUM_TOKENS)
    updates = [first, part_of(second, PARTS[3])]
    _, expected = follow(eager, updates, prompt_ids)
    for value in (1e4, float('nan')):
        other = part_of(replace(first, pixel_values=torch.full_like(
            first.pixel_values, value)), ALL[:16])
        poisoned = follow(graphs, [first, other], prompt_ids)[1]
        assert not (poisoned[1] - poisoned[0]).abs().max() <= TOLERANCE
        found = follow(graphs, updates, prompt_ids)[1]
        forward: Any = graphs.scene_forward()
        assert len(forward._buffers) == 1  # each scene has the memory of the last
        assert (found[1] - expected[1]).abs().max() <= TOLERANCE


def test_a_snapshot_stays_as_it_was() -> None:
    _, graphs = make_backends('narrow')
    first, second = pictures('narrow', 2)
    prompt_ids = make_prompt(NUM_TOKENS)
    forward = graphs.scene_forward()
    scene = forward.begin(prompt_ids, ROWS, COLS)
    for tokens in (ALL[:20], ALL):  # of a part, of the whole
        forward.refresh(scene, part_of(first, tokens))
        prefix = scene.snapshot()
        text_ids = prefix.text_after(prompt_ids)
        before = graphs.extend(prefix, text_ids).logits.clone()
        saved = prefix.saved.clone()
        forward.refresh(scene, part_of(second, tokens))
        assert torch.equal(prefix.saved, saved)
        assert not torch.equal(graphs.extend(scene.snapshot(), text_ids).logits, before)
        assert torch.equal(graphs.extend(prefix, text_ids).logits, before)


def test_updates_and_answers_do_not_disturb_each_other() -> None:
    _, graphs = make_backends('narrow')
    pieces, prompt_ids = pictures('narrow', 4), make_prompt(NUM_TOKENS)
    updates = [pieces[0], *(part_of(vision, ALL[::3]) for vision in pieces[1:])]
    forward = graphs.scene_forward()
    scene = forward.begin(prompt_ids, ROWS, COLS)
    for vision in updates:
        forward.refresh(scene, vision)
    expected_state = ask(graphs, scene, prompt_ids)
    forward.refresh(scene, updates[0])
    quiet = answer(graphs, scene, prompt_ids, 12)

    scene = forward.begin(prompt_ids, ROWS, COLS)
    forward.refresh(scene, updates[0])
    prefix = scene.snapshot()
    text_ids = prefix.text_after(prompt_ids)
    busy = []
    tokens = graphs.decode(graphs.extend(prefix, text_ids), (), 12)
    for vision in updates[1:]:
        busy.append(next(tokens))
        forward.refresh(scene, vision)
    busy += tokens
    assert busy == quiet
    assert torch.equal(ask(graphs, scene, prompt_ids), expected_state)


@pytest.mark.parametrize('num_more', [3, 90])  # within and beyond the room for text
@pytest.mark.parametrize('shape', ['narrow', 'qwen3 narrow'])
def test_the_scene_goes_on_after_another_text(shape: str, num_more: int) -> None:
    eager, graphs = make_backends(shape)
    prompt_ids = make_prompt_for(shape, NUM_TOKENS)
    longer = torch.cat([torch.arange(97, 97 + num_more) % 26 + 97, prompt_ids])
    first, second = pictures(shape, 2)
    logits: dict[str, list[Tensor]] = {'eager': [], 'graphs': []}
    for name, model in (('eager', eager), ('graphs', graphs)):
        forward = model.scene_forward()
        scene = forward.begin(prompt_ids, ROWS, COLS)
        forward.refresh(scene, part_of(first, ALL[::2]))
        for text, vision in ((longer, second), (prompt_ids, part_of(second, ALL[1::3]))):
            forward.rerun_language_model(scene, text)
            logits[name].append(ask(model, scene, text))
            forward.refresh(scene, vision)
            logits[name].append(ask(model, scene, text))
    for own, other in zip(logits['graphs'], logits['eager']):
        assert (own - other).abs().max() <= TOLERANCE


def test_scenes_side_by_side_have_memory_of_their_own() -> None:
    eager, graphs = make_backends('narrow')
    visions, prompt_ids = pictures('narrow', 2), make_prompt(NUM_TOKENS)
    forward = graphs.scene_forward()
    scenes = [forward.begin(prompt_ids, ROWS, COLS) for _ in visions]
    for tokens in (ALL[::2], ALL):
        for scene, vision in zip(scenes, visions):
            forward.refresh(scene, part_of(vision, tokens))
    for scene, vision in zip(scenes, visions):
        expected = eager.prefill(prompt_ids, vision, eager.encode(vision)).logits
        assert (ask(graphs, scene, prompt_ids) - expected).abs().max() <= TOLERANCE


def test_the_memory_of_a_scene_that_is_gone_is_used_again() -> None:
    _, graphs = make_backends('narrow')
    vision, forward = pictures('narrow', 1)[0], graphs.scene_forward()
    assert graphs.scene_forward() is forward

    def begin(rows: int, cols: int) -> Any:
        gc.collect()
        return forward.begin(make_prompt(rows * cols), rows, cols)

    scene = begin(ROWS, COLS)
    assert scene.num_text_tokens == 7
    forward.refresh(scene, vision)
    place, num_bytes = scene.buffers.language.cache.both.data_ptr(), scene.num_bytes
    del scene
    scene = begin(ROWS, COLS)
    assert scene.buffers.language.cache.both.data_ptr() == place
    with pytest.raises(ValueError, match='nothing of the scene is known'):
        scene.snapshot()
    # float32 keys and values of 2 layers, 3 heads of 16, 46 tokens of 4 patches, and of 3 layers,
    # 2 heads of 12, 64 + 45 + 1 slots
    encoder_bytes, language_bytes = 8 * 2 * 3 * 16 * 46 * 4, 8 * 3 * 2 * 12 * 110
    assert encoder_bytes + language_bytes < num_bytes < 1.5 * (encoder_bytes + language_bytes)
    del scene
    other = begin(COLS, ROWS)
    assert len(forward._buffers) == 1
    del other
    forward.release_memory()
    assert not forward._buffers and not graphs._pool._functions


def test_a_warm_up_makes_the_functions_that_updates_need() -> None:
    eager, graphs = make_backends('narrow')
    forward: Any = graphs.scene_forward()
    functions = graphs._pool._functions
    prompt_ids = make_prompt(NUM_TOKENS)
    forward.warm_up(prompt_ids, ROWS, COLS, 20, lambda: True)
    assert len(functions) == 1  # the text before the image
    forward.warm_up(prompt_ids, ROWS, COLS, 20, lambda: False)
    gc.collect()
    # the text, 20 tokens of 32 while others are unknown, all tokens, and 16 and 32 of them
    assert len(functions) == 5
    known = set(functions)
    first, second = pictures('narrow', 2)
    updates = [part_of(first, ALL[:20]), first, part_of(second, ALL[3:20])]
    _, found = follow(graphs, updates, prompt_ids)
    assert {name for name in functions if 'update' in str(name)} <= known
    _, expected = follow(eager, updates, prompt_ids)
    for own, other in zip(found, expected):
        assert (own - other).abs().max() <= TOLERANCE


def test_what_does_not_fit_is_kept_by_the_eager_model() -> None:
    eager, graphs = make_backends('narrow', cache_tokens=32)
    first, second = pictures('narrow', 2)
    prompt_ids = make_prompt(NUM_TOKENS)
    updates = [first, part_of(second, PARTS[3])]
    _, expected = follow(eager, updates, prompt_ids)
    scene, found = follow(graphs, updates, prompt_ids)
    assert not isinstance(scene, CudaGraphScene)
    assert all(torch.equal(own, other) for own, other in zip(found, expected))
    longer = torch.cat([torch.tensor([97, 98]), prompt_ids])
    graphs.scene_forward().rerun_language_model(scene, longer)
    assert len(scene.snapshot().token_ids) == len(longer) - len(
        scene.snapshot().text_after(longer))


def test_what_cannot_be_is_refused() -> None:
    _, graphs = make_backends('narrow', cache_tokens=128)
    prompt_ids = make_prompt(NUM_TOKENS)
    forward = graphs.scene_forward()
    scene = forward.begin(prompt_ids, ROWS, COLS)
    with pytest.raises(ValueError, match='begin a new scene'):
        forward.refresh(scene, make_vision(COLS, ROWS, 1.0))
    with pytest.raises(ValueError, match='more than 128: begin a new scene'):
        forward.rerun_language_model(
            scene, torch.cat([torch.full((90,), 97), prompt_ids]))
    with pytest.raises(ValueError, match='image tokens'):
        forward.begin(prompt_ids, ROWS, COLS + 1)


@needs_gpu
@pytest.mark.parametrize('fused', [False, True], ids=['torch', 'fused'])
@pytest.mark.parametrize('shape', SHAPES)
def test_recordings_refresh_as_the_eager_model_does(
    shape: str, fused: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    eager = SparseQwenVl(make_model(shape).cuda())
    graphs = CudaGraphQwenVl(
        eager, cache_tokens=512, operations=None if fused else Operations())
    prompt_ids = make_prompt_for(shape, NUM_TOKENS)
    parts = [ALL[30:], ALL[:31], *PARTS]
    updates = [part_of(vision, part) for vision, part in zip(pictures(shape, 8), parts)]
    _, expected = follow(eager, updates, prompt_ids)
    for _ in range(3):  # as it is, captured, replayed
        scene: Any = None  # so that the next one has its functions
        scene, found = follow(graphs, updates, prompt_ids)
        for own, other in zip(found, expected):
            assert (own - other).abs().max() <= TOLERANCE
    eager_scene, _ = follow(eager, updates, prompt_ids)
    assert answer(graphs, scene, prompt_ids, 128) == answer(eager, eager_scene, prompt_ids, 128)
    updates_captured = [
        function for name, function in graphs._pool._functions.items()
        if isinstance(name, tuple) and 'update' in name]
    assert updates_captured and all(function.is_captured for function in updates_captured)


@needs_gpu
@pytest.mark.parametrize('shape', ['wide', 'qwen2.5 wide', 'qwen3 wide'])
def test_low_precision_stays_within_the_eager_model_s_own_spread(shape: str) -> None:
    prompt_ids = make_prompt_for(shape, NUM_TOKENS)
    first, *others = pictures(shape, 4)
    updates = [first, *(part_of(vision, part) for vision, part in zip(others, PARTS[2:]))]
    exact = SparseQwenVl(make_model(shape).cuda())
    _, expected = follow(exact, updates, prompt_ids)
    eager = SparseQwenVl(make_model(shape).to('cuda', torch.bfloat16))
    _, rounded = follow(eager, updates, prompt_ids)
    graphs = CudaGraphQwenVl(eager, cache_tokens=512)
    for _ in range(3):
        found = follow(graphs, updates, prompt_ids)[1]
    for own, other, truth in zip(found, rounded, expected):
        assert (own - truth).norm() <= 2.0 * (other - truth).norm()
