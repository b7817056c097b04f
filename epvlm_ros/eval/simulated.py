"""
The simulated benchmark: held-out scenes with their images, events and questions.

Images have the motion blur and noise of ``epvlm_ros.sim.recording``; events come from the event
camera simulator, in a window about the middle of the exposure. Scenes are those of the splits
'test', 'hard' or 'randomised', which training does not see; the cameras of 'randomised' are random
as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from epvlm_ros.eval.groups import MOVING_GROUP, STILL_GROUP, TWIN_GROUP
from epvlm_ros.eval.question_set import Case, Observation, Problem
from epvlm_ros.eval.still_image_events import activity_of_events, still_image_activity
from epvlm_ros.events.packet import Events
from epvlm_ros.sim.camera_sampling import GOOD_LIGHT, sample_cameras
from epvlm_ros.sim.cameras import CameraConfig, event_camera_step_s, FrameCamera
from epvlm_ros.sim.event_camera import EventCameraConfig
from epvlm_ros.sim.event_simulator import EventSimulator
from epvlm_ros.sim.photographs import Photographs
from epvlm_ros.sim.question_maker import ATTEMPTS, make_question
from epvlm_ros.sim.questions import (
    FAMILIES, ONE_FRAME_FAMILIES, Question, SceneSnapshot, snapshot_scene, TOO_BRIGHT, TOO_DARK)
from epvlm_ros.sim.randomisation import has_twin
from epvlm_ros.sim.renderer import luminance, SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import RANDOMISED_SPLITS, Scene, SPLITS
import numpy as np
import torch

# How often scenes of randomised splits are asked about what has a likely answer, or the answer of
# which would be the likeliest to the same words.
_ASKED_SHARES = {
    'existence': 0.2, 'relation': 0.3, 'count': 0.45, 'absent': 0.4, 'several': 0.4}
# Grey level of frames that show nothing, and what is true of them if not what is of the scene.
_FRAMES_OF_NOTHING = {'black': (0.0, TOO_DARK), 'white': (255.0, TOO_BRIGHT), 'grey': (128.0, '')}
_BLACK_NOISE = 3.0  # standard deviation in grey levels
VERSION = 3  # to be raised where equal configurations come to give other questions or images
_TIME_RANGE_S = (0.1, 3.0)


@dataclass(frozen=True)
class SimulationConfig:
    """
    The cameras of the simulated benchmark; times in the unit of the name.

    ``camera`` and ``event_camera`` do not hold for randomised splits, whose scenes have their own.
    ``photographs`` is a folder of images for these, or empty. ``events`` is 'sensor' for the event
    camera in the scene, or 'microsaccade' for those that ``still_image_events`` makes of the
    image, as for images from a file. ``frames`` is 'seen', or 'black', 'white' or 'grey' for
    frames that show this colour in place of the scene, with the events of the scene.
    """

    num_questions: int = 1000
    split: str = 'test'
    first_scene: int = 0
    image_height: int = 480
    image_width: int = 640
    sensor_height: int = 240
    sensor_width: int = 320
    camera: CameraConfig = CameraConfig()
    event_camera: EventCameraConfig = EventCameraConfig()
    photographs: str = ''
    frame_period_s: float = 1.0 / 30.0
    window_s: float = 0.04
    events: str = 'sensor'
    frames: str = 'seen'

    def __post_init__(self) -> None:
        if self.num_questions < 1:
            raise ValueError(f'num_questions is {self.num_questions}: give at least 1')
        if self.split not in SPLITS:
            raise ValueError(f'split is {self.split!r}: give one of {", ".join(SPLITS)}')
        if self.photographs and self.split not in RANDOMISED_SPLITS:
            raise ValueError(
                f'photographs is {self.photographs!r} with split {self.split!r}: give one of '
                f'{", ".join(RANDOMISED_SPLITS)}')
        if self.events not in ('sensor', 'microsaccade'):
            raise ValueError(f'events is {self.events!r}: give sensor or microsaccade')
        if self.frames not in ('seen', *_FRAMES_OF_NOTHING):
            raise ValueError(
                f'frames is {self.frames!r}: give one of seen, {", ".join(_FRAMES_OF_NOTHING)}')


class SimulatedSet:
    """
    Questions about simulated scenes, one of every family that a scene has an answer for.

    Of frames that show nothing only what one frame could answer is asked: of black and white ones
    that they do is the answer, of grey ones, which could be a wall, the answer is the scene's.
    Equal configurations give equal questions and images; fewer questions are the first ones.
    """

    def __init__(self, config: SimulationConfig) -> None:
        self._config = config
        self._photographs = Photographs(config.photographs) if config.photographs else None
        self.problems: list[Problem] = []

    def describe(self) -> dict[str, Any]:
        """Return the configuration without the number of questions, which only ends the set."""
        settings = asdict(self._config)
        del settings['num_questions']
        if self._photographs is not None:
            settings['photographs'] = self._photographs.describe()
        return {'kind': 'simulated', 'version': VERSION, **settings}

    def __len__(self) -> int:
        """Return the number of questions."""
        return self._config.num_questions

    def __iter__(self) -> Iterator[Case]:
        """Yield the questions, scene by scene."""
        number, index = 1, self._config.first_scene
        while True:
            for case in self._ask_about(index, number):
                if number > self._config.num_questions:
                    return
                yield case
                number += 1
            index += 1

    def observe(self, case: Case) -> Observation:
        """Take the image of a case, the frame before it and the events about it."""
        index = int(case.image)
        scene, time_s = self._scene(index)
        config = self._config
        if config.split in RANDOMISED_SPLITS:
            _, camera, event_camera = sample_cameras(config.split, index)
            config = replace(config, camera=camera, event_camera=event_camera)
        seen = observe_scene(scene, time_s, config, seed=index)
        if config.frames == 'seen':
            return seen
        previous, rgb = _show_nothing(config.frames, seen.rgb.shape, index)
        return replace(seen, rgb=rgb, previous_rgb=previous)

    def _scene(self, index: int) -> tuple[Scene, float]:
        config = self._config
        scene = sample_scene(
            config.split, index, aspect_ratio=config.image_width / config.image_height,
            photographs=self._photographs)
        return scene, float(np.random.default_rng([21, index]).uniform(*_TIME_RANGE_S))

    def _ask_about(self, index: int, number: int) -> Iterator[Case]:
        scene, time_s = self._scene(index)
        snapshot = snapshot_scene(scene, time_s)
        random = np.random.default_rng([22, index])
        shares = _ASKED_SHARES if self._config.split in RANDOMISED_SPLITS else {}
        is_seen = self._config.frames == 'seen'
        _, answer = _FRAMES_OF_NOTHING.get(self._config.frames, (0.0, ''))
        for family in FAMILIES if is_seen else ONE_FRAME_FAMILIES:
            if random.random() >= shares.get(family, 1.0):
                continue
            made = make_question(family, snapshot, random, ATTEMPTS)
            if made is not None:
                yield Case(
                    number, str(index), made[0].text + '?', answer or made[1], family,
                    group=self._group(index, scene, made[0], snapshot))
                number += 1

    def _group(
        self, index: int, scene: Scene, question: Question, snapshot: SceneSnapshot,
    ) -> str:
        """Return the group that a question is reported in, one at most."""
        is_still = is_about_still(question, snapshot)
        if self._config.split not in RANDOMISED_SPLITS:
            return STILL_GROUP if is_still else ''
        condition = sample_cameras(self._config.split, index)[0]
        if condition != GOOD_LIGHT:
            return condition
        if has_twin(scene):
            return TWIN_GROUP
        return STILL_GROUP if is_still else MOVING_GROUP


def is_about_still(question: Question, snapshot: SceneSnapshot) -> bool:
    """
    Tell whether the camera and everything that a question is about stand still.

    A question that names no object, or none that is there, is about all objects.
    """
    if question.family not in ONE_FRAME_FAMILIES or snapshot.camera_moves:
        return False
    names = () if question.about == 'description' else (question.subject, question.other)
    named = [snapshot.find(name) for name in names if name is not None]
    about = np.concatenate(named) if named else np.empty(0, np.int64)
    return not snapshot.moves[about if len(about) else slice(None)].any()


def observe_scene(scene: Scene, time_s: float, config: SimulationConfig, seed: int) -> Observation:
    """Take an image whose exposure has its middle at a time (in s, at least 0), and its events."""
    fields = stack_scenes([scene])
    random = np.random.default_rng([23, seed])
    view = SceneRenderer(fields, config.image_height, config.image_width)
    camera = FrameCamera(config.camera, random)
    start_s = time_s - config.camera.exposure_s / 2
    previous, rgb = (
        camera.expose(view, moment_s) for moment_s in (start_s - config.frame_period_s, start_s))
    owner = view.render(torch.tensor([[time_s]])).owner[0, 0].numpy()
    if config.events == 'microsaccade':
        return Observation(rgb, still_image_activity(rgb), previous, owner >= 0)
    events = _watch(fields, scene.max_speed, time_s, config, seed)
    activity = activity_of_events(
        events, (config.sensor_height, config.sensor_width),
        (config.image_height, config.image_width), config.window_s)
    return Observation(rgb, activity, previous, owner >= 0)


def _show_nothing(frames: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return two frames of a colour, uint8 (2, *shape); black ones have noise."""
    level, _ = _FRAMES_OF_NOTHING[frames]
    noise = _BLACK_NOISE if frames == 'black' else 0.0
    pictures = np.random.default_rng([32, seed]).normal(level, noise, (2, *shape))
    return np.clip(np.round(pictures), 0, 255).astype(np.uint8)


def _watch(
    fields: dict[str, torch.Tensor], max_speed: float, time_s: float, config: SimulationConfig,
    seed: int,
) -> Events:
    """Return the events of the window whose middle is a time."""
    step_s = event_camera_step_s(
        max_speed, config.sensor_height, config.sensor_width, config.camera.flicker_hz)
    num_steps = int(np.ceil(config.window_s / step_s))
    offsets_s = np.linspace(-0.5, 0.5, num_steps + 1) * config.window_s
    renderer = SceneRenderer(fields, config.sensor_height, config.sensor_width)
    frames = renderer.render(torch.from_numpy(time_s + offsets_s).float()[None])
    sensor = EventSimulator(
        config.sensor_height, config.sensor_width, config.event_camera, seed)
    parts = [
        sensor.step(share * picture, round((offset_s + config.window_s) * 1e9))
        for picture, share, offset_s in zip(
            luminance(frames.rgb[0]).numpy(), config.camera.light_at(time_s + offsets_s),
            offsets_s)]
    return Events(*(np.concatenate(part) for part in zip(*parts)))
