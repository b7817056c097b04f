"""The scene in memory of the engine: what questions about a stream of frames cost and say."""

from dataclasses import replace

from epvlm_ros.activity_grid import grid_shape
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import Moment, VlmEngine
from epvlm_ros.vlm.engine.engine import within_memory
from epvlm_ros.vlm.model_error import NonFiniteLogits
import numpy as np
import pytest
from qwen_checkpoints import make_model, save_original_checkpoint
import torch

QUESTION = 'what moves?'
ROWS, COLS, TOKEN = 5, 8, 28
HEIGHT, WIDTH = ROWS * TOKEN, COLS * TOKEN
NUM_TOKENS = ROWS * COLS
FRAME_NS = 33_000_000


@pytest.fixture(scope='module', name='loaded')
def loaded_fixture(tmp_path_factory):
    folder = save_original_checkpoint(tmp_path_factory.mktemp('model'), make_model('wide'))
    return VlmEngine.from_config(VlmConfig(
        model=str(folder), device='cpu', max_new_tokens=6, scene_memory=True, keep_ratio=0.5,
        memory_fill='at_once'))


@pytest.fixture(name='engine')
def engine_fixture(loaded):
    loaded.reconfigure(replace(
        loaded.config, scene_memory=True, keep_ratio=0.5, memory_fill='at_once'))
    loaded._views.forget()
    return loaded


def picture(seed=0, **painted):
    """Return a picture; ``t7=255`` paints token 7 white."""
    coarse = np.random.default_rng(seed).integers(40, 200, (ROWS * 4, COLS * 4, 3))
    image = np.kron(coarse, np.ones((7, 7, 1))).astype(np.uint8)
    for name, value in painted.items():
        row, col = divmod(int(name[1:]), COLS)
        image[row * TOKEN:(row + 1) * TOKEN, col * TOKEN:(col + 1) * TOKEN] = value
    return image


def score(*tokens, epoch=1):
    """Return a score after 98 events in each of some tokens."""
    scores = np.zeros(grid_shape(HEIGHT, WIDTH, 4), np.uint16)
    for token in tokens:
        row, col = divmod(token, COLS)
        scores[row * 7:(row + 1) * 7, col * 7:(col + 1) * 7] += 2
    return ChangeScore(scores, 4, HEIGHT, WIDTH, epoch)


def moment(number, image, change=None, source='front'):
    return Moment(image, None, number, number * FRAME_NS, change, source)


def ask(engine, *arguments, question=QUESTION, **limits):
    return engine.answer_about([moment(*arguments)], question, **limits)


def test_a_scene_filled_at_once_answers_as_the_dense_model(engine):
    answer = ask(engine, 1, picture(), score())
    dense = replace(engine.config, scene_memory=False, keep_ratio=1.0)
    assert answer.scene.use == 'memory' and answer.scene.num_refreshed == NUM_TOKENS
    assert answer.num_tokens_kept == NUM_TOKENS and answer.fallback == ''
    engine.reconfigure(dense)
    alone = ask(engine, 1, picture(), score())
    assert alone.scene is None
    assert alone.text == answer.text
    # what it computed is the dense encoder and language model, its text a second time at most
    computed = answer.flops_used - answer.flops_reused
    assert computed == pytest.approx(alone.flops_used, rel=0.05)


def test_a_question_costs_what_changed_and_its_text(engine):
    first = ask(engine, 1, picture(), score())
    second = ask(engine, 2, picture(t9=255), score(9))
    assert second.scene.num_refreshed == 1
    assert second.scene.oldest_age_ns == FRAME_NS
    assert second.scene.ages_ns[9] == 0 and second.scene.ages_ns[8] == FRAME_NS
    assert second.num_tokens_kept == NUM_TOKENS
    third = ask(engine, 3, picture(t9=255), score(9))
    assert third.scene.num_refreshed == 0 and third.scene.flops_refresh == 0
    costs = [answer.flops_used - answer.flops_reused for answer in (first, second, third)]
    assert costs[2] < costs[1] < 0.5 * costs[0]
    # of one visual token and some text, text is all that the third one computed
    assert costs[1] - costs[2] == second.scene.flops_refresh


def test_frames_between_questions_are_updates_of_the_scene(engine):
    before = engine.scene_status.num_updates
    engine.prepare([moment(1, picture(), score())])
    engine.prepare([moment(2, picture(t3=0), score(3))])
    answer = ask(engine, 3, picture(t3=0), score(3))
    assert answer.scene.num_refreshed == 0
    assert answer.scene.flops_updates > answer.scene.flops_refresh == 0
    assert ask(engine, 3, picture(t3=0), score(3)).scene.flops_updates == 0
    status = engine.scene_status
    assert status.num_updates == before + 3  # the same frame again is no update
    assert (status.num_known, status.num_stale) == (NUM_TOKENS, 0)
    assert status.num_bytes > 0


def test_an_answer_in_the_middle_of_the_filling_says_how_much_it_knows(engine):
    engine.reconfigure(replace(engine.config, memory_fill='progressive', keep_ratio=0.25))
    kept = [ask(engine, number, picture(), score()).num_tokens_kept for number in range(1, 6)]
    assert kept == [10, 20, 30, 40, 40]


def test_a_scene_that_just_began_is_what_a_frame_by_itself_would_be(engine):
    engine.reconfigure(replace(
        engine.config, memory_fill='progressive', keep_ratio=0.25, selection='saliency'))
    begun = ask(engine, 1, picture(), score())
    engine.reconfigure(replace(engine.config, scene_memory=False))
    alone = ask(engine, 1, picture(), score())
    assert begun.kept_indices.tolist() == alone.kept_indices.tolist()
    assert begun.text == alone.text


def test_a_question_with_its_own_budget_catches_up(engine):
    ask(engine, 1, picture(), score())
    changed = [3, 8, 11, 20, 30]
    image = picture(**{f't{token}': 255 for token in changed})
    late = ask(engine, 2, image, score(*changed), keep_ratio=2 / NUM_TOKENS)
    assert late.scene.num_refreshed == 2 and late.scene.num_stale == 3
    # the same frame again, with room for the rest
    again = ask(engine, 2, image, score(*changed), keep_ratio=0.5)
    assert again.scene.num_refreshed == 3 and again.scene.num_stale == 0


@pytest.mark.parametrize('other, reason', [
    ({'source': 'rear'}, 'first frame'),
    ({'change': score(epoch=9)}, 'a new epoch of the events'),
    ({'change': None}, 'events came or went'),
    ({'number': 0}, 'time went back'),
])
def test_what_does_not_belong_to_a_scene_begins_a_new_one(engine, other, reason):
    ask(engine, 1, picture(), score())
    arguments = {'number': 2, 'image': picture(1), 'change': score(), **other}
    answer = engine.answer_about([moment(**arguments)], QUESTION)
    assert answer.scene.num_refreshed == NUM_TOKENS
    assert engine.scene_status.last_restart == reason


def test_another_image_size_begins_a_new_scene(engine):
    ask(engine, 1, picture(), score())
    small = np.ascontiguousarray(picture()[:4 * TOKEN])
    answer = engine.answer_about([moment(2, small)], QUESTION)
    assert answer.scene.num_refreshed == answer.num_tokens == 4 * COLS


def test_a_moving_camera_is_answered_by_the_frame_alone(engine):
    engine.reconfigure(replace(engine.config, selection='saliency'))
    ask(engine, 1, picture(), score())
    everywhere = range(NUM_TOKENS)
    moving = ask(engine, 2, picture(1), score(*everywhere))
    assert moving.scene.use == 'the camera moves' and moving.num_tokens_kept == NUM_TOKENS // 2
    again = ask(engine, 2, picture(1), score(*everywhere))  # a frame does not come to rest
    assert again.scene.use == 'the camera moves' and again.num_tokens_kept == NUM_TOKENS // 2
    engine.reconfigure(replace(engine.config, scene_memory=False))
    assert ask(engine, 2, picture(1), score()).text == moving.text


def test_several_moments_are_answered_by_themselves(engine):
    moments = [moment(1, picture(), score()), moment(2, picture(1), score())]
    assert engine.answer_about(moments, QUESTION).scene.use == 'several moments'


def test_a_cancelled_question_leaves_the_scene_whole(engine):
    ask(engine, 1, picture(), score())
    calls = iter([False] * 3 + [True] * 100)
    image = picture(t4=255)
    cut = ask(engine, 2, image, score(4), should_stop=lambda: next(calls))
    assert cut.stopped
    answer = ask(engine, 3, image, score(4))
    assert answer.num_tokens_kept == NUM_TOKENS and answer.scene.num_stale == 0
    # the scene is what a dense run of the last picture makes of it, but for what did not change
    assert answer.scene.num_refreshed == 1


def test_an_answer_is_about_its_snapshot_whatever_comes_after(engine):
    answers = engine.answer_all(picture(), [QUESTION, 'how many?', QUESTION], None)
    assert answers[0].text == answers[2].text
    assert [answer.scene.num_refreshed for answer in answers] == [NUM_TOKENS] * 3


def test_damaged_numbers_do_not_stay_in_the_scene(engine):
    ask(engine, 1, picture(), score())
    bias = engine._model.library_model.model.visual.merger.mlp[2].bias
    with torch.inference_mode():
        before = bias.clone()
        bias.fill_(float('nan'))
    with pytest.raises(NonFiniteLogits):
        ask(engine, 2, picture(t4=255), score(4))
    with torch.inference_mode():
        bias.copy_(before)
    answer = ask(engine, 3, picture(t4=255), score(4))
    assert answer.scene.num_refreshed == NUM_TOKENS and answer.text


def test_memory_runs_short_and_the_scene_is_let_go(engine):
    ask(engine, 1, picture(), score())
    assert engine.scene_status.num_known == NUM_TOKENS

    def fail():
        raise RuntimeError('not enough memory')

    with pytest.raises(RuntimeError, match='lower keep_ratio'):
        within_memory(fail, engine._views.forget, 'cpu')
    assert ask(engine, 2, picture(), score()).scene.num_refreshed == NUM_TOKENS


def test_switched_off_it_lets_go_of_the_memory_once(engine, monkeypatch):
    ask(engine, 1, picture(), score())
    engine.reconfigure(replace(engine.config, scene_memory=False))
    released = []
    monkeypatch.setattr(
        engine._views.use('').scene._memory._forward, 'release_memory', lambda: released.append(1))
    for number in (2, 3):
        assert ask(engine, number, picture(), score()).scene is None
    assert released == [1] and engine.scene_status is None
    engine.reconfigure(replace(engine.config, scene_memory=True))
    assert ask(engine, 4, picture(), score()).scene.num_refreshed == NUM_TOKENS


def test_a_frame_in_which_nothing_happened_is_not_looked_at(engine):
    change = score()
    assert not engine.has_seen(change, FRAME_NS, 'front')
    ask(engine, 1, picture(), change)
    assert engine.has_seen(change, 2 * FRAME_NS, 'front')
    assert not engine.has_seen(score(5), 2 * FRAME_NS, 'front')
    assert not engine.has_seen(change, 2 * FRAME_NS, 'rear')
    engine.reconfigure(replace(engine.config, scene_memory=False))
    assert not engine.has_seen(change, 2 * FRAME_NS, 'front')
