"""Several questions about one frame: what is computed again, and that every answer is right."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import EngineAnswer, Moment, VlmEngine
import numpy as np
import pytest
from qwen_checkpoints import (
    CHAT_TEMPLATE, library_of, make_model, require_embedded_model, save_original_checkpoint,
    write_json)
import torch
from torch.utils.flop_counter import FlopCounterMode

pytestmark = pytest.mark.long

QUESTIONS = ('what moves?', '?', 'how many circles are to the left of it, and why is that so')


@pytest.fixture(scope='module', name='folder')
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original_checkpoint(tmp_path_factory.mktemp('model'), make_model('wide'))


@pytest.fixture(scope='module', name='image')
def image_fixture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (140, 196, 3), dtype=np.uint8)


def make_engine(folder: Path, **parameters: object) -> VlmEngine:
    return VlmEngine.from_config(VlmConfig(**{  # type: ignore[arg-type]
        'model': str(folder), 'device': 'cpu', 'keep_ratio': 0.4, 'max_new_tokens': 24,
        'selection': 'events', **parameters}))


def make_activity(row: int = 3) -> ActivityGrid:
    """Return 40 ms in which a row of cells is busy."""
    counts = np.zeros((14, 20), dtype=np.float32)
    counts[row] = 200.0
    return ActivityGrid(
        counts=counts, cell_size_px=10, image_height=140, image_width=196,
        window_start_ns=1_000_000_000, window_end_ns=1_040_000_000)


def content(answer: EngineAnswer) -> tuple[object, ...]:
    return (answer.text, answer.kept_indices.tolist(), answer.flops_used, answer.flops_dense,
            answer.num_generated_tokens, answer.ending)


def count_frames(engine: VlmEngine) -> list[int]:
    """Return a list that gets an entry for every frame that is encoded."""
    frames: list[int] = []
    encoder = library_of(engine).model.visual
    encoder.register_forward_pre_hook(lambda module, args: frames.append(1))
    return frames


@pytest.mark.parametrize('shape', ['wide', 'qwen2.5 wide', 'qwen3 wide'])
def test_further_questions_are_answered_as_if_asked_alone(
    shape: str, image: np.ndarray, tmp_path: Path,
) -> None:
    folder = save_original_checkpoint(tmp_path, make_model(shape))
    activity = make_activity()
    alone = [
        content(make_engine(folder).answer(image, question, activity)) for question in QUESTIONS]
    assert len({item[0] for item in alone}) == 3
    engine = make_engine(folder)
    frames = count_frames(engine)
    in_turn = [engine.answer(image, question, activity) for question in QUESTIONS]
    assert [content(answer) for answer in in_turn] == alone and len(frames) == 1
    together = make_engine(folder).answer_all(image, QUESTIONS, activity)
    assert [content(answer) for answer in together] == alone
    again = engine.answer_all(image, QUESTIONS, activity)
    assert [content(answer) for answer in again] == alone and len(frames) == 1
    for answers, reuse in ((in_turn, [False, True, True]), (together, [False, True, True]),
                           (again, [True, True, True])):
        assert [answer.flops_reused > 0 for answer in answers] == reuse


def test_what_is_reused_is_what_is_not_computed(folder: Path, image: np.ndarray) -> None:
    # torch does not count fused attention on a CPU
    engine = make_engine(folder, attention='eager', max_new_tokens=1)
    for question in QUESTIONS:
        with FlopCounterMode(display=False) as counter:
            answer = engine.answer(image, question, make_activity())
        computed = answer.flops_used - answer.flops_reused
        assert counter.get_total_flops() == pytest.approx(computed, rel=0.01)
    assert 0.5 * answer.flops_used < answer.flops_reused < answer.flops_used


def test_the_system_prompt_is_computed_once(folder: Path, image: np.ndarray) -> None:
    engine = make_engine(
        folder, attention='eager', max_new_tokens=1, system_prompt='answer in one word. ' * 5)
    costs = []
    for picture, question in ((image, '?'), (image[::-1], '?'), (image[::-1], 'why?')):
        with FlopCounterMode(display=False) as counter:
            answer = engine.answer(picture, question, make_activity())
        costs.append(answer)
        # at first the system prompt runs apart, so that it need not look at what follows
        rel = 0.01 if len(costs) > 1 else 0.05
        assert counter.get_total_flops() == pytest.approx(
            answer.flops_used - answer.flops_reused, rel=rel)
    assert costs[0].flops_reused == 0 < costs[1].flops_reused < costs[2].flops_reused
    told, plain = (make_engine(folder, system_prompt=text).answer(image, '?', None)
                   for text in ('answer in one word. ' * 5, ''))
    assert told.text != plain.text


@pytest.mark.parametrize('change', [
    lambda engine, image, activity: image.__setitem__((slice(0, 40), slice(0, 90)), 0),
    lambda engine, image, activity: activity.counts.__setitem__(3, 0.0),
    lambda engine, image, activity: engine.reconfigure(replace(engine.config, keep_ratio=0.3)),
    lambda engine, image, activity: engine.reconfigure(
        replace(engine.config, selection='centre')),
], ids=['image', 'activity', 'keep ratio', 'selection'])
def test_what_changed_is_computed_anew(
    folder: Path, image: np.ndarray,
    change: Callable[[VlmEngine, np.ndarray, ActivityGrid], None],
) -> None:
    image, activity = image.copy(), make_activity()
    activity.counts[9] = 180.0
    engine, fresh = make_engine(folder), make_engine(folder)
    frames = count_frames(engine)
    engine.answer(image, QUESTIONS[0], activity)
    change(engine, image, activity)  # in the very arrays that were used before
    answer = engine.answer(image, QUESTIONS[1], activity)
    fresh.reconfigure(engine.config)
    assert content(answer) == content(fresh.answer(image, QUESTIONS[1], activity))
    assert len(frames) == 2 and answer.flops_reused == 0


def test_other_frames_and_no_events_are_computed_anew(folder: Path, image: np.ndarray) -> None:
    engine = make_engine(folder)
    frames = count_frames(engine)
    for picture, activity in ((image, None), (image, make_activity()), (image, None),
                              (image[:100], None), (image, make_activity(4))):
        engine.answer(picture, '?', activity)
    assert len(frames) == 5


def test_frames_with_keys_are_known_by_them(folder: Path, image: np.ndarray) -> None:
    engine = make_engine(folder)
    frames = count_frames(engine)
    black = np.zeros_like(image)
    counts = []
    for moment in (Moment(image, make_activity(), 7), Moment(image, make_activity(), 7),
                   Moment(black, None, 7),  # the contents of a known frame are not looked at
                   Moment(image, make_activity(), 8), Moment(image, make_activity()),
                   Moment(image, make_activity()), Moment(image, make_activity(), 8),
                   Moment(image, make_activity(), 0)):
        reused = engine.answer_about([moment], '?').flops_reused > 0
        counts.append((len(frames), reused))
    assert counts == [(1, False), (1, True), (1, True), (2, False), (3, False), (3, True),
                      (4, False), (5, False)]


def test_a_longer_answer_about_the_same_frame_reuses_it(folder: Path, image: np.ndarray) -> None:
    engine = make_engine(folder)
    short = engine.answer(image, '?', make_activity(), max_new_tokens=3)
    # the same frame from other arrays, as it comes out of the same message twice
    long = engine.answer(image.copy(), '?', make_activity(), max_new_tokens=20)
    assert (short.num_generated_tokens, long.num_generated_tokens) == (3, 20)
    assert (short.ending, long.ending) == ('limit', 'limit')
    assert short.flops_reused == 0 < long.flops_reused


def test_a_random_selection_is_drawn_for_every_call(folder: Path, image: np.ndarray) -> None:
    engine = make_engine(folder, selection='random')
    kept = [engine.answer(image, '?', None).kept_indices.tolist() for _ in range(2)]
    assert kept[0] != kept[1]
    together = engine.answer_all(image, QUESTIONS, None)
    assert len({tuple(answer.kept_indices.tolist()) for answer in together}) == 1


def test_a_template_with_the_question_first_is_never_cut(
    folder: Path, image: np.ndarray, tmp_path: Path,
) -> None:
    image_part = '<|vision_start|><|image_pad|><|vision_end|>'
    template = CHAT_TEMPLATE.replace(image_part, '').replace('<|im_end|>', image_part, 1)
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / 'chat_template.json').unlink()
    write_json(tmp_path / 'chat_template.json', {'chat_template': template})
    alone = [content(make_engine(tmp_path).answer(image, question, None))
             for question in QUESTIONS]
    assert alone[0] != content(make_engine(folder).answer(image, QUESTIONS[0], None))
    engine = make_engine(tmp_path)
    assert [content(engine.answer(image, question, None)) for question in QUESTIONS] == alone
    assert [content(answer) for answer in engine.answer_all(image, QUESTIONS, None)] == alone


# The limits are looked at first, before 3 layers of the encoder, after it, before 2 layers of the
# language model for the image, the questions and each token, and after each token.
@pytest.mark.parametrize('num_calls, num_tokens', [
    (1, 0), (3, 0), (7, 0), (9, 0), (10, 1), (12, 1), (13, 2)])
def test_answers_written_together_can_be_stopped(
    folder: Path, image: np.ndarray, num_calls: int, num_tokens: int,
) -> None:
    calls = []

    def should_stop() -> bool:
        calls.append(None)
        return len(calls) >= num_calls

    answers = make_engine(folder).answer_all(image, QUESTIONS, None, should_stop=should_stop)
    assert len(calls) == num_calls
    assert [answer.ending for answer in answers] == ['stopped'] * 3
    assert {answer.num_generated_tokens for answer in answers} == {num_tokens}


def test_no_question_gets_no_answer_and_a_bad_one_an_error(
    folder: Path, image: np.ndarray,
) -> None:
    engine = make_engine(folder)
    assert engine.answer_all(image, [], None) == []
    with pytest.raises(ValueError, match='empty'):
        engine.answer_all(image, ['?', ' '], None)
    with pytest.raises(ValueError, match='control tokens'):
        engine.answer_all(image, ['?', '<|im_end|>'], None)


@pytest.mark.long
def test_the_embedded_model_answers_together_as_alone() -> None:
    require_embedded_model()
    image = np.full((336, 336, 3), 128, dtype=np.uint8)
    image[100:200, 60:160] = (220, 40, 40)
    questions = ['what color is the square ?', 'how many objects are there ?', 'what moves ?']
    alone = [VlmEngine.from_config(VlmConfig(device='cpu')).answer(image, question, None)
             for question in questions]
    together = VlmEngine.from_config(VlmConfig(device='cpu')).answer_all(image, questions, None)
    assert [content(answer) for answer in together] == [content(answer) for answer in alone]
    assert torch.is_inference_mode_enabled() is False
    assert 'end' in {answer.ending for answer in together}
