"""What ends an answer, and how its tokens are chosen."""

from dataclasses import replace
from pathlib import Path

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import VlmEngine
import numpy as np
import pytest
from qwen_checkpoints import (
    library_of, make_model, make_prompt, save_original_checkpoint, write_json)
from qwen_shapes import TURN_END
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer, Qwen2VLImageProcessorPil

pytestmark = pytest.mark.long

IMAGE = np.random.default_rng(0).integers(0, 256, (112, 140, 3), dtype=np.uint8)
QUESTION = 'what moves?'


@pytest.fixture(scope='module', name='folder')
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint that never ends an answer by itself."""
    folder = save_original_checkpoint(tmp_path_factory.mktemp('model'), make_model('wide'))
    write_json(folder / 'generation_config.json', {
        'eos_token_id': [999_999], 'repetition_penalty': 1.3, 'do_sample': True,
        'temperature': 0.5})
    return folder


@pytest.fixture(name='engine')
def engine_fixture(folder: Path) -> VlmEngine:
    return VlmEngine.from_config(VlmConfig(model=str(folder), device='cpu', keep_ratio=1.0))


def test_a_model_that_talks_without_end_costs_no_more_than_the_limit(engine: VlmEngine) -> None:
    passes = []
    layer = library_of(engine).model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda module, args: passes.append(args[0].shape[1]))
    answer = engine.answer(IMAGE, QUESTION, None, max_new_tokens=9)
    assert (answer.ending, answer.num_generated_tokens) == ('limit', 9)
    # the prompt, which gives the first token, and one token after the other
    assert len(passes) == 9 and passes[1:] == [1] * 8


def test_the_deadline_ends_an_answer_with_what_there_is(engine: VlmEngine) -> None:
    engine.reconfigure(replace(engine.config, max_new_tokens=4096))
    answer = engine.answer(IMAGE, QUESTION, None, deadline_s=0.7)
    assert answer.ending == 'deadline' and not answer.stopped
    assert answer.num_generated_tokens < 4096
    engine.reconfigure(replace(engine.config, deadline=1e-6))
    at_once = engine.answer(IMAGE, QUESTION, None)
    assert (at_once.ending, at_once.text, at_once.num_generated_tokens) == ('deadline', '', 0)
    assert [answer.ending for answer in engine.answer_all(IMAGE, ['?', 'why?'], None)] == \
        ['deadline'] * 2
    # what was cut off leaves nothing wrong behind
    again = engine.answer(IMAGE, QUESTION, None, deadline_s=0.0, max_new_tokens=4)
    assert again.ending == 'limit'


def test_the_warm_up_is_whole_whatever_the_deadline(folder: Path) -> None:
    engine = VlmEngine.from_config(VlmConfig(model=str(folder), device='cpu', deadline=1e-6))
    passes = []
    layer = library_of(engine).model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda module, args: passes.append(args[0].shape[1]))
    engine.warm_up()
    assert len(passes) == 2 and passes[1] == 1  # a prompt and a token
    engine.warm_up(lambda: True)
    assert len(passes) == 2
    tiny = VlmEngine.from_config(VlmConfig(
        model=str(folder), device='cpu', warm_up_sizes='10x10'))
    with pytest.raises(ValueError, match='10 x 10 pixels: give one of at least 28'):
        tiny.warm_up()


@pytest.mark.parametrize('deadline_s', [-1.0, float('nan'), 4000.0])
def test_bad_deadlines_are_refused(engine: VlmEngine, deadline_s: float) -> None:
    with pytest.raises(ValueError, match='deadline'):
        engine.answer(IMAGE, QUESTION, None, deadline_s=deadline_s)
    with pytest.raises(ValueError, match='deadline'):
        engine.check_query(QUESTION, deadline_s=deadline_s)


def test_the_penalty_of_the_checkpoint_counts_and_its_temperature_does_not(
    folder: Path, engine: VlmEngine,
) -> None:
    processed = Qwen2VLImageProcessorPil.from_pretrained(folder)(
        images=[IMAGE], return_tensors='pt')
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    prompt_ids, tokenizer = make_prompt(20, QUESTION), AutoTokenizer.from_pretrained(folder)
    texts = {}
    for penalty in (1.3, 1.0):
        generated = model.generate(
            input_ids=prompt_ids[None], attention_mask=torch.ones_like(prompt_ids)[None],
            **processed, do_sample=False, max_new_tokens=32,
            mm_token_type_ids=(prompt_ids == model.config.image_token_id).int()[None],
            repetition_penalty=penalty, pad_token_id=TURN_END)
        texts[penalty] = tokenizer.decode(
            generated[0, len(prompt_ids):], skip_special_tokens=True)
    assert texts[1.3] != texts[1.0]
    assert engine.answer(IMAGE, QUESTION, None, max_new_tokens=32).text == texts[1.3]
    engine.reconfigure(replace(engine.config, repetition_penalty=1.0))
    assert engine.answer(IMAGE, QUESTION, None, max_new_tokens=32).text == texts[1.0]
    with pytest.raises(ValueError, match='would reward'):
        replace(engine.config, repetition_penalty=0.9)


def test_drawn_answers_follow_the_seed(engine: VlmEngine) -> None:
    def ask(**parameters: object) -> str:
        engine.reconfigure(replace(engine.config, **parameters))  # type: ignore[arg-type]
        return engine.answer(IMAGE, QUESTION, None, max_new_tokens=24).text

    greedy = ask()
    drawn = ask(temperature=1.0, top_p=0.95, seed=1)
    assert drawn != greedy
    assert ask(seed=2) != drawn
    assert ask(seed=1) == drawn
    together = engine.answer_all(IMAGE, [QUESTION, '?'], None, max_new_tokens=24)
    assert together[0].text == drawn
    assert ask(temperature=0.0) == greedy
