"""The CUDA-graph implementation of ``SparseBackend``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
import logging
from typing import Any

from epvlm_ros.vlm.cuda_graphs.best_operations import find_operations
from epvlm_ros.vlm.cuda_graphs.decoding_state import CudaGraphPrefix, CudaGraphState
from epvlm_ros.vlm.cuda_graphs.device_sampler import PendingToken, SamplerKind
from epvlm_ros.vlm.cuda_graphs.graphs import GraphPool
from epvlm_ros.vlm.cuda_graphs.language_model_graphs import LanguageModelGraphs
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.scene import CudaGraphSceneForward
from epvlm_ros.vlm.cuda_graphs.vision import make_encoder
from epvlm_ros.vlm.cuda_graphs.warm_up import ask_about_empty_pictures
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights, Unsupported
from epvlm_ros.vlm.model_error import NonFiniteLogits
from epvlm_ros.vlm.sparse_qwen import (
    BatchState, DecodingState, GREEDY, ModelInfo, PromptLayout, PromptPrefix, Sampling,
    SceneBackend, SparseBackend, SparseQwenVl, TextScore, Token, VisionInput,
    VisualFeatures)
import torch
from torch import Tensor
from transformers import DynamicCache

_log = logging.getLogger(__name__)
STEPS_AHEAD = 2  # further tokens that are computed while one is handed out


class CudaGraphQwenVl:
    """
    A Qwen vision-language model whose sparse forward pass has fixed shapes.

    Computes what the eager model computes, up to rounding. Everything goes through functions of
    fixed shapes on memory that stays where it is, each captured in a CUDA graph on a GPU, see
    ``graphs``. A prompt is padded to the next of a few sizes; so are the kept tokens in the
    encoder, unless their number is a usual one, which gets a function of its own.

    What does not fit in the static cache, several questions at once, and an encoder of another
    kind fall back to the eager model. A state is outdated by the next prompt.

    Parameters
    ----------
    eager : SparseQwenVl
        The fallback, with the same weights; some of them are moved to other places in memory.
    usual_ratios : collection of float
        Keep ratios that most images are computed with.
    cache_tokens : int
        Most tokens of a prompt and its answer.
    max_functions : int
        Most functions of fixed shapes that are kept.
    operations : Operations, optional
        What they are made of; by default fused kernels on a GPU.

    Raises
    ------
    Unsupported
        If there are no functions of fixed shapes for this language model.

    """

    def __init__(
        self, eager: SparseQwenVl, *, usual_ratios: Collection[float] = (1.0,),
        cache_tokens: int = 4096, max_functions: int = 128, operations: Operations | None = None,
    ) -> None:
        self._eager = eager
        self._pool = GraphPool(eager.device, max_functions)
        library: Any = eager.library_model
        weights = DecoderWeights.of(library.model.language_model, library.lm_head)
        operations = operations or find_operations(weights)
        self._encoder = make_encoder(eager, operations, self._pool, usual_ratios)
        self._language_model = LanguageModelGraphs(
            weights, operations, self._pool, cache_tokens, num_deepstack=len(getattr(
                self.info.config.vision_config, 'deepstack_visual_indexes', ())))
        self._cache = self._language_model.cache
        self._weights, self._operations = weights, operations
        self._scenes: dict[bool, SceneBackend] = {}
        self._number = 0
        self._held: PromptPrefix | None = None  # whose tokens are the first ones of the cache

    @property
    def info(self) -> ModelInfo:
        """Return what the configuration says of the model."""
        return self._eager.info

    @property
    def description(self) -> str:
        """Return size, device and number type for a log line."""
        return self._eager.description

    @property
    def device_name(self) -> str:
        """Return where the model computes, for messages."""
        return self._eager.device_name

    @property
    def num_graphs(self) -> int:
        """How many CUDA graphs are captured by now."""
        return self._pool.num_graphs

    def checked(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Check nothing: there are no layers in a CUDA graph, and a GPU is fast."""
        return nullcontext()

    def scene_forward(self, attends_to_scene: bool = True) -> SceneBackend:
        """Return what keeps scenes in memory: one for each answer, so that they share memory."""
        if self._encoder is None:
            return self._eager.scene_forward(attends_to_scene)
        if attends_to_scene not in self._scenes:
            self._scenes[attends_to_scene] = CudaGraphSceneForward(
                self._eager, self._encoder, self._weights, self._operations, self._pool,
                self._cache.capacity, attends_to_scene)
        return self._scenes[attends_to_scene]

    def known_system_prefix(self, prompt_ids: Tensor) -> PromptPrefix | None:
        """Return nothing: a prompt is run from its start on."""
        return None

    def warm_up(
        self, shortest_prompt_ids: Tensor, rows: int, cols: int, numbers_kept: Iterable[int],
        sampling: Sampling, should_stop: Callable[[], bool],
    ) -> None:
        """Capture the CUDA graphs that the first questions will need."""
        ask_about_empty_pictures(
            self, shortest_prompt_ids, rows, cols, numbers_kept, sampling, should_stop)
        _log.info('%d x %d tokens: %d CUDA graphs', rows, cols, self.num_graphs)

    @torch.inference_mode()
    def encode(self, vision: VisionInput) -> VisualFeatures:
        """Run the encoder and the patch merger on the kept tokens."""
        if self._encoder is None or self._encoder.size_for(vision) > self._cache.capacity:
            return self._eager.encode(vision)
        return self._encoder.encode(vision)

    @torch.inference_mode()
    def prefill(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> CudaGraphState | DecodingState:
        """Run the language model on the text and the kept tokens of the prompt."""
        layout = self._eager.lay_out(prompt_ids, vision)
        prefix = self._run_from_start(layout, features)
        if prefix is None:
            return self._eager.prefill(prompt_ids, vision, features)
        return self._make_state(
            int(layout.is_kept.sum()), layout.next_position, layout.prompt_ids, prefix)

    @torch.inference_mode()
    def prefill_image(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> PromptPrefix:
        """Run the language model on a prompt up to the end of its image."""
        layout = self._eager.lay_out(prompt_ids, vision).up_to_image()
        prefix = self._run_from_start(layout, features)
        return prefix or self._eager.prefill_image(prompt_ids, vision, features)

    @torch.inference_mode()
    def extend(self, prefix: PromptPrefix, text_ids: Tensor) -> CudaGraphState | DecodingState:
        """Run the language model on a further question about an image, and on that only."""
        offset = prefix.num_tokens_kept
        next_position = prefix.next_position + len(text_ids)
        if not self._language_model.fits(len(text_ids), next_position, offset):
            return self._eager.extend(prefix, text_ids)
        if prefix is not self._held:
            if isinstance(prefix, CudaGraphPrefix):
                self._cache.restore_first(prefix.saved)
            else:
                self._cache.restore_first(torch.stack([
                    torch.cat([layer[part] for layer in prefix.keys_values])
                    for part in (0, 1)]))
            self._held = prefix
        text_ids = text_ids.cpu()
        positions = torch.arange(prefix.next_position, next_position).expand(3, -1)
        self._language_model.run_prompt(
            text_ids, torch.full_like(text_ids, -1), positions, offset, next_position, None)
        return self._make_state(
            offset + len(text_ids), next_position, torch.cat([prefix.token_ids, text_ids]), prefix)

    def extend_together(self, prefix: PromptPrefix, texts: Sequence[Tensor]) -> BatchState:
        """Run several questions at once, eagerly."""
        return self._eager.extend_together(prefix, texts)

    def decode_together(
        self, state: BatchState, end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> Iterator[list[tuple[int, Token]]]:
        """Write several answers at once, eagerly."""
        return self._eager.decode_together(state, end_token_ids, max_new_tokens, sampling)

    @torch.inference_mode()
    def step(self, state: CudaGraphState | DecodingState, token_id: int) -> None:
        """Append one token to ``state``, which then holds the logits after it."""
        if not isinstance(state, CudaGraphState):
            self._eager.step(state, token_id)
            return
        self._check(state)
        if state.num_tokens >= self._cache.capacity:
            raise ValueError(
                f'the cache of {self._cache.capacity} tokens is full: give a longer one')
        self._language_model.step(state.num_tokens, token_id)
        state.num_tokens += 1
        state.next_position += 1

    def decode(
        self, state: CudaGraphState | DecodingState, end_token_ids: Collection[int],
        max_new_tokens: int, sampling: Sampling = GREEDY,
    ) -> Iterator[Token]:
        """
        Yield the tokens of the answer as they are computed.

        Up to ``STEPS_AHEAD`` tokens more than were asked for are computed, never more than
        ``max_new_tokens``, so that the device does not wait. The logits after the prompt are
        checked, as in the eager model, those after each token are not.
        """
        if not isinstance(state, CudaGraphState):
            yield from self._eager.decode(state, end_token_ids, max_new_tokens, sampling)
            return
        self._check(state)
        if state.num_tokens + max_new_tokens > self._cache.capacity + 1:
            _log.warning('an answer of %d tokens does not fit in the cache', max_new_tokens)
            yield from self._eager.decode(
                self._leave(state), end_token_ids, max_new_tokens, sampling)
            return
        self._language_model.start_sampling(sampling, state.prompt_ids, max_new_tokens)
        waiting: deque[PendingToken] = deque()
        num_started = 0
        for index in range(max_new_tokens):
            while num_started < min(index + 1 + STEPS_AHEAD, max_new_tokens):
                waiting.append(self._start_token(state, num_started, sampling))
                num_started += 1
            token = waiting.popleft().wait()
            self._check(state)
            if token < 0:
                self._cache.both.zero_()  # masked places are multiplied by 0, and 0 x NaN is NaN
                self._held = None
                raise NonFiniteLogits()
            if token in end_token_ids:
                return
            yield token

    def score_texts(
        self, state: CudaGraphState | DecodingState, texts: Sequence[Tensor],
        end_token_ids: Collection[int],
    ) -> list[TextScore]:
        """Return how likely each text is as the whole answer; the texts run eagerly."""
        if isinstance(state, CudaGraphState):
            self._check(state)
            state = self._leave(state)
        return self._eager.score_texts(state, texts, end_token_ids)

    @torch.inference_mode()
    def _start_token(
        self, state: CudaGraphState, index: int, sampling: Sampling,
    ) -> PendingToken:
        """Launch what computes one more token of the answer."""
        kind = SamplerKind.of(sampling)
        if index == 0:
            return self._language_model.sample_first(kind)
        token = self._language_model.sample_next(state.num_tokens, kind)
        state.num_tokens += 1
        state.next_position += 1
        return token

    def _run_from_start(
        self, layout: PromptLayout, features: VisualFeatures,
    ) -> CudaGraphPrefix | None:
        """Run the kept tokens of a prompt from the start of the cache on; None if it is full."""
        is_kept = layout.is_kept
        if not self._language_model.fits(int(is_kept.sum()), int(layout.positions.max())):
            return None
        is_visual = layout.is_visual[is_kept]
        source = torch.where(is_visual, is_visual.cumsum(0) - 1, -1)
        self._number += 1
        self._held = None
        self._language_model.run_prompt(
            layout.prompt_ids[is_kept], source, layout.positions[:, :-1][:, is_kept], 0,
            layout.next_position, features)
        to_image = layout.up_to_image()
        self._held = prefix = CudaGraphPrefix.of(
            to_image, self._cache.copy_first(int(to_image.is_kept.sum())))
        return prefix

    def _make_state(
        self, num_tokens: int, next_position: int, prompt_ids: Tensor, prefix: PromptPrefix,
    ) -> CudaGraphState:
        self._number += 1
        return CudaGraphState(
            self._language_model.logits, next_position, prompt_ids, prefix, self._number,
            num_tokens)

    @torch.inference_mode()
    def _leave(self, state: CudaGraphState) -> DecodingState:
        """Return a state that the eager model goes on from."""
        keys, values = self._cache.copy_first(state.num_tokens)
        return DecodingState(
            state.logits.clone(), DynamicCache(list(zip(keys[:, None], values[:, None]))),
            state.next_position, state.prompt_ids, state.prefix)

    def _check(self, state: CudaGraphState) -> None:
        if state.number != self._number:
            raise ValueError(
                'this answer is outdated: another prompt has taken its place in the cache; '
                'finish an answer before the next prompt')


def with_cuda_graphs(
    eager: SparseQwenVl, usual_ratios: Collection[float], cache_tokens: int,
) -> SparseBackend:
    """Return the CUDA-graph form of a model, or with a warning the model if there is none."""
    try:
        return CudaGraphQwenVl(eager, usual_ratios=usual_ratios, cache_tokens=cache_tokens)
    except Unsupported as reason:
        _log.warning('the model runs eagerly, as in the library: %s', reason)
        return eager
