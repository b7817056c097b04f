"""The scene of one camera: what is refreshed, what is kept, and what begins anew."""

from dataclasses import replace

from epvlm_ros.activity_grid import grid_shape
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.scene_memory import SceneMemory, SceneOptions
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl, VisionInput
import numpy as np
import pytest
from qwen_checkpoints import make_model, make_prompt_for
import torch

SHAPE = 'narrow'
ROWS, COLS, TOKEN = 4, 6, 28
HEIGHT, WIDTH = ROWS * TOKEN, COLS * TOKEN
GRID = PatchGrid(ROWS, COLS, TOKEN, HEIGHT, WIDTH, HEIGHT, WIDTH)
MODEL = SparseQwenVl(make_model(SHAPE))
MS = 1_000_000
AT_ONCE = SceneOptions(budget=0.25, fills_at_once=True, checks_image=False)


def make_vision(image_rgb, grid, kept_indices):
    """Cut an image into patches as the image processor does, without its normalisation."""
    pixels = image_rgb.astype(np.float32) / 127.5 - 1.0
    side = TOKEN // 2
    patches = pixels.reshape(grid.rows, 2, side, grid.cols, 2, side, 3)
    patches = patches.transpose(0, 3, 1, 4, 6, 2, 5)  # (rows, cols, 2, 2, 3, side, side)
    patches = np.repeat(patches[:, :, :, :, :, None], 2, axis=5)  # two equal frames
    return VisionInput(
        torch.from_numpy(patches.reshape(grid.num_tokens * 4, -1).copy()), grid.rows, grid.cols,
        kept_indices)


@pytest.fixture(name='memory')
def memory_fixture():
    return SceneMemory(
        MODEL.scene_forward(), make_vision, lambda num_tokens: make_prompt_for(SHAPE, num_tokens))


def picture(seed=0):
    coarse = np.random.default_rng(seed).integers(40, 200, (ROWS * 4, COLS * 4, 3))
    return np.kron(coarse, np.ones((7, 7, 1))).astype(np.uint8)


def paint(image, token, value=255):
    """Return the image with a token of another colour."""
    row, col = divmod(token, COLS)
    changed = image.copy()
    changed[row * TOKEN:(row + 1) * TOKEN, col * TOKEN:(col + 1) * TOKEN] = value
    return changed


def score(*tokens, epoch=1, num_doubts=0, amount=2):
    """Return the score after change in some tokens, once for each time they are named."""
    scores = np.zeros(grid_shape(HEIGHT, WIDTH, 4), np.uint16)
    for token in tokens:
        row, col = divmod(token, COLS)
        scores[row * 7:(row + 1) * 7, col * 7:(col + 1) * 7] += amount
    return ChangeScore(scores, 4, HEIGHT, WIDTH, epoch, num_doubts)


def raise_at_second_call():
    """Return what breaks off a forward pass in its second layer."""
    calls = iter([None, KeyboardInterrupt])

    def check():
        error = next(calls, None)
        if error is not None:
            raise error
    return check


def dense_logits(image_rgb):
    vision = make_vision(image_rgb, GRID, np.arange(GRID.num_tokens))
    prompt_ids = make_prompt_for(SHAPE, GRID.num_tokens)
    return MODEL.prefill(prompt_ids, vision, MODEL.encode(vision)).logits


def logits(memory):
    prefix = memory.snapshot()
    prompt_ids = make_prompt_for(SHAPE, GRID.num_tokens)
    return MODEL.extend(prefix, prefix.text_after(prompt_ids)).logits


def test_a_still_scene_is_computed_once(memory):
    image = picture()
    first = memory.update(image, GRID, 0, AT_ONCE, score())
    assert len(first.refreshed) == first.num_known == GRID.num_tokens
    assert first.restarted == 'first frame'
    for number in range(1, 4):
        update = memory.update(image, GRID, number * 33 * MS, AT_ONCE, score())
        assert update.refreshed.size == 0 and update.num_stale == 0 and not update.restarted
        assert update.oldest_age_ns == number * 33 * MS
    assert (logits(memory) - dense_logits(image)).abs().max() <= 1e-4


def test_what_changed_is_refreshed_and_nothing_else(memory):
    image = picture()
    memory.update(image, GRID, 0, AT_ONCE, score())
    update = memory.update(paint(image, 9), GRID, 33 * MS, AT_ONCE, score(9))
    assert update.refreshed.tolist() == [9]
    assert memory.ages_ns()[9] == 0 and memory.ages_ns()[8] == 33 * MS


def test_missed_frames_hide_no_change(memory):
    image = picture()
    memory.update(image, GRID, 0, AT_ONCE, score())
    memory.update(image, GRID, 33 * MS, AT_ONCE, score())
    # the frames of 9 and of 2 never came
    update = memory.update(image, GRID, 99 * MS, AT_ONCE, score(9, 2, 17))
    assert update.refreshed.tolist() == [2, 9, 17]


def test_a_new_scene_is_filled_within_the_budget(memory):
    image, options = picture(), replace(AT_ONCE, fills_at_once=False)
    known = []
    for number in range(5):
        update = memory.update(
            image, GRID, number * 33 * MS, options, score(),
            rank=lambda: np.arange(GRID.num_tokens, dtype=float))
        known.append(update.num_known)
        if number == 0:
            assert update.refreshed.tolist() == [18, 19, 20, 21, 22, 23]
    assert known == [6, 12, 18, 24, 24]
    for number in range(5, 7):  # 18 were computed before all was known
        update = memory.update(image, GRID, number * 33 * MS, options, score())
    assert len(update.refreshed) == 6
    assert memory.update(image, GRID, 7 * 33 * MS, options, score()).refreshed.size == 0


def test_what_the_budget_left_out_is_counted_and_comes_first(memory):
    image, options = picture(), replace(AT_ONCE, budget=1 / 24)
    memory.update(image, GRID, 0, options, score())
    update = memory.update(image, GRID, 33 * MS, options, score(3, 4, 4))
    assert update.refreshed.tolist() == [4] and update.num_stale == 1
    update = memory.update(image, GRID, 66 * MS, options, score(3, 4, 4, 8, 8, 8))
    assert update.refreshed.tolist() == [3] and update.num_stale == 1


@pytest.mark.parametrize('change, reason', [
    ({'now_ns': -1}, 'time went back'),
    ({'score': score(epoch=2)}, 'a new epoch of the events'),
    ({'score': None}, 'events came or went'),
])
def test_a_scene_begins_anew(memory, change, reason):
    memory.update(picture(), GRID, 0, AT_ONCE, score())
    other = picture(seed=1)
    arguments = {'now_ns': 33 * MS, 'score': score(), **change}
    update = memory.update(other, GRID, arguments['now_ns'], AT_ONCE, arguments['score'])
    assert update.restarted == reason
    assert len(update.refreshed) == GRID.num_tokens
    assert (logits(memory) - dense_logits(other)).abs().max() <= 1e-4


def test_no_stale_token_survives_a_camera_that_moves(memory):
    memory.update(picture(), GRID, 0, AT_ONCE, score())
    everywhere = range(GRID.num_tokens)
    moving = memory.update(picture(1), GRID, 33 * MS, AT_ONCE, score(*everywhere))
    assert moving.is_moving and moving.num_known == 0
    with pytest.raises(ValueError, match='there is no scene yet'):
        memory.snapshot()
    still = picture(2)
    update = memory.update(still, GRID, 66 * MS, AT_ONCE, score(*everywhere))
    assert len(update.refreshed) == GRID.num_tokens and update.restarted == 'the camera moved'
    assert (logits(memory) - dense_logits(still)).abs().max() <= 1e-4


def test_while_the_camera_moves_nothing_is_computed(memory):
    memory.update(picture(), GRID, 0, AT_ONCE)
    for number in range(1, 4):
        update = memory.update(picture(number), GRID, number * 33 * MS, AT_ONCE)
        assert update.is_moving and update.refreshed.size == 0
    assert len(memory.update(picture(3), GRID, 200 * MS, AT_ONCE).refreshed) == GRID.num_tokens


def test_motion_is_no_noise(memory):
    """A picture that moves by some pixels differs a little everywhere."""
    options = replace(AT_ONCE, checks_image=True)
    image = picture()
    memory.update(image, GRID, 0, options, score())
    memory.update(image, GRID, 33 * MS, options, score())
    moved = np.roll(image, 3, axis=1)
    assert memory.update(moved, GRID, 66 * MS, options, score()).is_moving


def test_pixels_confirm_what_events_say(memory):
    checked, image = replace(AT_ONCE, checks_image=True), picture()
    memory.update(image, GRID, 0, checked, score())
    faint = paint(image, 9, value=image[TOKEN, 3 * TOKEN] + 5)
    # an object passed 2 and is gone, 9 is a little brighter, 20 too, without events
    faint = np.where(paint(image, 20, 1) != image, image + 5, faint).astype(np.uint8)
    update = memory.update(faint, GRID, 33 * MS, checked, score(2, 9))
    assert update.refreshed.tolist() == [9]
    assert update.num_stale == 0


def test_a_light_that_is_switched_is_no_motion(memory):
    checked, image = replace(AT_ONCE, checks_image=True), picture()
    memory.update(image, GRID, 0, checked, score())
    darker = np.round(image * 0.6).astype(np.uint8)
    update = memory.update(darker, GRID, 33 * MS, checked, score(*range(GRID.num_tokens)))
    assert not update.is_moving and update.refreshed.size == 0


def test_an_update_that_is_broken_off_is_made_up_for(memory):
    image, half = picture(), replace(AT_ONCE, budget=0.5, fills_at_once=False)
    memory.update(image, GRID, 0, half, score())
    with pytest.raises(KeyboardInterrupt), MODEL.checked(raise_at_second_call()):
        memory.update(image, GRID, 33 * MS, half, score())
    assert memory.ages_ns().tolist().count(-1) == 12
    update = memory.update(image, GRID, 66 * MS, half, score())
    assert update.num_known == GRID.num_tokens
    broken_off = logits(memory)
    memory.forget()
    memory.update(image, GRID, 0, half, score())
    memory.update(image, GRID, 33 * MS, half, score())
    assert (logits(memory) - broken_off).abs().max() <= 1e-4


def test_lost_events_make_tokens_doubtful_until_pixels_clear_them(memory):
    image = picture()
    memory.update(image, GRID, 0, AT_ONCE, score())
    update = memory.update(image, GRID, 33 * MS, AT_ONCE, score(num_doubts=1))
    assert len(update.refreshed) == 6 and update.num_doubtful == 18
    checked = replace(AT_ONCE, checks_image=True)
    update = memory.update(paint(image, 20), GRID, 66 * MS, checked, score(num_doubts=1))
    assert update.refreshed.tolist() == [20] and update.num_doubtful == 0


def test_without_events_pixels_tell_what_changed(memory):
    image = picture()
    memory.update(image, GRID, 0, AT_ONCE)
    noisy = np.clip(image + np.random.default_rng(1).normal(0, 2, image.shape), 0, 255)
    update = memory.update(noisy.astype(np.uint8), GRID, 33 * MS, AT_ONCE)
    assert update.refreshed.size == 0
    update = memory.update(paint(image, 5), GRID, 66 * MS, AT_ONCE)
    assert update.refreshed.tolist() == [5]


def test_a_step_of_the_exposure_is_no_change(memory):
    image = picture()
    memory.update(image, GRID, 0, AT_ONCE)
    darker = np.round(image * 0.7).astype(np.uint8)
    update = memory.update(darker, GRID, 33 * MS, AT_ONCE)
    assert update.refreshed.size == 0
    assert update.gain == pytest.approx(0.7, abs=0.01)
    update = memory.update(np.round(image * 0.3).astype(np.uint8), GRID, 66 * MS, AT_ONCE)
    assert update.restarted == 'the exposure changed too much'


def test_events_beside_their_cause_are_within_a_margin(memory):
    image, wide = picture(), replace(AT_ONCE, change_margin_px=8)
    memory.update(image, GRID, 0, wide, score())
    scores = score().scores.copy()
    scores[10, 13] = 20  # the last column of token 7
    beside = ChangeScore(scores, 4, HEIGHT, WIDTH, 1)
    assert memory.update(image, GRID, 33 * MS, wide, beside).refreshed.tolist() == [7, 8]


def test_a_frame_is_left_out_where_events_say_that_nothing_happened(memory):
    checked = replace(AT_ONCE, checks_image=True)
    assert not memory.has_seen(score(), 0, checked)
    memory.update(picture(), GRID, 0, checked, score())
    assert memory.has_seen(score(), 33 * MS, checked)
    # 49 cells of a token, one event each; the threshold is 8
    assert not memory.has_seen(score(9, amount=1), 33 * MS, checked)
    assert not memory.has_seen(None, 33 * MS, checked)
    assert not memory.has_seen(score(epoch=2), 33 * MS, checked)
    assert not memory.has_seen(score(num_doubts=1), 33 * MS, checked)
    assert not memory.has_seen(score(), -MS, checked)  # time went back
    # what events cannot see is looked for twice a second
    assert memory.has_seen(score(), 499 * MS, checked)
    assert not memory.has_seen(score(), 500 * MS, checked)
    update = memory.update(paint(picture(), 4), GRID, 500 * MS, checked, score())
    assert update.refreshed.tolist() == [4]


def test_little_by_little_is_not_left_out(memory):
    def few(events):
        scores = score()
        scores.scores[:7, :events] += 1  # seven rows of the cells of token 0
        return scores

    options = replace(AT_ONCE, change_threshold=20.0)
    memory.update(picture(), GRID, 0, options, few(0))
    assert memory.has_seen(few(2), 33 * MS, options)  # 14, not noted
    assert not memory.has_seen(few(3), 66 * MS, options)  # 21
    memory.update(picture(), GRID, 99 * MS, options, few(2))  # 14, noted
    assert memory.has_seen(few(2), 132 * MS, options)
    assert not memory.has_seen(few(3), 165 * MS, options)


def test_a_frame_is_not_left_out_while_tokens_wait(memory):
    gradual = replace(AT_ONCE, budget=0.5, fills_at_once=False)
    memory.update(picture(), GRID, 0, gradual, score())
    assert not memory.has_seen(score(), 33 * MS, gradual)  # half is unknown
    memory.update(picture(), GRID, 33 * MS, gradual, score())
    assert not memory.has_seen(score(), 66 * MS, gradual)  # half has not seen the rest
    memory.update(picture(), GRID, 66 * MS, gradual, score())
    assert memory.has_seen(score(), 99 * MS, gradual)


def test_a_fill_that_was_broken_off_is_still_at_once(memory):
    with pytest.raises(KeyboardInterrupt):
        memory.update(
            picture(), GRID, 0, AT_ONCE, score(),
            guard=lambda: MODEL.checked(raise_at_second_call()))
    update = memory.update(picture(), GRID, 33 * MS, AT_ONCE, score())
    assert len(update.refreshed) == GRID.num_tokens
    assert (logits(memory) - dense_logits(picture())).abs().max() <= 1e-4
