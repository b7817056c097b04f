"""A model that records what its scene in memory is computed from, so that it can be replayed."""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.sparse_qwen import (
    PromptPrefix, SceneStates, SparseBackend, SparseQwenVl, VisionInput)
import numpy as np
import torch
from torch import Tensor


class Recording:
    """What a scene was computed from since it began, so that another model can compute it."""

    def __init__(self, prompt_ids: Tensor, rows: int, cols: int) -> None:
        self._prompt_ids, self._rows, self._cols = prompt_ids, rows, cols
        self._updates: list[tuple[np.ndarray, Tensor]] = []  # tokens, and their patches

    @property
    def num_updates(self) -> int:
        """How many updates there were."""
        return len(self._updates)

    def append(self, vision: VisionInput) -> None:
        """Take an update."""
        self._updates.append((vision.kept_indices.copy(), vision.keep(vision.pixel_values)))

    def replay(self, model: SparseQwenVl) -> tuple[PromptPrefix, PromptPrefix]:
        """Return what questions start from after all updates, and when all was first known."""
        forward = model.scene_forward()
        scene = forward.begin(self._prompt_ids, self._rows, self._cols)
        first: PromptPrefix | None = None
        for tokens, patches in self._updates:
            pixels = patches.new_zeros(scene.num_tokens, len(patches) // len(tokens),
                                       patches.shape[1])
            pixels[torch.from_numpy(tokens)] = patches.unflatten(0, (len(tokens), -1))
            forward.refresh(
                scene, VisionInput(pixels.flatten(0, 1), self._rows, self._cols, tokens))
            if first is None and scene.known.all():
                first = scene.snapshot()
        last = scene.snapshot()
        return last, first or last


class RecordedModel:
    """A model; what its scenes are computed from is recorded on the way."""

    def __init__(self, model: SparseBackend) -> None:
        self._model = model
        self._forward: Any = None
        self.recording = Recording(torch.zeros(0), 0, 0)  # of the scene that began last
        self.first_logits = torch.zeros(0)  # of the last question about a known image

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the model."""
        return getattr(self._model, name)

    def scene_forward(self, attends_to_scene: bool = True) -> RecordedModel:
        """Return what keeps the one scene."""
        self._forward = self._model.scene_forward(attends_to_scene)
        return self

    def begin(self, prompt_ids: Tensor, rows: int, cols: int) -> SceneStates:
        """Begin a scene and its recording."""
        self.recording = Recording(prompt_ids, rows, cols)
        return self._forward.begin(prompt_ids, rows, cols)

    def refresh(self, scene: SceneStates, vision: VisionInput) -> None:
        """Compute tokens anew, and record from what."""
        self._forward.refresh(scene, vision)
        self.recording.append(vision)

    def release_memory(self) -> None:
        """Let go of scenes that are gone."""
        self._forward.release_memory()

    def extend(self, prefix: PromptPrefix, text_ids: Tensor) -> Any:
        """Run a question, and keep the logits after it."""
        state = self._model.extend(prefix, text_ids)
        self.first_logits = state.logits.float().clone()
        return state
