"""Further questions about an image give what each gives alone, from its first token on."""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.sparse_qwen import DecodingState, PromptPrefix, SparseQwenVl
from epvlm_ros.vlm.sparse_qwen.model import MIN_SYSTEM_PREFIX_TOKENS
import pytest
from qwen_checkpoints import EMBEDDED, make_model, make_prompt, make_vision, MODELS
from qwen_shapes import SHAPES
import torch
from torch import Tensor

pytestmark = pytest.mark.long

TOLERANCE = 1e-4
ROWS, COLS = 3, 7
QUESTIONS = ('what moves?', '?', 'how many circles are there to the left of it, and why')
ANSWER_LENGTH = 48


def make_text(shape: str, question: str) -> Tensor:
    """Return the ids after the image in the prompt of a question; any ids make a question."""
    letters = [ord(letter) for letter in question]
    if shape == EMBEDDED:
        return torch.tensor([4, *(8 + letter % 90 for letter in letters)])
    return make_prompt(1, question)[8:]


class Scene:
    """A model, an image of which a part is kept and prompts about it."""

    def __init__(self, shape: str, keep_ratio: float = 0.4) -> None:
        self.model = SparseQwenVl(make_model(shape))
        self.vision = make_vision(ROWS, COLS, keep_ratio, 3, shape=shape)
        self.features = self.model.encode(self.vision)
        image = torch.full((ROWS * COLS,), self.model.info.image_token_id)
        self.start = torch.cat([torch.tensor([7, 9, 8]), image])
        self.texts = [make_text(shape, question) for question in QUESTIONS]

    def prefill(self, text_ids: Tensor) -> DecodingState:
        """Run a whole prompt."""
        return self.model.prefill(torch.cat([self.start, text_ids]), self.vision, self.features)

    def prefix(self) -> PromptPrefix:
        """Run the part of all prompts up to the end of the image."""
        return self.model.prefill_image(self.start, self.vision, self.features)

    def answer(self, state: DecodingState, end_token_ids: Any = ()) -> list[int]:
        """Return the tokens of a whole answer."""
        return list(self.model.decode(state, end_token_ids, ANSWER_LENGTH))

    def answers(self, texts: list[Tensor], end_token_ids: Any = ()) -> list[list[int]]:
        """Return the tokens of several answers, written together."""
        answers: list[list[int]] = [[] for _ in texts]
        state = self.model.extend_together(self.prefix(), texts)
        for tokens in self.model.decode_together(state, end_token_ids, ANSWER_LENGTH):
            for question, token_id in tokens:
                answers[question].append(token_id)
        return answers


@pytest.mark.parametrize('shape, keep_ratio', [
    (shape, keep_ratio) for shape in MODELS
    for keep_ratio in ([0.4] if shape == EMBEDDED else [0.4, 1.0])])
def test_a_further_question_gives_what_its_whole_prompt_gives(
    shape: str, keep_ratio: float,
) -> None:
    scene = Scene(shape, keep_ratio)
    whole = scene.prefill(scene.texts[0])
    expected_states = [scene.prefill(text_ids) for text_ids in scene.texts]
    expected_answers = [scene.answer(scene.prefill(text_ids)) for text_ids in scene.texts]
    for prefix in (whole.prefix, scene.prefix()):  # cut from a whole prompt, and computed alone
        assert prefix.num_tokens_kept == 3 + len(scene.vision.kept_indices)
        assert prefix.next_position == 3 + 7  # by hand: the image starts at 3, its side is 7
        for text_ids, expected, answer in zip(scene.texts, expected_states, expected_answers):
            state = scene.model.extend(prefix, text_ids)
            assert (state.logits - expected.logits).abs().max() <= TOLERANCE
            assert state.next_position == expected.next_position == 10 + len(text_ids)
            assert scene.answer(state) == answer


@pytest.mark.parametrize('shape', MODELS)
def test_questions_asked_together_give_what_each_gives_alone(shape: str) -> None:
    scene = Scene(shape)
    alone = [scene.answer(scene.prefill(text_ids)) for text_ids in scene.texts]
    state = scene.model.extend_together(scene.prefix(), scene.texts)
    for logits, text_ids in zip(state.logits, scene.texts):
        assert (logits - scene.prefill(text_ids).logits).abs().max() <= TOLERANCE
    assert scene.answers(scene.texts) == alone
    assert len({tuple(token_ids) for token_ids in alone}) > 1
    assert scene.answers(scene.texts[:1]) == alone[:1]


@pytest.mark.parametrize('shape', ['narrow', 'qwen2.5 narrow', 'qwen3 narrow'])
def test_answers_written_together_end_each_at_its_own_end(shape: str) -> None:
    scene = Scene(shape)
    alone = [scene.answer(scene.prefill(text_ids)) for text_ids in scene.texts]
    ends = {alone[0][5], alone[2][20]}
    cut = [scene.answer(scene.prefill(text_ids), ends) for text_ids in scene.texts]
    assert len({len(token_ids) for token_ids in cut}) > 1
    assert scene.answers(scene.texts, ends) == cut
    # nothing but an end: no answer, and no list without a token
    firsts = {token_ids[0] for token_ids in alone}
    state = scene.model.extend_together(scene.prefix(), scene.texts)
    assert list(scene.model.decode_together(state, firsts, ANSWER_LENGTH)) == []


def test_the_limit_holds_for_each_answer() -> None:
    scene = Scene('narrow')
    for limit in (0, 1, 5):
        state = scene.model.extend_together(scene.prefix(), scene.texts)
        assert len(list(scene.model.decode_together(state, (), limit))) == limit


@pytest.mark.parametrize('shape', ['narrow', 'qwen3 wide'])
def test_answers_leave_the_prefix_as_it_is(shape: str) -> None:
    scene = Scene(shape)
    prefix = scene.prefix()
    copies = [values.clone() for layer in prefix.keys_values for values in layer]
    first = scene.answer(scene.model.extend(prefix, scene.texts[0]))
    scene.answers(scene.texts)
    state = scene.model.extend(prefix, scene.texts[1])
    assert state.prefix is prefix
    scene.answer(state)
    kept = [values for layer in prefix.keys_values for values in layer]
    assert all(torch.equal(values, copy) for values, copy in zip(kept, copies))
    assert scene.answer(scene.model.extend(prefix, scene.texts[0])) == first


def test_a_further_question_computes_on_its_text_only() -> None:
    scene = Scene('narrow')
    prefix = scene.prefix()
    lengths = []
    layer = scene.model._model.model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[:2]))
    scene.model.extend(prefix, scene.texts[0])
    scene.model.extend_together(prefix, scene.texts)
    longest = max(len(text_ids) for text_ids in scene.texts)
    assert lengths == [(1, len(scene.texts[0])), (len(scene.texts), longest)]


def test_a_prefix_tells_the_text_after_it() -> None:
    prefix = Scene('narrow').prefix()
    start, more = prefix.token_ids, torch.tensor([1, 2])
    assert prefix.text_after(torch.cat([start, more])).tolist() == [1, 2]
    for prompt_ids in (start, start[:-1], torch.cat([start[:1] + 1, start[1:], more])):
        with pytest.raises(ValueError, match='does not go on from the prefix of 24 tokens'):
            prefix.text_after(prompt_ids)


@pytest.mark.parametrize('attention', ['eager', 'sdpa'])
def test_both_attentions_agree(attention: str) -> None:
    expected = Scene('qwen2.5 wide').answers(Scene('qwen2.5 wide').texts)
    scene = Scene('qwen2.5 wide')
    scene.model = SparseQwenVl(make_model('qwen2.5 wide', attention))
    assert scene.answers(scene.texts) == expected


@pytest.mark.parametrize('shape', SHAPES)
def test_a_long_text_before_the_image_is_computed_once(shape: str) -> None:
    scene = Scene(shape)
    system_ids = torch.arange(MIN_SYSTEM_PREFIX_TOKENS + 5) % 200
    lengths = []
    layer = scene.model.library_model.model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    num_kept = len(scene.vision.kept_indices)
    for round_number, text_ids in enumerate(scene.texts):
        prompt_ids = torch.cat([system_ids, scene.start[3:], text_ids])
        # the reference begins with the first token
        expected = scene.model.prompt_logits(prompt_ids, scene.vision, scene.features)[-1]
        lengths.clear()
        state = scene.model.prefill(prompt_ids, scene.vision, scene.features)
        assert lengths == [len(system_ids)][round_number:] + [num_kept + len(text_ids)]
        assert (state.logits - expected).abs().max() <= TOLERANCE
        assert state.next_position == len(system_ids) + 7 + len(text_ids)
        prefix = scene.model.prefill_image(prompt_ids, scene.vision, scene.features)
        for further in (state.prefix, prefix):
            assert further.num_tokens_kept == len(system_ids) + num_kept
            logits = scene.model.extend(further, text_ids).logits
            assert (logits - expected).abs().max() <= TOLERANCE
    other = scene.model.prefill(
        torch.cat([system_ids + 1, scene.start[3:], text_ids]), scene.vision, scene.features)
    assert (other.logits - expected).abs().max() > 100 * TOLERANCE
    short = scene.prefill(scene.texts[0])
    assert scene.model.system_prefix is None and short.next_position == 10 + len(scene.texts[0])
