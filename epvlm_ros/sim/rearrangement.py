"""
Streams of a scene in which things are moved, taken away and put back, one change after the other.

The camera stands still, and so does everything else between two changes. A stream is watched by a
camera and by an event camera; equal arguments give equal streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from epvlm_ros.events.packet import Events
from epvlm_ros.sim.event_camera import EventCameraConfig
from epvlm_ros.sim.event_simulator import EventSimulator
from epvlm_ros.sim.questions import SceneSnapshot, snapshot_scene
from epvlm_ros.sim.renderer import luminance, SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import Scene
import numpy as np
import torch

_GAP = 0.02  # between objects, in units
_PLACES = 64  # that are tried for an object
_REST_STEP_S = 0.02  # between two pictures of a still scene: only noise comes


@dataclass(frozen=True)
class StreamConfig:
    """
    What is seen, how it changes, and by which cameras.

    Attributes
    ----------
    num_updates : int
        Frames after the first one, each after a change.
    num_changes : int
        Objects that are moved, taken away or put back before each frame.
    period_s, motion_s : float
        Time between two frames, and the part of it in which things move.
    image_height, image_width, sensor_height, sensor_width : int
        Sizes of the cameras, in pixels.
    image_noise : float
        Standard deviation of the noise of a frame, as a share of white.
    light : float
        Of the scene, as a share of full light, as the frames see it.
    sensor_light : float
        The same as the event camera sees it.
    gains : tuple of float
        Exposures of the frames, one after the other and again.
    events : EventCameraConfig
        The event camera.

    """

    num_updates: int = 20
    num_changes: int = 1
    period_s: float = 0.4
    motion_s: float = 0.2
    image_height: int = 480
    image_width: int = 640
    sensor_height: int = 240
    sensor_width: int = 320
    image_noise: float = 0.008
    light: float = 1.0
    sensor_light: float = 1.0
    gains: tuple[float, ...] = (1.0,)
    events: EventCameraConfig = EventCameraConfig()


@dataclass(frozen=True)
class StreamFrame:
    """
    A frame, the events since the one before, and what there is to be seen.

    Attributes
    ----------
    rgb : numpy.ndarray
        uint8, shape (height, width, 3).
    events : Events
        Of the sensor, times in ns of the stream.
    time_ns : int
        When the exposure begins; the events reach up to it.
    view : SceneSnapshot
        The truth.

    """

    rgb: np.ndarray
    events: Events
    time_ns: int
    view: SceneSnapshot


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
    aspect_ratio = config.image_width / config.image_height
    scene = sample_scene(split, index, aspect_ratio=aspect_ratio, camera_moves=False)
    stream = _Stream(_still(scene), config, index)
    yield stream.take_frame(0)
    for number in range(1, config.num_updates + 1):
        stream.change()
        yield stream.take_frame(number)


def _still(scene: Scene) -> Scene:
    zero = np.zeros_like
    return replace(
        scene, orbit_radius=zero(scene.orbit_radius), spin=zero(scene.spin),
        appears_s=zero(scene.appears_s), light=zero(scene.light))


class _Stream:
    """A scene that is being rearranged."""

    def __init__(self, scene: Scene, config: StreamConfig, index: int) -> None:
        self._scene = scene
        self._config = config
        self._random = np.random.default_rng([31, index])
        self._items = np.flatnonzero(scene.radius > 0.0)
        self._full_radius = scene.radius.copy()
        fields = {name: value.clone() for name, value in stack_scenes([scene]).items()}
        self._fields = fields  # the renderers draw what stands here when they are called
        self._camera = SceneRenderer(fields, config.image_height, config.image_width)
        self._eye = SceneRenderer(fields, config.sensor_height, config.sensor_width)
        self._sensor = EventSimulator(
            config.sensor_height, config.sensor_width, config.events, seed=index)
        self._time_s = 0.0
        self._parts: list[Events] = [self._watch()]

    def change(self) -> None:
        """Let things change for a while, then rest until the next frame."""
        config = self._config
        start = self._scene
        self._rearrange()
        way_px = float(np.abs(self._scene.anchor - start.anchor).max()) * min(
            config.sensor_height, config.sensor_width)
        num_steps = max(2, int(np.ceil(way_px)))
        end_s = self._time_s + config.period_s
        begin_s = self._time_s
        for step in range(1, num_steps + 1):
            share = step / num_steps
            self._show(
                start.anchor + share * (self._scene.anchor - start.anchor),
                self._scene.radius if share >= 0.5 else start.radius)
            self._time_s = begin_s + share * config.motion_s
            self._parts.append(self._watch())
        while self._time_s < end_s - 1e-9:
            self._time_s = min(end_s, self._time_s + _REST_STEP_S)
            self._parts.append(self._watch())

    def take_frame(self, number: int) -> StreamFrame:
        """Return what both cameras have seen by now."""
        config = self._config
        image = self._camera.render(torch.zeros(1, 1)).rgb[0, 0].permute(1, 2, 0).numpy()
        gain = config.gains[number % len(config.gains)] * config.light
        noise = self._random.normal(0.0, config.image_noise, image.shape)
        rgb = np.round(np.clip(image * gain + noise, 0.0, 1.0) * 255.0).astype(np.uint8)
        events = Events(*(np.concatenate(part) for part in zip(*self._parts)))
        self._parts = []
        return StreamFrame(
            rgb, events, self._now_ns(), snapshot_scene(self._scene, 0.0))

    def _now_ns(self) -> int:
        return round(self._time_s * 1e9)

    def _watch(self) -> Events:
        picture = luminance(self._eye.render(torch.zeros(1, 1)).rgb[0]).numpy()[0]
        return self._sensor.step(picture * self._config.sensor_light, self._now_ns())

    def _show(self, anchor: np.ndarray, radius: np.ndarray) -> None:
        self._fields['anchor'][0] = torch.from_numpy(anchor.astype(np.float32))
        self._fields['radius'][0] = torch.from_numpy(radius.astype(np.float32))

    def _rearrange(self) -> None:
        """Move, take away or put back some of the objects."""
        chosen = self._random.permutation(self._items)[:self._config.num_changes]
        anchor, radius = self._scene.anchor.copy(), self._scene.radius.copy()
        for item in chosen:
            is_there = radius[item] > 0.0
            others_there = np.count_nonzero(radius) > 1
            if is_there and others_there and self._random.random() < 0.3:
                radius[item] = 0.0
                continue
            place = self._find_place(item, anchor, radius)
            if place is None:
                continue
            anchor[item] = place
            radius[item] = self._full_radius[item]
        self._scene = replace(self._scene, anchor=anchor, radius=radius)

    def _find_place(
        self, item: int, anchor: np.ndarray, radius: np.ndarray,
    ) -> np.ndarray | None:
        margin = self._full_radius[item] + 0.01
        candidates = self._random.uniform(
            margin, self._scene.extent - margin, size=(_PLACES, 2)).astype(np.float32)
        others = [other for other in range(len(radius)) if other != item and radius[other] > 0.0]
        distance = np.linalg.norm(candidates[:, None] - anchor[others], axis=-1)
        free = (distance > radius[others] + self._full_radius[item] + _GAP).all(axis=1)
        return candidates[free][0] if free.any() else None
