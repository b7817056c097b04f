#!/usr/bin/env python3
"""
Scenes for a calibration: good ones, and every kind that does not determine it.

As a script it calibrates ``--scenes`` of each kind and prints how many results were given or
refused, and how far off what was given is: ``python test/helpers/calibration_scenes.py``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
import json
from pathlib import Path
import time
from typing import Any, Callable, NamedTuple

import cv2
from epvlm_ros.bag.writer import BagWriter
from epvlm_ros.events.calibration import calibrate, CalibrationFrame
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
import numpy as np

IMAGE_SIZE, SENSOR_SIZE = (120, 160), (90, 120)  # rows, columns
WINDOW_S = 0.02
FRAME_S, _STEPS = 0.032, 12  # steps of the event camera between two frames
_TEXELS = 2  # of the plate in front of the cameras, a pixel
_MARGIN = 90  # pixels of the plate around what is seen at first
_PLATE = IMAGE_SIZE[0] + 2 * _MARGIN, IMAGE_SIZE[1] + 2 * _MARGIN

Random = np.random.Generator


@dataclass
class Scene:
    """What the cameras see of a plate that moves, things before it, and how well they see it."""

    plate: np.ndarray  # brightness 0 to 1, _TEXELS a pixel
    path: np.ndarray  # (times, 3): columns, rows, angle; one for each step
    homography: np.ndarray  # sensor to image
    things: tuple[Thing, ...] = ()
    light: float = 1.0  # 0.02: dark
    num_frames: int = 10
    delay_s: float = 0.0  # frames show what was so long after their stamp
    noise_hz: float = 0.2  # events of a pixel without reason
    threshold: float = 0.15
    read_noise: float = 1.0  # grey levels


@dataclass
class Thing:
    """A disc or a box with a texture of its own, on a straight way across the view."""

    texture: np.ndarray  # brightness, a pixel each
    is_disc: bool
    start: np.ndarray  # column, row
    velocity: np.ndarray  # pixels a second


def num_steps(num_frames: int) -> int:
    """Return how many steps a recording has."""
    return (num_frames + 3) * _STEPS


def random_homography(random: Random, reach: float = 1.0) -> np.ndarray:
    """Return a map from sensor to image, within the limits of the search."""
    scale = IMAGE_SIZE[1] / SENSOR_SIZE[1] * (1 + reach * random.uniform(-0.12, 0.12))
    angle = reach * np.radians(random.uniform(-5, 5))
    shift = reach * random.uniform(-0.1, 0.1, 2) * IMAGE_SIZE[1]
    tilt = reach * random.uniform(-2e-4, 2e-4, 2)
    to_middle, from_middle = np.eye(3), np.eye(3)
    to_middle[:2, 2] = [-(side - 1) / 2 for side in SENSOR_SIZE[::-1]]
    from_middle[:2, 2] = [(side - 1) / 2 for side in IMAGE_SIZE[::-1]]
    turn = np.array([
        [scale * np.cos(angle), -scale * np.sin(angle), shift[0]],
        [scale * np.sin(angle), scale * np.cos(angle), shift[1]], [*tilt, 1.0]])
    return from_middle @ turn @ to_middle


def wander(random: Random, num: int) -> np.ndarray:
    """Return a way in all directions, turning a little."""
    t = np.arange(num) * FRAME_S / _STEPS
    period_s = random.uniform(0.35, 0.8, 3)
    phase = random.uniform(0, 2 * np.pi, 3)
    size = np.array([*random.uniform(6, 14, 2), np.radians(random.uniform(0, 1.5))])
    return size * np.sin(2 * np.pi * t[:, None] / period_s + phase)


def straight(random: Random, num: int) -> np.ndarray:
    """Return a way in one direction at one speed."""
    angle = random.uniform(0, 2 * np.pi)
    t = np.arange(num) * FRAME_S / _STEPS - num * FRAME_S / _STEPS / 2
    return random.uniform(50, 120) * t[:, None] * [np.cos(angle), np.sin(angle), 0.0]


def rich_plate(random: Random) -> np.ndarray:
    """Return blurred noise, or discs and boxes of all sizes."""
    height, width = (side * _TEXELS for side in _PLATE)
    if random.random() < 0.5:
        blur = random.uniform(1.5, 3.5) * _TEXELS
        noise = cv2.GaussianBlur(random.normal(size=(height, width)), (0, 0), blur)
        return np.clip(0.45 + 0.2 * noise / noise.std(), 0.03, 1.0)
    plate = np.full((height, width), random.uniform(0.1, 0.6))
    for _ in range(random.integers(150, 400)):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        size, shade = int(random.integers(4, 30)), float(0.08 * 12 ** random.random())
        if random.random() < 0.5:
            cv2.circle(plate, (x, y), size, shade, cv2.FILLED)
        else:
            corners = cv2.boxPoints(((x, y), (size, 2 * size), random.uniform(0, 180)))
            cv2.fillPoly(plate, [np.rint(corners).astype(np.int32)], shade)
    return plate


def repeating_plate(random: Random, pattern: str) -> np.ndarray:
    """Return a pattern without borders; its period is 14 to 40 pixels."""
    period = random.uniform(14, 40)
    angle = np.radians(random.uniform(-10, 10) if pattern != 'stripes' else random.uniform(0, 180))
    y, x = np.mgrid[:_PLATE[0] * _TEXELS, :_PLATE[1] * _TEXELS] / _TEXELS
    u, v = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
    col, row = u / period, v / period * random.uniform(0.7, 1.3)
    dark, bright = random.uniform(0.05, 0.3), random.uniform(0.5, 1.0)
    along, down = col % 1 - 0.5, row % 1 - 0.5
    if pattern == 'windows':
        inside = (np.abs(along) < random.uniform(0.2, 0.35)) & (
            np.abs(down) < random.uniform(0.2, 0.35))
        inside &= np.abs(along - 0.05) > random.uniform(0.0, 0.04)
    elif pattern == 'dots':
        inside = np.hypot(along, down) < random.uniform(0.15, 0.4)
    elif pattern == 'stripes':
        inside = np.abs(along) < random.uniform(0.15, 0.35)
    else:
        inside = (np.floor(col) + np.floor(row)) % 2 == 0
    plate = np.where(inside, dark, bright)
    if random.random() < 0.5:  # not all alike
        shades = random.uniform(-1, 1, (64, 64)) * random.uniform(0.0, 0.3)
        cell = np.floor(row).astype(int) % 64, np.floor(col).astype(int) % 64
        plate = plate * (1 + shades[cell])
    return plate


def striped_plate(random: Random) -> np.ndarray:
    """Return edges of one direction, at all distances."""
    angle = random.uniform(0, np.pi)
    y, x = np.mgrid[:_PLATE[0] * _TEXELS, :_PLATE[1] * _TEXELS] / _TEXELS
    profile = cv2.GaussianBlur(random.normal(size=(1, 1200)), (0, 0), 4.0)[0]
    where = (np.cos(angle) * x + np.sin(angle) * y + 400) % 600
    profile = 0.45 + 0.2 * profile / profile.std()
    return np.clip(np.interp(where, np.arange(1200) / 2, profile), 0.03, 1.0)


def random_things(random: Random, num_frames: int) -> tuple[Thing, ...]:
    """Return one to four things that move across the view."""
    things = []
    for _ in range(random.integers(1, 5)):
        side = int(random.integers(14, 46))
        contrast = random.choice([0.0, 0.3])
        texture = cv2.GaussianBlur(random.normal(size=(side, side)), (0, 0), 2.0)
        texture = np.clip(
            random.uniform(0.1, 0.9) + contrast * texture / texture.std(), 0.03, 1.0)
        angle, speed = random.uniform(0, 2 * np.pi), random.uniform(50, 150)
        velocity = speed * np.array([np.cos(angle), np.sin(angle)])
        middle = random.uniform(0.25, 0.75, 2) * IMAGE_SIZE[::-1] - side / 2
        things.append(Thing(
            texture, bool(random.random() < 0.5),
            middle - velocity * num_frames * FRAME_S / 2, velocity))
    return tuple(things)


def make_good(random: Random, num_frames: int = 10) -> Scene:
    """Return a scene that determines everything."""
    return Scene(
        rich_plate(random), wander(random, num_steps(num_frames)), random_homography(random),
        num_frames=num_frames, delay_s=random.uniform(-0.015, 0.015),
        noise_hz=random.uniform(0, 1), threshold=random.uniform(0.1, 0.25))


def make_repeating(random: Random, pattern: str) -> Scene:
    """Return a scene that looks the same a period farther on."""
    scene = make_good(random)
    scene.plate = repeating_plate(random, pattern)
    return scene


def make_striped(random: Random) -> Scene:
    """Return a scene of edges in one direction."""
    scene = make_good(random)
    scene.plate = striped_plate(random)
    return scene


def make_one_way(random: Random) -> Scene:
    """Return a camera that moves at one speed in one direction: time or place?."""
    scene = make_good(random)
    scene.path = straight(random, num_steps(scene.num_frames))
    return scene


def make_still(random: Random) -> Scene:
    """Return cameras that stand still while things move."""
    scene = make_good(random)
    scene.path = np.zeros_like(scene.path)
    scene.things = random_things(random, scene.num_frames)
    scene.homography = random_homography(random, random.choice([0.3, 1.0]))
    return scene


def make_mirrored(random: Random) -> Scene:
    """Return a sensor that is mirrored, upside down or on its side."""
    scene = make_good(random)
    height, width = SENSOR_SIZE
    flips = (
        np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]]),
        np.array([[1.0, 0, 0], [0, -1, height - 1], [0, 0, 1]]),
        np.array([[-1.0, 0, width - 1], [0, -1, height - 1], [0, 0, 1]]),
        np.array([[0.0, -1, (width + height) / 2 - 1], [1, 0, (height - width) / 2], [0, 0, 1]]))
    scene.homography = scene.homography @ flips[random.integers(len(flips))]
    return scene


def make_dark(random: Random) -> Scene:
    """Return a scene of which the cameras see little but their noise."""
    scene = make_good(random)
    scene.light = random.uniform(0.01, 0.06)
    scene.noise_hz, scene.read_noise = random.uniform(1, 8), random.uniform(1.5, 4)
    return scene


def make_few_frames(random: Random) -> Scene:
    """Return a recording of 3 to 8 frames."""
    return make_good(random, int(random.integers(3, 9)))


KINDS: dict[str, Callable[[Random], Scene]] = {
    'good': make_good,
    'windows': lambda random: make_repeating(random, 'windows'),
    'dots': lambda random: make_repeating(random, 'dots'),
    'stripes': lambda random: make_repeating(random, 'stripes'),
    'chessboard': lambda random: make_repeating(random, 'chessboard'),
    'striped': make_striped, 'one_way': make_one_way, 'still': make_still,
    'mirrored': make_mirrored, 'dark': make_dark, 'few_frames': make_few_frames}


def _look(scene: Scene, points: np.ndarray, step: int) -> np.ndarray:
    """Return the brightness at points (2, rows, columns) of the image."""
    col, row, angle = scene.path[step]
    x, y = points[0] - (IMAGE_SIZE[1] - 1) / 2, points[1] - (IMAGE_SIZE[0] - 1) / 2
    u = np.cos(angle) * x - np.sin(angle) * y + col + (_PLATE[1] - 1) / 2
    v = np.sin(angle) * x + np.cos(angle) * y + row + (_PLATE[0] - 1) / 2
    picture = cv2.remap(
        scene.plate, ((u + 0.5) * _TEXELS - 0.5).astype(np.float32),
        ((v + 0.5) * _TEXELS - 0.5).astype(np.float32), cv2.INTER_LINEAR)
    t_s = step * FRAME_S / _STEPS
    for thing in scene.things:
        side = thing.texture.shape[0]
        near_x, near_y = (
            (points[axis] - thing.start[axis] - thing.velocity[axis] * t_s).astype(np.float32)
            for axis in (0, 1))
        texture = cv2.remap(
            thing.texture, near_x, near_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        from_middle = [np.abs(near - (side - 1) / 2) for near in (near_x, near_y)]
        reach = np.hypot(*from_middle) if thing.is_disc else np.maximum(*from_middle)
        cover = np.clip((side / 2 - reach) / 1.5 + 0.5, 0, 1)
        picture = picture * (1 - cover) + texture * cover
    return picture


class Recording(NamedTuple):
    """Pictures (one each ``FRAME_S``), and x, y and times in seconds of the events in order."""

    pictures: list[np.ndarray]
    x: np.ndarray
    y: np.ndarray
    t_s: np.ndarray


def record(scene: Scene, random: Random) -> Recording:
    """Return what both cameras see of a scene; pictures are taken when they say."""
    scene.plate = cv2.GaussianBlur(scene.plate.astype(np.float32), (0, 0), 0.7 * _TEXELS)
    in_image = np.mgrid[:IMAGE_SIZE[0], :IMAGE_SIZE[1]][::-1].astype(np.float32)
    y, x = np.mgrid[:SENSOR_SIZE[0], :SENSOR_SIZE[1]].astype(np.float64)
    u, v, w = np.tensordot(scene.homography, np.stack([x, y, np.ones_like(x)]), 1)
    on_sensor = np.stack([u / w, v / w]).astype(np.float32)
    step_s = FRAME_S / _STEPS
    pictures, parts, memory = [], [], None
    for step in range(num_steps(scene.num_frames)):
        if step % _STEPS == 0:
            grey = _look(scene, in_image, step) * scene.light * 250
            grey = grey + random.normal(0, scene.read_noise, grey.shape)
            pictures.append(np.clip(np.rint(grey), 0, 255).astype(np.uint8))
        brightness = np.log(_look(scene, on_sensor, step) * scene.light + 0.02)
        memory = brightness + random.uniform(-1, 1, brightness.shape) * scene.threshold / 2 \
            if memory is None else memory
        num = np.trunc((brightness - memory) / scene.threshold)
        memory += num * scene.threshold
        noise = random.random(num.shape) < scene.noise_hz * step_s
        count = np.abs(num).astype(int) + noise
        rows, cols = np.nonzero(count)
        count = count[rows, cols]
        t_s = (step - 1 + random.random(count.sum())) * step_s
        parts.append((np.repeat(cols, count), np.repeat(rows, count), t_s))
    x, y, t_s = (np.concatenate(part) for part in zip(*parts))
    order = np.argsort(t_s)
    x, y, t_s = x[order], y[order], t_s[order]
    return Recording(pictures, x, y, t_s)


def make_frames(scene: Scene, random: Random) -> list[CalibrationFrame]:
    """Return the frames of a scene and all events of the recording around each."""
    pictures, x, y, t_s = record(scene, random)
    return [
        CalibrationFrame(
            *pictures[index - 1:index + 2], FRAME_S, FRAME_S, x, y,
            t_s - (index * FRAME_S - scene.delay_s))
        for index in range(1, scene.num_frames + 1)]


def write_bag(path: Path, scene: Scene, random: Random) -> Path:
    """Write a recording of a scene, with packets of 4 ms and pictures 20 ms after their stamps."""
    pictures, x, y, t_s = record(scene, random)
    start_ns, packet_ns = 10 ** 9, 4 * 10 ** 6
    t_ns = np.rint(t_s * 1e9).astype(np.int64) + start_ns
    entries: list[tuple[int, int, Any]] = []
    for index, picture in enumerate(pictures):
        stamp_ns = start_ns + round((index * FRAME_S - scene.delay_s) * 1e9)
        entries.append((stamp_ns + 20_000_000, stamp_ns, picture))
    for from_ns in range(int(t_ns[0]), int(t_ns[-1]) + 1, packet_ns):
        inside = slice(*np.searchsorted(t_ns, [from_ns, from_ns + packet_ns]))
        events = Events(x[inside].astype(np.uint16), y[inside].astype(np.uint16),
                        np.ones(x[inside].size, np.uint8), t_ns[inside])
        entries.append((from_ns + packet_ns, from_ns, encode_evt3(events, start_ns=from_ns)))
    with BagWriter(path) as bag:
        for seq, (record_ns, stamp_ns, content) in enumerate(sorted(entries, key=lambda e: e[0])):
            if content.ndim == 2:
                bag.write_image('/camera/image_raw', stamp_ns, content, record_ns)
            else:
                bag.write_event_packet('/event_camera/events', EventPacket(
                    stamp_ns, SENSOR_SIZE[1], SENSOR_SIZE[0], seq, 0, 'evt3', content), record_ns)
    return path


def mean_error_px(homography: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean distance of where both put the sensor pixels that see the image."""
    y, x = np.mgrid[:SENSOR_SIZE[0]:3, :SENSOR_SIZE[1]:3]
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    found, expected = (matrix @ points for matrix in (homography, truth))
    found, expected = found[:2] / found[2], expected[:2] / expected[2]
    seen = (expected[0] > 0) & (expected[0] < IMAGE_SIZE[1] - 1) & \
        (expected[1] > 0) & (expected[1] < IMAGE_SIZE[0] - 1)
    return float(np.hypot(*(found - expected))[seen].mean())


def try_scene(kind: str, seed: int) -> tuple[float | None, str]:
    """Calibrate a scene and return the mean error of the result in pixels, or the refusal."""
    random = np.random.default_rng([sorted(KINDS).index(kind), seed])
    scene = KINDS[kind](random)
    frames = make_frames(scene, random)
    try:
        result = calibrate(frames, SENSOR_SIZE, WINDOW_S)
    except ValueError as error:
        return None, str(error)
    return mean_error_px(result.homography, scene.homography), str(result)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kinds', nargs='*', default=list(KINDS))
    parser.add_argument('--scenes', type=int, default=200, help='of each kind')
    parser.add_argument('--first', type=int, default=0)
    parser.add_argument('--verbose', action='store_true')
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for kind in options.kinds:
        begin_s = time.perf_counter()
        errors, refusals = [], Counter()
        for seed in range(options.first, options.first + options.scenes):
            error_px, text = try_scene(kind, seed)
            if options.verbose:
                print(seed, error_px, text.replace('\n', ' ')[:400], flush=True)
            if error_px is None:
                refusals[''.join(c for c in text if not c.isdigit())[:40]] += 1
            else:
                errors.append(error_px)
        print(json.dumps({
            'kind': kind, 'given': len(errors), 'refused': sum(refusals.values()),
            'off': sum(error > 0.5 for error in errors),
            'worst_px': round(max(errors, default=0.0), 2),
            'median_px': round(float(np.median(errors)), 2) if errors else None,
            'refusals': dict(refusals), 'seconds': round(time.perf_counter() - begin_s)}),
            flush=True)


if __name__ == '__main__':
    main()
