"""Answers beside those of the dense model: what agrees, and that nothing else is touched."""

from dataclasses import replace

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import Moment, VlmEngine
import numpy as np
import pytest
from qwen_checkpoints import make_model, save_original_checkpoint

QUESTION = 'what moves?'
CONFIG = VlmConfig(device='cpu', max_new_tokens=6, keep_ratio=0.1, selection='uniform',
                   static_scene_policy='uniform', memory_fill='at_once')


@pytest.fixture(scope='module', name='loaded')
def loaded_fixture(tmp_path_factory):
    folder = save_original_checkpoint(tmp_path_factory.mktemp('model'), make_model('wide'))
    return VlmEngine.from_config(replace(CONFIG, model=str(folder)))


def moment(seed, key=None):
    coarse = np.random.default_rng(seed).integers(0, 256, (20, 32, 3))
    return Moment(np.kron(coarse, np.ones((7, 7, 1))).astype(np.uint8), None, key)


def reconfigure(engine, **values):
    engine.reconfigure(replace(engine.config, **{
        name: getattr(CONFIG, name) for name in ('scene_memory', 'keep_ratio')} | values))


def test_flags_and_difference_are_those_of_the_two_answers(loaded):
    same_texts = 0
    for seed in range(8):
        reconfigure(loaded)
        sparse = loaded.answer_about([moment(seed)], QUESTION)
        agreement = loaded.compare_with_dense(sparse, [moment(seed)], QUESTION)
        reconfigure(loaded, keep_ratio=1.0)
        dense = loaded.answer_about([moment(seed)], QUESTION)
        assert agreement.is_same_text == (sparse.text == dense.text)
        first = [answer.first_token_id for answer in (sparse, dense)]
        assert agreement.is_same_first_token == (first[0] == first[1])
        assert agreement.log_probability_lost == pytest.approx(
            dense.mean_log_probability - sparse.mean_log_probability, abs=1e-5)
        same_texts += agreement.is_same_text
    assert same_texts < 8  # a tenth of the tokens of noise tells something else


def test_a_scene_filled_at_once_agrees_and_stays_as_it_was(loaded):
    reconfigure(loaded, scene_memory=True)
    answer = loaded.answer_about([moment(1, key=1)], QUESTION)
    status = loaded.scene_status
    agreement = loaded.compare_with_dense(answer, [moment(1, key=1)], QUESTION, keep_ratio=0.01)
    assert agreement.is_same_text and agreement.is_same_first_token
    assert agreement.log_probability_lost == pytest.approx(0.0, abs=1e-4)
    assert loaded.scene_status == status
    again = loaded.answer_about([moment(1, key=1)], QUESTION)
    assert again.scene.is_used and again.scene.num_refreshed == 0 and again.text == answer.text


def test_a_prefix_that_was_computed_stays(loaded):
    reconfigure(loaded)
    answer = loaded.answer_about([moment(2, key=7)], QUESTION)
    loaded.compare_with_dense(answer, [moment(2, key=7)], QUESTION)
    assert loaded.answer_about([moment(2, key=7)], QUESTION).flops_reused > 0


def test_choices_are_compared_by_what_was_chosen(loaded):
    reconfigure(loaded, keep_ratio=1.0)
    choices = ('yes', 'no')
    answer = loaded.answer_about([moment(3)], QUESTION, choices=choices)
    other = replace(answer, text='no' if answer.text == 'yes' else 'yes')
    same = loaded.compare_with_dense(answer, [moment(3)], QUESTION, choices=choices)
    assert same.is_same_text and same.is_same_first_token
    wrong = loaded.compare_with_dense(other, [moment(3)], QUESTION, choices=choices)
    assert not wrong.is_same_text and not wrong.is_same_first_token


def test_it_can_be_stopped(loaded):
    reconfigure(loaded)
    answer = loaded.answer_about([moment(4)], QUESTION)
    assert loaded.compare_with_dense(
        answer, [moment(4)], QUESTION, should_stop=lambda: True) is None
