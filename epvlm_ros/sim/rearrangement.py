"""
Streams of a scene in which things change, one after the other, before two cameras.

Objects are moved, taken away and put back, covered by a dull box and uncovered. Between two
changes all is still, but for the light if it flickers and for the camera if it moves.
Equal arguments give equal streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
import math

from epvlm_ros.events.packet import Events
from epvlm_ros.sim.arrangement import Arrangement, rearrange, same_arrangement
from epvlm_ros.sim.cameras import CameraConfig, event_camera_step_s, FrameCamera
from epvlm_ros.sim.event_camera import EventCameraConfig
from epvlm_ros.sim.event_simulator import EventSimulator
from epvlm_ros.sim.questions import SceneSnapshot
from epvlm_ros.sim.renderer import luminance, SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import MAX_CAMERA_ORBIT, MAX_OBJECTS, Scene
import numpy as np
import torch

VISIBLE_LEVELS = 8  # of 255: smaller differences do not count as a change
_CELLS_PER_SIDE = 12  # squares in which changes are counted, on the shorter side of the image
_MIN_OBJECTS = 3  # of a scene, if there is room: enough to change
_MAX_CHANGES = 8  # before one frame
_STEP_PX = 2.0  # of the sensor, between two pictures of what moves
_REST_STEP_S = 0.02  # between two pictures of a still scene: only noise comes
_TURN = (1.2, 2.6)  # radians on its circle that the camera moves before one frame
_BURST_FRAMES = 2


@dataclass(frozen=True)
class StreamConfig:
    """
    What is seen, how it changes, and by which cameras.

    Attributes
    ----------
    num_updates : int
        Frames after the first one.
    changed_share : float
        Share of the image in which a frame differs from the one before, on average over a
        stream: as many changes come before a frame as that takes, or none.
    period_s, motion_s : float
        Time between two frames, and the part of it in which things move.
    image_height, image_width, sensor_height, sensor_width : int
        Sizes of the cameras, in pixels.
    camera : CameraConfig
        The light and the frame camera; the exposure blurs nothing.
    frames_between_bursts : int
        Frames before a still camera, after which it moves for two frames; 0 never.
    camera_moves : bool
        The camera turns on its circle before every frame after the first, while things change.
    events : EventCameraConfig
        The event camera.

    """

    num_updates: int = 20
    changed_share: float = 0.1
    period_s: float = 0.4
    motion_s: float = 0.2
    image_height: int = 480
    image_width: int = 640
    sensor_height: int = 240
    sensor_width: int = 320
    camera: CameraConfig = CameraConfig(exposure_s=0.004)
    frames_between_bursts: int = 0
    camera_moves: bool = False
    events: EventCameraConfig = EventCameraConfig()

    def is_burst(self, number: int) -> bool:
        """Whether the camera alone moves before the frame of this number, from 0."""
        still = self.frames_between_bursts
        return bool(still and number) and (number - 1) % (still + _BURST_FRAMES) >= still


@dataclass(frozen=True)
class StreamFrame:
    """
    A frame, the events since the one before, and what there is to be seen.

    Attributes
    ----------
    rgb : numpy.ndarray
        uint8, shape (height, width, 3).
    picture : numpy.ndarray
        The same without noise, flicker and changes of exposure.
    events : Events
        Of the sensor, times in ns of the stream.
    time_ns : int
        When the exposure begins; the events reach up to it.
    view : SceneSnapshot
        The truth.
    items : numpy.ndarray
        int64, which object of the scene each one in ``view`` is.
    camera_moves : bool
        Whether the camera moved before this frame.

    """

    rgb: np.ndarray
    picture: np.ndarray
    events: Events
    time_ns: int
    view: SceneSnapshot
    items: np.ndarray
    camera_moves: bool


def simulate_stream(split: str, index: int, config: StreamConfig) -> Iterator[StreamFrame]:
    """
    Yield the frames of a stream.

    Parameters
    ----------
    split, index : str, int
        Of the scene, see ``sample_scene``.
    config : StreamConfig
        The rest.

    """
    scene = sample_still_scene(
        split, index, config.image_width / config.image_height,
        beside_middle=config.camera_moves or bool(config.frames_between_bursts))
    stream = _Stream(scene, config, index)
    yield stream.take_frame(0)
    for number in range(1, config.num_updates + 1):
        if config.is_burst(number):
            stream.move_camera()
        else:
            stream.change()
        yield stream.take_frame(number)


def sample_still_scene(
    split: str, index: int, aspect_ratio: float, *, beside_middle: bool = False,
) -> Scene:
    """Return a scene in which nothing moves by itself; the camera may stand beside its middle."""
    scene = sample_scene(
        split, index, aspect_ratio=aspect_ratio, camera_moves=beside_middle,
        num_objects=_MIN_OBJECTS + index % (MAX_OBJECTS - _MIN_OBJECTS + 1))
    zero = np.zeros_like
    orbit = MAX_CAMERA_ORBIT if beside_middle else 0.0
    return replace(
        scene, orbit_radius=zero(scene.orbit_radius), spin=zero(scene.spin),
        appears_s=zero(scene.appears_s), light=zero(scene.light), zoom=zero(scene.zoom),
        camera=np.array([orbit, 0.0, 0.0], np.float32))


def draw_turn(random: np.random.Generator) -> float:
    """Return how far a camera that moves turns on its circle before one frame, in radians."""
    return float(random.uniform(*_TURN) * random.choice((-1.0, 1.0)))


class _Stream:
    """A scene that is being rearranged."""

    def __init__(self, scene: Scene, config: StreamConfig, index: int) -> None:
        self._config = config
        self._random = np.random.default_rng([31, index])
        self._scene = scene
        self._now = Arrangement.of(scene, self._random)
        self._camera_phase = 0.0
        fields = {name: value.clone() for name, value in stack_scenes([scene]).items()}
        self._fields = fields  # the renderers draw what stands here when they are called
        self._view = SceneRenderer(fields, config.image_height, config.image_width)
        self._camera = FrameCamera(config.camera, self._random)
        self._eye = SceneRenderer(fields, config.sensor_height, config.sensor_width)
        self._sensor = EventSimulator(
            config.sensor_height, config.sensor_width, config.events, seed=index)
        self._time_s = 0.0
        self._owed = 0.0  # share of the image that has yet to change
        self._picture = self._draw(self._view)
        self._seen = luminance(torch.from_numpy(self._draw(self._eye)).permute(2, 0, 1)).numpy()
        self._parts: list[Events] = [
            self._sensor.step(config.camera.light_at(np.zeros(1))[0] * self._seen, 0)]

    def change(self) -> None:
        """Let things change for a while, then rest until the next frame; the camera may turn."""
        config, begin_s = self._config, self._time_s
        end = self._choose_changes()
        turn = draw_turn(self._random) if config.camera_moves else 0.0
        share = config.motion_s / config.period_s
        if turn or not same_arrangement(self._now, end):
            self._move(end, share * turn, config.motion_s)
        if turn and share < 1.0:
            self._move(end, (1.0 - share) * turn, config.period_s - config.motion_s)
        self._rest(begin_s + config.period_s)

    def move_camera(self) -> None:
        """Turn the camera on its circle until the next frame."""
        self._move(self._now, draw_turn(self._random), self._config.period_s)

    def take_frame(self, number: int) -> StreamFrame:
        """Return what both cameras have seen by now."""
        config = self._config
        self._picture = picture = self._draw(self._view)
        events = Events(*(np.concatenate(part) for part in zip(*self._parts)))
        self._parts = []
        return StreamFrame(
            self._camera.take(picture[None], self._time_s), _to_bytes(picture), events,
            round(self._time_s * 1e9), self._now.view(self._scene, self._camera_phase),
            self._now.seen_items,
            config.is_burst(number) or (config.camera_moves and number > 0))

    def _choose_changes(self) -> Arrangement:
        """Return how things will lie; what changes is counted before the camera as it stands."""
        start = self._now
        self._owed += self._config.changed_share
        changed = self._share_changed()
        for _ in range(_MAX_CHANGES):
            if self._owed <= changed:
                break
            self._show(rearrange(self._now, self._random))
            changed = self._share_changed()
        self._owed -= changed
        end = self._now
        self._show(start)
        return end

    def _move(self, end: Arrangement, turn: float, duration_s: float) -> None:
        """Let things and the camera move evenly for a time, seen by the event camera."""
        start, begin_phase, begin_s = self._now, self._camera_phase, self._time_s
        for share in self._shares(start.way_to(end) + abs(turn) * MAX_CAMERA_ORBIT):
            self._camera_phase = begin_phase + share * turn
            self._show(start.towards(end, share))
            self._watch(begin_s + share * duration_s)

    def _shares(self, way: float) -> np.ndarray:
        """Return how far motion has come at each picture, for a way in units."""
        config = self._config
        way_px = way * min(config.sensor_height, config.sensor_width)
        num_steps = max(2, math.ceil(way_px / _STEP_PX))
        return np.arange(1, num_steps + 1) / num_steps

    def _rest(self, end_s: float) -> None:
        while self._time_s < end_s - 1e-9:
            self._watch(min(end_s, self._time_s + _REST_STEP_S), has_changed=False)

    def _watch(self, time_s: float, has_changed: bool = True) -> None:
        """Let the event camera see what there is up to a time."""
        if has_changed:
            drawn = torch.from_numpy(self._draw(self._eye)).permute(2, 0, 1)
            before, self._seen = self._seen, luminance(drawn).numpy()
        else:
            before = self._seen
        camera = self._config.camera
        times_s = np.array([time_s])
        if camera.flicker_depth:
            height, width = before.shape
            step_s = event_camera_step_s(0.0, height, width, camera.flicker_hz)
            num_steps = max(1, math.ceil((time_s - self._time_s) / step_s))
            times_s = np.linspace(self._time_s, time_s, num_steps + 1)[1:]
        for number, (now_s, light) in enumerate(zip(times_s, camera.light_at(times_s)), 1):
            share = number / len(times_s)
            seen = self._seen if before is self._seen else (
                before + share * (self._seen - before))
            self._parts.append(self._sensor.step(light * seen, round(now_s * 1e9)))
        self._time_s = time_s

    def _show(self, arrangement: Arrangement) -> None:
        self._now = arrangement
        self._fields['anchor'][0] = torch.from_numpy(arrangement.anchor)
        self._fields['radius'][0] = torch.from_numpy(arrangement.radius)
        self._fields['camera'][0, 2] = self._camera_phase

    def _draw(self, renderer: SceneRenderer) -> np.ndarray:
        """Return what one camera sees, float32 (height, width, 3)."""
        image = renderer.render(torch.zeros(1, 1)).rgb[0, 0].permute(1, 2, 0).numpy().copy()
        phase, orbit = self._camera_phase, float(self._scene.camera[0])
        self._now.paint_covers(image, orbit * np.array([math.sin(phase), math.cos(phase)]))
        return image

    def _share_changed(self) -> float:
        """Return in which share of the image things look other than in the last frame."""
        difference = np.abs(self._draw(self._view) - self._picture)
        height, width = difference.shape[:2]
        side = min(height, width) // _CELLS_PER_SIDE
        rows, cols = height // side, width // side
        by_row = difference[:rows * side].reshape(rows, side, width, 3).max(axis=1)
        cells = by_row[:, :cols * side].reshape(rows, cols, side * 3).max(axis=2)
        return float((cells * 255.0 > VISIBLE_LEVELS).mean())


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
