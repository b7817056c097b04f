"""What an engine keeps of each of its cameras; the model is the same for all."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from epvlm_ros.vlm.checkpoint import Checkpoint
from epvlm_ros.vlm.engine.answer_maker import AnswerMaker
from epvlm_ros.vlm.engine.frame_encoder import FrameEncoder
from epvlm_ros.vlm.engine.living_scene import LivingScene
from epvlm_ros.vlm.prompt import PromptBuilder

MEGABYTE = 1e6  # bytes


@dataclass(frozen=True, eq=False)
class CameraView:
    """The prefix of the last question about a camera, its scene in memory, and who uses both."""

    frames: FrameEncoder
    scene: LivingScene
    maker: AnswerMaker

    @property
    def num_bytes(self) -> int:
        """Memory on the device of the model."""
        return self.frames.num_bytes + self.scene.num_bytes

    def forget(self) -> None:
        """Let go of what can be computed again."""
        self.frames.forget()
        self.scene.forget()


class CameraViews:
    """
    The views of all cameras, by the names of these.

    They share a budget of memory. Where it does not suffice, those that were used least recently
    are forgotten, never the one in use.
    """

    def __init__(
        self, checkpoint: Checkpoint, prompts: PromptBuilder, attends_to_scene: bool,
    ) -> None:
        self._checkpoint, self._prompts = checkpoint, prompts
        self._attends_to_scene = attends_to_scene
        self._views: OrderedDict[str, CameraView] = OrderedDict()

    def use(self, camera: str) -> CameraView:
        """Return the view of a camera, a new one for a name that was not there yet."""
        if camera not in self._views:
            frames = FrameEncoder(self._checkpoint, caches=self._prompts.image_comes_first)
            scene = LivingScene(
                self._checkpoint, self._prompts, frames, self._attends_to_scene)
            self._views[camera] = CameraView(frames, scene, AnswerMaker(
                self._checkpoint, self._prompts, frames, scene))
        self._views.move_to_end(camera)
        return self._views[camera]

    def find(self, camera: str) -> CameraView | None:
        """Return the view of a camera that was used before; any thread may ask."""
        return self._views.get(camera)

    @property
    def num_encoded(self) -> int:
        """How often the encoder ran for frames of any camera; any thread may ask."""
        return sum(view.frames.num_encoded for view in list(self._views.values()))

    def fit(self, limit_mb: float) -> None:
        """Keep the memory of all within a limit in MB; 0 is none."""
        views = list(self._views.values())  # the last one is in use
        sizes = [view.num_bytes for view in views]
        for place, view in enumerate(views[:-1]):
            if not limit_mb or sum(sizes[place:]) <= limit_mb * MEGABYTE:
                return
            view.forget()

    def forget(self) -> None:
        """Let go of all that can be computed again."""
        for view in self._views.values():
            view.forget()
