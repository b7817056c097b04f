"""Scenes in memory, refreshed by functions of fixed shapes: one launch an update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import ref

from epvlm_ros.vlm.cuda_graphs.attention import FastestAttention
from epvlm_ros.vlm.cuda_graphs.decoding_state import CudaGraphPrefix
from epvlm_ros.vlm.cuda_graphs.graphs import FixedShapeFunction, GraphPool
from epvlm_ros.vlm.cuda_graphs.kept_patches import KeptPatches
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.scene_buffers import (
    EncoderBuffers, LanguageBuffers, SceneBuffers)
from epvlm_ros.vlm.cuda_graphs.scene_encoder import refresh_encoder
from epvlm_ros.vlm.cuda_graphs.scene_language_model import refresh_language_model
from epvlm_ros.vlm.cuda_graphs.sizes import GrowingRows, padded_size
from epvlm_ros.vlm.cuda_graphs.vision import CudaGraphEncoder
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights, MAX_POSITIONS
from epvlm_ros.vlm.sparse_qwen import PromptLayout, SceneStates, SparseQwenVl, VisionInput
from epvlm_ros.vlm.sparse_qwen.scene.scene_backend import check_grid, check_known
import numpy as np
import torch
from torch import Tensor


@dataclass(eq=False)
class CudaGraphScene:
    """A scene in buffers of its own, see ``SceneStates``."""

    layout: PromptLayout  # of the dense prompt up to the end of its image
    rows: int
    cols: int
    known: np.ndarray
    buffers: SceneBuffers

    @property
    def num_tokens(self) -> int:
        """Visual tokens of the scene, known or not."""
        return len(self.known)

    @property
    def num_text_tokens(self) -> int:
        """Tokens of the layout that are text."""
        return len(self.layout.prompt_ids) - self.num_tokens

    @property
    def num_bytes(self) -> int:
        """Memory of the scene."""
        return self.buffers.num_bytes

    @torch.inference_mode()
    def snapshot(self) -> CudaGraphPrefix:
        """Return a copy of what a question about the scene starts from."""
        check_known(self)
        cache = self.buffers.language.cache
        if self.known.all():
            saved = cache.copy_first(len(self.layout.prompt_ids))
        else:
            slots = self.layout.keep(self.known).is_kept.nonzero()[:, 0]
            saved = cache.both.index_select(3, slots.to(cache.both.device))
        return CudaGraphPrefix.of(self.layout, saved)


class CudaGraphSceneForward:
    """
    Refreshes scenes by functions of fixed shapes, see ``SceneBackend``.

    The tokens of an update are padded to the next of a few sizes. Each scene has memory of its
    own, and functions that work on it; a scene that begins takes over both from one of the same
    size that is gone. Scenes with more tokens than ``most_tokens`` are kept by the eager model.

    Parameters
    ----------
    eager : SparseQwenVl
        The model, and the fallback.
    encoder : CudaGraphEncoder
        Its encoder.
    weights, operations
        Of the language model.
    pool : GraphPool
        For the functions.
    most_tokens : int
        Of a scene, with the text before it.
    attends_to_scene : bool
        As in ``SparseBackend.scene_forward``.

    """

    def __init__(
        self, eager: SparseQwenVl, encoder: CudaGraphEncoder, weights: DecoderWeights,
        operations: Operations, pool: GraphPool, most_tokens: int, attends_to_scene: bool,
    ) -> None:
        self._eager, self._fallback = eager, eager.scene_forward(attends_to_scene)
        self._encoder, self._weights, self._operations = encoder, weights, operations
        self._pool, self._most_tokens = pool, most_tokens
        self._attends_to_scene = attends_to_scene
        self._attention = FastestAttention(operations)
        self._kept_patches = KeptPatches(pool.device)
        self._patches = GrowingRows(
            encoder.weights.like, encoder.weights.patches.weight.shape[1])
        self._buffers: list[tuple[ref[CudaGraphScene], SceneBuffers]] = []

    @torch.inference_mode()
    def begin(self, prompt_ids: Tensor, rows: int, cols: int) -> SceneStates:
        """Return a scene of which nothing is known but the text before it."""
        layout = self._eager.lay_out_image(prompt_ids, rows, cols)
        if not self._fits(layout):
            return self._fallback.begin(prompt_ids, rows, cols)
        buffers = self._take_buffers(rows, cols, len(layout.prompt_ids) - rows * cols)
        buffers.reset()
        scene = CudaGraphScene(layout, rows, cols, np.zeros(rows * cols, np.bool_), buffers)
        self._buffers.append((ref(scene), buffers))
        self._rerun(scene)
        return scene

    @torch.inference_mode()
    def refresh(self, scene: SceneStates, vision: VisionInput) -> None:
        """Compute the kept tokens of an image anew, in their places in the scene."""
        if not isinstance(scene, CudaGraphScene):
            self._fallback.refresh(scene, vision)
            return
        check_grid(scene, vision)
        tokens = vision.kept_indices
        known = scene.known.copy()
        known[tokens] = True
        if scene.buffers.encoder is None:
            features = self._encoder.encode(vision)
            kept = torch.from_numpy(tokens).to(self._pool.device)
            for table, values in zip(
                    scene.buffers.language.inputs, (features.tokens, *features.deepstack)):
                table.index_copy_(0, kept, values)
            self._run_language_model(
                scene, tokens, scene.num_text_tokens + tokens, bool(known.all()))
        else:
            self._update(scene, scene.buffers.encoder, vision, bool(known.all()))
        scene.known[tokens] = True

    @torch.inference_mode()
    def rerun_language_model(self, scene: SceneStates, prompt_ids: Tensor) -> None:
        """Go on with a scene after other text, such as another system prompt."""
        if not isinstance(scene, CudaGraphScene):
            self._fallback.rerun_language_model(scene, prompt_ids)
            return
        scene.layout = self._eager.lay_out_image(prompt_ids, scene.rows, scene.cols)
        if not self._fits(scene.layout):
            raise ValueError(
                f'{len(scene.layout.prompt_ids)} tokens of text and image are more than '
                f'{self._most_tokens}: begin a new scene')
        old = scene.buffers.language
        if scene.num_text_tokens > old.most_text:
            self._pool.discard(scene.buffers)
            scene.buffers.language = self._make_language(scene.num_tokens, scene.num_text_tokens)
            scene.buffers.language.take_features(old)
        self._rerun(scene)

    def warm_up(
        self, prompt_ids: Tensor, rows: int, cols: int, most_changed: int,
        should_stop: Callable[[], bool],
    ) -> None:
        """Fill a scene, and run updates of all sizes twice each: the second one captures."""
        scene, num_tokens = self.begin(prompt_ids, rows, cols), rows * cols
        if not isinstance(scene, CudaGraphScene):
            return
        values = self._encoder.weights.patches.weight.shape[1]
        pixels = torch.zeros(num_tokens * self._encoder.weights.patches_per_token, values)
        most_changed = min(most_changed, num_tokens)
        sizes = {padded_update(number, num_tokens) for number in range(1, most_changed)}
        # as long as some tokens are unknown; all of them; then the largest first, for its memory
        for number in (most_changed, num_tokens, *sorted(sizes, reverse=True)):
            for _ in range(2):
                if should_stop():
                    return
                self.refresh(scene, VisionInput(pixels, rows, cols, np.arange(number)))

    def release_memory(self) -> None:
        """Let go of the memory of scenes that are gone."""
        for item in [item for item in self._buffers if item[0]() is None]:
            self._buffers.remove(item)
            self._pool.discard(item[1])

    def _fits(self, layout: PromptLayout) -> bool:
        return (len(layout.prompt_ids) < self._most_tokens
                and int(layout.positions.max()) < MAX_POSITIONS)

    def _take_buffers(self, rows: int, cols: int, num_text: int) -> SceneBuffers:
        """Return buffers of a scene that is gone, or new ones."""
        for place, (scene, buffers) in enumerate(self._buffers):
            if scene() is None and buffers.fits(rows, cols, num_text):
                del self._buffers[place]
                return buffers
            del buffers  # else memory would be taken before that of the last one is free
        self.release_memory()
        return SceneBuffers(
            rows, cols, self._make_encoder(rows, cols) if self._attends_to_scene else None,
            self._make_language(rows * cols, num_text))

    def _make_encoder(self, rows: int, cols: int) -> EncoderBuffers:
        image = VisionInput.without_pixels(rows, cols, self._eager.info.merge_size)
        weights = self._encoder.weights
        has_learned = weights.learned_positions is not None
        return EncoderBuffers(
            weights, image, self._encoder.mix_positions(image) if has_learned else ())

    def _make_language(self, num_tokens: int, num_text: int) -> LanguageBuffers:
        return LanguageBuffers(
            self._weights, num_tokens, num_text, len(self._encoder.weights.deepstack))

    def _rerun(self, scene: CudaGraphScene) -> None:
        """Run the language model on the text before the image and on all known tokens."""
        scene.buffers.language.begin(scene.layout)
        text, tokens = np.arange(scene.num_text_tokens), np.flatnonzero(scene.known)
        rows = np.concatenate([scene.num_tokens + 1 + text, tokens])
        slots = np.concatenate([text, len(text) + tokens])
        if rows.size:
            self._run_language_model(scene, rows, slots, is_whole=len(tokens) == scene.num_tokens)

    def _run_language_model(
        self, scene: CudaGraphScene, rows: np.ndarray, slots: np.ndarray, is_whole: bool,
    ) -> None:
        """Run some tokens, given their rows and slots as ``LanguageBuffers`` counts them."""
        size = padded_size(len(rows), 16, 16)
        function = self._pool.find(
            (scene.buffers, 'language model', size, is_whole),
            lambda: self._make_language_function(scene.buffers, size, is_whole))
        padded = np.full((2, size), [[scene.num_tokens], [len(scene.layout.prompt_ids)]])
        padded[:, :len(rows)] = rows, slots
        function.buffers.copy_(torch.from_numpy(padded), non_blocking=True)
        function()

    def _make_language_function(
        self, buffers: SceneBuffers, size: int, is_whole: bool,
    ) -> FixedShapeFunction:
        inputs = torch.zeros(2, size, dtype=torch.int64, device=self._pool.device)
        rows, slots = inputs

        def run() -> None:
            refresh_language_model(
                self._weights, self._operations, buffers.language, rows, slots, is_whole)

        return FixedShapeFunction(run, inputs)

    def _update(
        self, scene: CudaGraphScene, part: EncoderBuffers, vision: VisionInput, is_whole: bool,
    ) -> None:
        kept = vision.kept_indices
        size = padded_update(len(kept), scene.num_tokens)
        function = self._pool.find(
            (scene.buffers, 'update', size, is_whole),
            lambda: self._make_update(scene.buffers, part, size, is_whole))
        tokens, patches = function.buffers
        padded = np.full(size, scene.num_tokens)
        padded[:len(kept)] = kept
        tokens.copy_(torch.from_numpy(padded), non_blocking=True)
        values = self._kept_patches(vision, kept)
        patches[:len(values)] = values
        patches[len(values):] = 0.0
        function()

    def _make_update(
        self, buffers: SceneBuffers, part: EncoderBuffers, size: int, is_whole: bool,
    ) -> FixedShapeFunction:
        weights = self._encoder.weights
        tokens = torch.zeros(size, dtype=torch.int64, device=self._pool.device)
        patches = self._patches.first(size * weights.patches_per_token)

        def run() -> None:
            encoded = refresh_encoder(
                weights, self._operations, part, tokens, patches, self._attention, is_whole)
            for table, values in zip(buffers.language.inputs, encoded):
                table.index_copy_(0, tokens, values)
            refresh_language_model(
                self._weights, self._operations, buffers.language, tokens,
                tokens + buffers.language.first, is_whole)

        return FixedShapeFunction(run, (tokens, patches))


def padded_update(num_changed: int, num_tokens: int) -> int:
    """Return how many tokens an update of so many is padded to, in a scene of ``num_tokens``."""
    return min(padded_size(num_changed, 16, 16), num_tokens)
