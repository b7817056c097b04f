"""The captured engine: what ``SparseQwenVl`` does, as few launches of fixed shapes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
import logging
from typing import Any

from epvlm_ros.vlm.cuda_graphs.device_sampler import Choice, TokenChoice, TokenOnItsWay
from epvlm_ros.vlm.cuda_graphs.graphs import FixedFunction, GraphPool
from epvlm_ros.vlm.cuda_graphs.language_model import LanguageModel, Prompt
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.sizes import GrowingRows, padded_size
from epvlm_ros.vlm.cuda_graphs.static_cache import StaticCache
from epvlm_ros.vlm.cuda_graphs.vision import CapturedEncoder
from epvlm_ros.vlm.cuda_graphs.weights import (
    DecoderWeights, EncoderWeights, MAX_POSITIONS, Unsupported)
from epvlm_ros.vlm.sparse_qwen import (
    DecodingState, GREEDY, PromptPrefix, Sampling, SparseQwenVl, VisionInput, VisualFeatures)
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

_log = logging.getLogger(__name__)
STEPS_AHEAD = 2  # further tokens that are computed while one is handed out


@dataclass
class CapturedState(DecodingState):
    """
    Where the one answer in the static cache stands; ``cache`` is empty and not used.

    Parameters
    ----------
    number : int
        Counts prompts: the state is outdated once another prompt has taken the cache.
    num_tokens : int
        Tokens in the cache.

    """

    number: int = 0
    num_tokens: int = 0


@dataclass(frozen=True, eq=False)
class CapturedPrefix(PromptPrefix):
    """
    A prefix whose keys and values lie in one piece.

    Parameters
    ----------
    saved : torch.Tensor
        See ``StaticCache.copy_first``; ``keys_values`` are parts of it.

    """

    saved: Tensor = field(kw_only=True)


class CapturedQwenVl(SparseQwenVl):
    """
    A Qwen vision-language model whose sparse forward pass has fixed shapes.

    Computes what ``SparseQwenVl`` computes, up to rounding. Everything goes through functions of
    fixed shapes on memory that stays where it is, see ``graphs``: on a GPU each is recorded in
    a CUDA graph. A prompt is padded to the next of a few sizes; so are the kept tokens in the
    encoder, unless their number is a usual one, which gets a function of its own. What does not
    fit in the static cache, several questions at once, and the encoder of another family run as
    in ``SparseQwenVl``.

    One prompt at a time: the next one makes the states of the one before it useless.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        As in ``SparseQwenVl``; some of its weights are moved to other places in memory.
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
        If there are no functions of fixed shapes for the language model of this family.

    """

    def __init__(
        self, model: PreTrainedModel, *, usual_ratios: Collection[float] = (1.0,),
        cache_tokens: int = 4096, max_functions: int = 128, operations: Operations | None = None,
    ) -> None:
        super().__init__(model)
        self._pool = GraphPool(self.device, max_functions)
        inner: Any = self._model.model
        weights = DecoderWeights.of(inner.language_model, self._model.lm_head)
        self._operations = operations or find_operations(weights)
        self._encoder = self._make_encoder(inner.visual, usual_ratios)
        num_deepstack = len(getattr(
            self.config.vision_config, 'deepstack_visual_indexes', ()))
        self._visual = [GrowingRows(weights.embedding) for _ in range(1 + num_deepstack)]
        self._cache = StaticCache(weights, cache_tokens)
        self._language_model = LanguageModel(weights, self._operations, self._cache)
        self._number = 0
        self._held: PromptPrefix | None = None  # whose tokens are the first ones of the cache
        self._choice = TokenChoice(
            len(self._language_model.logits), cache_tokens + 1, self.device)

    @property
    def num_recordings(self) -> int:
        """How many functions are single launches by now."""
        return self._pool.num_recordings

    @contextmanager
    def checked(self, check: Callable[[], None]) -> Iterator[None]:
        """Check nothing: there are no layers in a recorded function, and a GPU is fast."""
        yield

    def known_lead(self, prompt_ids: Tensor) -> PromptPrefix | None:
        """Return nothing: a prompt is run from its start on."""
        return None

    @torch.inference_mode()
    def encode(self, vision: VisionInput) -> VisualFeatures:
        """Run the encoder and the patch merger on the kept tokens."""
        if self._encoder is None or self._encoder.size_for(vision) > self._cache.capacity:
            return super().encode(vision)
        return self._encoder.encode(vision)

    @torch.inference_mode()
    def prefill(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> DecodingState:
        """Run the language model on the text and the kept tokens of the prompt."""
        prefix = self._run_from_start(prompt_ids, vision, features)
        if prefix is None:
            return super().prefill(prompt_ids, vision, features)
        num_text_tokens = len(prompt_ids) - len(prefix.token_ids)
        return self._make_state(
            prefix.num_tokens_kept + num_text_tokens, prefix.next_position + num_text_tokens,
            prompt_ids.cpu(), prefix)

    @torch.inference_mode()
    def prefill_image(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> PromptPrefix:
        """Run the language model on a prompt up to the end of its image."""
        prompt_ids = prompt_ids[:self._end_of_image(prompt_ids)]
        prefix = self._run_from_start(prompt_ids, vision, features)
        return prefix or super().prefill_image(prompt_ids, vision, features)

    @torch.inference_mode()
    def ask(self, prefix: PromptPrefix, text_ids: Tensor) -> DecodingState:
        """Run the language model on a further question about an image, and on that only."""
        offset = prefix.num_tokens_kept
        next_position = prefix.next_position + len(text_ids)
        if not self._fits(len(text_ids), next_position, offset):
            return super().ask(prefix, text_ids)
        if prefix is not self._held:
            if isinstance(prefix, CapturedPrefix):
                self._cache.restore_first(prefix.saved)
            else:
                self._cache.restore_first(torch.stack([
                    torch.cat([layer[part] for layer in prefix.keys_values])
                    for part in (0, 1)]))
            self._held = prefix
        text_ids = text_ids.cpu()
        positions = torch.arange(prefix.next_position, next_position).expand(3, -1)
        self._run_prompt_function(
            text_ids, torch.full_like(text_ids, -1), positions, offset, next_position, None)
        return self._make_state(
            offset + len(text_ids), next_position, torch.cat([prefix.token_ids, text_ids]), prefix)

    @torch.inference_mode()
    def step(self, state: DecodingState, token_id: int) -> None:
        """Append one token to ``state``, which then holds the logits after it."""
        if not isinstance(state, CapturedState):
            super().step(state, token_id)
            return
        self._check(state)
        if state.num_tokens >= self._cache.capacity:
            raise ValueError(
                f'the cache of {self._cache.capacity} tokens is full: give a longer one')
        self._language_model.token.fill_(token_id)
        self._run_step(state.num_tokens, None)
        state.num_tokens += 1
        state.next_position += 1

    def decode(
        self, state: DecodingState, end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> Iterator[int]:
        """
        Yield the ids of the answer as they are computed.

        As in ``SparseQwenVl``, except that up to ``STEPS_AHEAD`` tokens more than were asked for
        are computed, never more than ``max_new_tokens``, so that the device does not wait.
        """
        if not isinstance(state, CapturedState):
            yield from super().decode(state, end_token_ids, max_new_tokens, sampling)
            return
        self._check(state)
        if state.num_tokens + max_new_tokens > self._cache.capacity + 1:
            _log.warning('an answer of %d tokens does not fit in the cache', max_new_tokens)
            yield from super().decode(
                self._leave(state), end_token_ids, max_new_tokens, sampling)
            return
        self._choice.start(sampling, state.prompt_ids, max_new_tokens)
        waiting: deque[TokenOnItsWay] = deque()
        num_started = 0
        for index in range(max_new_tokens):
            while num_started < min(index + 1 + STEPS_AHEAD, max_new_tokens):
                waiting.append(self._start_token(state, num_started, sampling))
                num_started += 1
            token_id = waiting.popleft().wait()
            self._check(state)
            if token_id in end_token_ids:
                return
            yield token_id

    @torch.inference_mode()
    def _start_token(
        self, state: CapturedState, index: int, sampling: Sampling,
    ) -> TokenOnItsWay:
        """Launch what computes one more token of the answer."""
        choice = Choice.of(sampling)
        if index == 0:
            self._pool.find(choice, lambda: FixedFunction(partial(self._choose, choice)))()
        else:
            self._run_step(state.num_tokens, choice)
            state.num_tokens += 1
            state.next_position += 1
        return TokenOnItsWay(self._language_model.token)

    def _choose(self, choice: Choice) -> None:
        model = self._language_model
        model.token.copy_(self._choice.choose(model.logits, model.cursor[2:3], choice))

    def _run_step(self, num_tokens: int, choice: Choice | None) -> None:
        """Append the token, and choose the next one unless ``choice`` is None."""
        bound = self._bound(num_tokens + 1)

        def run() -> None:
            self._language_model.step(bound)
            if choice is not None:
                self._choose(choice)

        self._pool.find(('step', bound, choice), lambda: FixedFunction(run))()

    def _make_encoder(
        self, encoder: Any, usual_ratios: Collection[float],
    ) -> CapturedEncoder | None:
        try:
            weights = EncoderWeights.of(encoder)
        except Unsupported as reason:
            _log.warning('the encoder runs as in the library: %s', reason)
            return None

        def mix_positions(vision: VisionInput) -> tuple[Tensor, Tensor]:
            inputs = self._family.encoder_inputs(encoder, vision)
            return inputs['interp_indices'], inputs['interp_weights']

        return CapturedEncoder(
            weights, self._operations, self._pool, usual_ratios, mix_positions)

    def _run_from_start(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> CapturedPrefix | None:
        """Run the kept tokens of a prompt from the start of the cache on; None if it is full."""
        prompt_ids = prompt_ids.cpu()
        positions = self._find_positions(prompt_ids, vision)
        is_image, is_kept = self._find_kept(prompt_ids, vision)
        if not self._fits(int(is_kept.sum()), int(positions.max())):
            return None
        is_visual = is_image[is_kept]
        source = torch.where(is_visual, is_visual.cumsum(0) - 1, -1)
        self._number += 1
        self._held = None
        self._run_prompt_function(
            prompt_ids[is_kept], source, positions[:, :-1][:, is_kept], 0,
            int(positions[0, -1]), features)
        self._held = prefix = self._copy_prefix(prompt_ids, positions, vision)
        return prefix

    def _run_prompt_function(
        self, ids: Tensor, source: Tensor, positions: Tensor, offset: int, next_position: int,
        features: VisualFeatures | None,
    ) -> None:
        size = _prompt_size(len(ids))
        bound = None if features is not None else self._bound(offset + size)
        function = self._pool.find(
            ('prompt', size, bound), lambda: self._make_prompt(size, bound))
        host, prompt, visual = function.buffers
        host.fill(ids, source, positions, offset, next_position)
        prompt.packed.copy_(host.packed, non_blocking=True)
        if features is not None:
            for rows, values in zip(visual, (features.tokens, *features.deepstack)):
                rows[:len(values)] = values
        function()

    def _make_prompt(self, size: int, bound: int | None) -> FixedFunction:
        host, prompt = Prompt(size, torch.device('cpu')), Prompt(size, self.device)
        visual = [rows.first(size) for rows in self._visual] if bound is None else []
        return FixedFunction(
            partial(self._language_model.prefill, prompt, visual, bound), (host, prompt, visual))

    def _copy_prefix(
        self, prompt_ids: Tensor, positions: Tensor, vision: VisionInput,
    ) -> CapturedPrefix:
        end = self._end_of_image(prompt_ids)
        num_kept = end - vision.num_tokens + len(vision.kept_indices)
        saved = self._cache.copy_first(num_kept)  # (2, layers, heads, tokens, dim)
        return CapturedPrefix(
            prompt_ids[:end].cpu(), tuple((keys[None], values[None]) for keys, values
                                          in zip(*saved)),
            int(positions[0, end]), saved=saved)

    def _make_state(
        self, num_tokens: int, next_position: int, prompt_ids: Tensor, prefix: PromptPrefix,
    ) -> CapturedState:
        self._number += 1
        return CapturedState(
            self._language_model.logits, DynamicCache(), next_position, prompt_ids, prefix,
            self._number, num_tokens)

    @torch.inference_mode()
    def _leave(self, state: CapturedState) -> DecodingState:
        """Return a state that ``SparseQwenVl`` goes on from."""
        keys, values = self._cache.copy_first(state.num_tokens)
        return DecodingState(
            state.logits.clone(), DynamicCache(list(zip(keys[:, None], values[:, None]))),
            state.next_position, state.prompt_ids, state.prefix)

    def _check(self, state: CapturedState) -> None:
        if state.number != self._number:
            raise ValueError(
                'this answer is outdated: another prompt has taken its place in the cache; '
                'finish an answer before the next prompt')

    def _fits(self, num_tokens: int, last_position: int, offset: int = 0) -> bool:
        """Tell whether the cache and the table of positions have room for more tokens."""
        return (offset + _prompt_size(num_tokens) <= self._cache.capacity
                and last_position + self._cache.capacity <= MAX_POSITIONS)

    def _bound(self, num_tokens: int) -> int:
        """Return up to where attention looks in the cache, at least ``num_tokens``."""
        if not self._operations.needs_bound:
            return self._cache.capacity
        return min(self._cache.capacity, max(256, 1 << (num_tokens - 1).bit_length()))


def _prompt_size(num_tokens: int) -> int:
    """Return how many tokens a prompt takes in the cache, padding included."""
    return padded_size(num_tokens, 16, 16)


def capture(
    model: SparseQwenVl, usual_ratios: Collection[float], cache_tokens: int,
) -> SparseQwenVl:
    """
    Return the captured engine of a model, or the model itself with a warning if there is none.

    Parameters
    ----------
    model : SparseQwenVl
        No longer to be used beside what is returned.
    usual_ratios, cache_tokens
        See ``CapturedQwenVl``.

    """
    try:
        return CapturedQwenVl(
            model.library_model, usual_ratios=usual_ratios, cache_tokens=cache_tokens)
    except Unsupported as reason:
        _log.warning('the model runs eagerly, as in the library: %s', reason)
        return model


def find_operations(weights: DecoderWeights) -> Operations:
    """Return fused kernels where they run with this model, else plain torch."""
    if not weights.embedding.is_cuda:
        return Operations()
    try:
        from epvlm_ros.vlm.cuda_graphs.kernels import try_out
        return try_out(weights)
    except (ImportError, RuntimeError) as error:
        _log.warning('no fused kernels, plain torch instead: %s', error)
        return Operations()
