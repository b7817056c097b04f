"""
Recomputes some visual tokens of a scene in place, and leaves the others as they were computed.

In the encoder a refreshed token attends to the cached keys and values of all known tokens, in the
language model to those that stand before it. So a token that is refreshed from the pixels it was
computed from comes out as it was, and a change reaches what is refreshed, not what is kept: that
is what is saved. Runs through the library's own layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from epvlm_ros.vlm.sparse_qwen.scene.encoder_attention import EncoderRefresh, scene_attention
from epvlm_ros.vlm.sparse_qwen.scene.scene_backend import check_grid
from epvlm_ros.vlm.sparse_qwen.scene.slot_cache import make_slot_cache, slots_of
from epvlm_ros.vlm.sparse_qwen.scene.token_states import TokenStates
from epvlm_ros.vlm.sparse_qwen.sparse_forward import SparseForward
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput, VisualFeatures
import numpy as np
import torch
from torch import Tensor


class SceneForward:
    """
    The forward pass of a scene in memory, see ``SceneBackend``.

    Parameters
    ----------
    model : SparseForward
        The model; not changed.
    attends_to_scene : bool
        Whether refreshed tokens see the others in the encoder. If not, no state of the encoder is
        kept and they are encoded by themselves, which costs accuracy.

    """

    def __init__(self, model: SparseForward, attends_to_scene: bool = True) -> None:
        self._model = model
        self._attends_to_scene = attends_to_scene
        inner: Any = model.library_model.model
        self._encoder = encoder = inner.visual
        self._num_layers = len(inner.language_model.layers)
        self._layer_of = {block.attn: number for number, block in enumerate(encoder.blocks)}
        full = getattr(encoder, 'fullatt_block_indexes', None)
        self._windowed_layers = frozenset(
            set(range(len(encoder.blocks))) - set(full) if full is not None else ())

    def begin(self, prompt_ids: Tensor, rows: int, cols: int) -> TokenStates:
        """Return a scene of which nothing is known."""
        layout = self._model.lay_out_image(prompt_ids, rows, cols)
        return TokenStates(layout, rows, cols, np.zeros(rows * cols, np.bool_))

    @torch.inference_mode()
    def refresh(self, scene: TokenStates, vision: VisionInput) -> None:
        """Compute the kept tokens of an image anew, in their places in the scene."""
        check_grid(scene, vision)
        scene.known[vision.kept_indices] = True
        features = self._encode(scene, vision)
        self._store_features(scene, vision, features)
        self._run_language_model(scene, vision.kept_indices)

    @torch.inference_mode()
    def rerun_language_model(self, scene: TokenStates, prompt_ids: Tensor) -> None:
        """Go on with a scene after other text, such as another system prompt."""
        scene.layout = self._model.lay_out_image(prompt_ids, scene.rows, scene.cols)
        scene.language_model = []
        if scene.known.any():
            self._run_language_model(scene, np.flatnonzero(scene.known))

    def warm_up(
        self, prompt_ids: Tensor, rows: int, cols: int, most_changed: int,
        should_stop: Callable[[], bool],
    ) -> None:
        """Do nothing: the size of a scene makes no difference to its first update."""

    def release_memory(self) -> None:
        """Do nothing: nothing is kept."""

    def _encode(self, scene: TokenStates, vision: VisionInput) -> VisualFeatures:
        if not self._attends_to_scene:
            return self._model.encode(vision)
        per_token = self._model.info.merge_size ** 2
        inside = np.arange(per_token)
        slots = (vision.kept_indices[:, None] * per_token + inside).reshape(-1)
        known = np.repeat(scene.known, per_token)
        device = self._model.device
        mask = None if known.all() else torch.from_numpy(known)[None].to(device)
        refresh = EncoderRefresh(
            scene.encoder, self._layer_of, torch.from_numpy(slots).to(device), len(known), mask,
            self._window_mask(scene, slots, known), self._windowed_layers)
        with scene_attention(self._encoder):
            return self._model.encode_as_one(vision, scene_refresh=refresh)

    def _window_mask(
        self, scene: TokenStates, slots: np.ndarray, known: np.ndarray,
    ) -> Tensor | None:
        """Return which known patches share the window of each refreshed one."""
        if not self._windowed_layers:
            return None
        encoder = self._encoder
        side = encoder.window_size // encoder.spatial_merge_size // encoder.patch_size
        row, col = np.divmod(np.arange(scene.num_tokens), scene.cols)
        window = row // side * -(-scene.cols // side) + col // side
        window = np.repeat(window, self._model.info.merge_size ** 2)
        mask = (window[slots][:, None] == window[None]) & known[None]
        return torch.from_numpy(mask).to(self._model.device)

    def _store_features(
        self, scene: TokenStates, vision: VisionInput, features: VisualFeatures,
    ) -> None:
        parts = (features.tokens, *features.deepstack)
        if not scene.features:
            scene.features = [
                part.new_zeros(scene.num_tokens, part.shape[1]) for part in parts]
        indices = torch.from_numpy(vision.kept_indices).to(parts[0].device)
        for stored, part in zip(scene.features, parts):
            stored.index_copy_(0, indices, part)

    def _run_language_model(self, scene: TokenStates, tokens: np.ndarray) -> None:
        """Recompute some tokens in their slots; at first the text before the image as well."""
        layout, device = scene.layout, self._model.device
        is_run = torch.zeros_like(layout.is_visual)
        is_run[scene.visual_slots[torch.from_numpy(tokens)]] = True
        if not scene.language_model:
            is_run |= ~layout.is_visual
        slots = is_run.nonzero()[:, 0]
        before = torch.arange(len(is_run))[None] <= slots[:, None]
        mask = (before & layout.keep(scene.known).is_kept)[None, None]  # (1, 1, run, slots)
        cache = make_slot_cache(
            scene.language_model, self._num_layers, slots.to(device), len(is_run))
        indices = torch.from_numpy(tokens).to(device)
        features = VisualFeatures(
            scene.features[0][indices], tuple(part[indices] for part in scene.features[1:]))
        self._model.run_tokens(
            layout.prompt_ids[slots], layout.positions[:, slots], layout.is_visual[slots],
            features, cache, attention_mask=mask.to(device))
        scene.language_model = slots_of(cache)
