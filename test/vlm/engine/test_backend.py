"""The engine asks a backend through its interface only: nothing has to be in this process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint import Checkpoint, load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import Moment, VlmEngine
from epvlm_ros.vlm.sparse_qwen import (
    GREEDY, ModelInfo, PromptPrefix, Sampling, SceneBackend, SparseBackend, Token, VisionInput)
import numpy as np
import pytest
from qwen_checkpoints import library_of, make_model, save_original_checkpoint
from torch import Tensor

IMAGE = np.zeros((56, 84, 3), np.uint8)  # 2 x 3 tokens


class Ticket:
    """All that is here of a state on a server."""

    def __init__(self, what: str, prefix: PromptPrefix) -> None:
        self.what, self.prefix = what, prefix


class ServedModel:
    """A stand-in for a model on a server: it writes what it was asked for, in bytes."""

    description, device_name = 'a model', 'a server'

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self.calls: list[Any] = []

    def encode(self, vision: VisionInput) -> str:
        self.calls.append('encode')
        return f'{len(vision.kept_indices)} of {vision.num_tokens}'

    def prefill(self, prompt_ids: Tensor, vision: VisionInput, features: str) -> Ticket:
        prefix = self.prefill_image(prompt_ids, vision, features)
        self.calls[-1] = 'prefill'
        return Ticket(features, prefix)

    def prefill_image(
        self, prompt_ids: Tensor, vision: VisionInput, features: str,
    ) -> PromptPrefix:
        self.calls.append('prefill_image')
        end = int((prompt_ids == self.info.image_token_id).nonzero()[-1, 0]) + 1
        num_kept = end - vision.num_tokens + len(vision.kept_indices)
        return PromptPrefix(prompt_ids[:end], num_kept, end, keys_values=())

    def extend(self, prefix: PromptPrefix, text_ids: Tensor) -> Ticket:
        self.calls.append('extend')
        return Ticket('again', prefix)

    def extend_together(self, prefix: PromptPrefix, texts: Sequence[Tensor]) -> list[str]:
        self.calls.append('extend_together')
        return ['ab', 'c'][:len(texts)]

    def decode(
        self, state: Ticket, end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> Iterator[Token]:
        return iter([Token(ord(letter), -1.0) for letter in state.what][:max_new_tokens])

    def decode_together(
        self, state: list[str], end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> Iterator[list[tuple[int, Token]]]:
        for place in range(max(map(len, state))):
            yield [(number, Token(ord(text[place]), -1.0))
                   for number, text in enumerate(state) if place < len(text)]

    def scene_forward(self, attends_to_scene: bool = True) -> SceneBackend:
        raise NotImplementedError

    def known_system_prefix(self, prompt_ids: Tensor) -> None:
        return None

    def checked(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        return nullcontext()

    def warm_up(
        self, shortest_prompt_ids: Tensor, rows: int, cols: int, numbers_kept: Iterable[int],
        sampling: Sampling, should_stop: Callable[[], bool],
    ) -> None:
        num_visual = int((shortest_prompt_ids == self.info.image_token_id).sum())
        self.calls.append((num_visual, rows, cols, tuple(numbers_kept)))


@pytest.fixture(scope='module', name='checkpoint')
def checkpoint_fixture(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = save_original_checkpoint(tmp_path_factory.mktemp('model'), make_model('narrow'))
    return load_checkpoint(VlmConfig(model=str(folder), device='cpu'))


def make_engine(checkpoint: Checkpoint, **parameters: Any) -> tuple[VlmEngine, ServedModel]:
    model = ServedModel(checkpoint.model.info)
    served: SparseBackend = model
    config = VlmConfig(keep_ratio=0.5, selection='uniform', **parameters)
    return VlmEngine(replace(checkpoint, model=served), config), model


def test_questions_go_the_way_of_the_interface(checkpoint: Checkpoint) -> None:
    engine, model = make_engine(checkpoint)
    first = engine.answer(IMAGE, 'what moves?', None)
    assert (first.text, first.flops_reused) == ('3 of 6', 0)
    assert model.calls == ['encode', 'prefill']
    second = engine.answer(IMAGE, 'why?', None)
    assert second.text == 'again' and second.flops_reused > 0
    both = engine.answer_all(IMAGE, ['a?', 'b?'], None)
    assert [answer.text for answer in both] == ['ab', 'c']
    assert model.calls[2:] == ['extend', 'extend_together']
    assert engine.description.endswith('a model')


def test_what_was_prepared_is_extended(checkpoint: Checkpoint) -> None:
    engine, model = make_engine(checkpoint)
    engine.prepare([Moment(IMAGE, None, 1)])
    engine.answer_about([Moment(IMAGE, None, 1)], '?')
    engine.answer_all(IMAGE, ['a?', 'b?'], None)  # a frame without a key is another one
    assert model.calls == [
        'encode', 'prefill_image', 'extend', 'encode', 'prefill_image', 'extend_together']


def test_the_backend_is_warmed_up_for_each_size(checkpoint: Checkpoint) -> None:
    engine, model = make_engine(checkpoint, warm_up_sizes='84x56 112x28')
    engine.warm_up()
    # by hand, of tokens of 28 px: 2 x 3, of which half are 3, and 1 x 4, of which half are 2
    assert model.calls[2:] == [(6, 2, 3, (3, 6)), (4, 1, 4, (2, 4))]


def test_the_eager_model_has_nothing_to_warm_up(tmp_path: Path) -> None:
    folder = save_original_checkpoint(tmp_path, make_model('narrow'))
    engine = VlmEngine.from_config(VlmConfig(
        model=str(folder), device='cpu', warm_up_sizes='84x56 112x28'))
    passes: list[int] = []
    library_of(engine).model.language_model.register_forward_pre_hook(lambda *_: passes.append(1))
    engine.warm_up()
    assert len(passes) == 2  # the small empty picture: a prompt and a token
