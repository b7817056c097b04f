"""A recording in which a square moves for some spans of time, before a camera at rest or not."""

from __future__ import annotations

from pathlib import Path

import cv2
from epvlm_ros.bag.writer import BagWriter
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
import numpy as np

HEIGHT, WIDTH = 120, 160
START_NS = 1_750_000_000_000_000_000
STEP_NS, FRAME_STEPS = 4_000_000, 8  # a packet a step, a frame every 32 ms
EVENTS, IMAGES = '/event_camera/events', '/camera/image_raw'
REGION = 60, 40, 80, 50  # x, y, width, height: the square stays inside
_SQUARE_PX, _SPEED_PX_S = 16, 80.0
_NOISE_HZ = 0.5  # of a pixel
_THRESHOLD = 0.15  # of an event, in the logarithm of brightness


def make_moving_square_bag(
    path: Path, duration_s: float, spans: list[tuple[float, float]], *,
    camera_moves: bool = False,
) -> Path:
    """
    Write the recording and return its path.

    The square moves to and fro in ``REGION`` during each of the spans (begin, end), in seconds
    after the start. Between them it rests or, where the camera moves, is not there.
    """
    random = np.random.default_rng(5)
    ground = _paint_ground(random)
    memory = None
    with BagWriter(path) as bag:
        for step in range(round(duration_s * 1e9 / STEP_NS)):
            time_s = step * STEP_NS * 1e-9
            picture = _look(ground, time_s, spans, camera_moves)
            brightness = np.log(picture + 20)
            memory = brightness if memory is None else memory
            number = np.trunc((brightness - memory) / _THRESHOLD)
            memory = memory + number * _THRESHOLD
            stamp_ns = START_NS + step * STEP_NS
            payload = encode_evt3(_make_events(number, random, (step + 1) * STEP_NS),
                                  start_ns=step * STEP_NS)
            bag.write_event_packet(EVENTS, EventPacket(
                stamp_ns, WIDTH, HEIGHT, step, 0, 'evt3', payload), stamp_ns + STEP_NS)
            if step % FRAME_STEPS == 0:
                grey = np.rint(picture).astype(np.uint8)
                bag.write_image(IMAGES, stamp_ns, np.repeat(grey[..., None], 3, 2))
    return path


def _paint_ground(random: np.random.Generator) -> np.ndarray:
    ground = cv2.GaussianBlur(random.uniform(0, 255, (400, 500)).astype(np.float32), (0, 0), 4)
    return np.clip((ground - ground.mean()) / ground.std() * 25 + 120, 40, 200)


def _look(
    ground: np.ndarray, time_s: float, spans: list[tuple[float, float]], camera_moves: bool,
) -> np.ndarray:
    moves = camera_moves * 1.0
    place = (250 + moves * (90 * np.sin(0.5 * time_s) + 10 * np.sin(3 * time_s)),
             200 + moves * 70 * np.cos(0.37 * time_s))
    picture = cv2.getRectSubPix(ground, (WIDTH, HEIGHT), place)
    is_moving = any(begin <= time_s < end for begin, end in spans)
    if is_moving or not camera_moves:
        moved_s = sum(np.clip(time_s, begin, end) - begin for begin, end in spans)
        x, y, width, height = REGION
        room = width - _SQUARE_PX
        left = x + room - round(abs((moved_s * _SPEED_PX_S) % (2 * room) - room))
        top = y + (height - _SQUARE_PX) // 2
        picture[top:top + _SQUARE_PX, left:left + _SQUARE_PX] = 250
        picture[top + 5:top + 11, left + 5:left + 11] = 10
    return picture


def _make_events(number: np.ndarray, random: np.random.Generator, end_ns: int) -> Events:
    """Return events of a step, with noise, at even times before its end."""
    is_noise = random.random(number.shape) < _NOISE_HZ * STEP_NS * 1e-9
    number = number + is_noise * random.choice([-1, 1], number.shape)
    y, x = np.nonzero(number)
    times = np.abs(number[y, x]).astype(int)
    x, y, is_on = (np.repeat(values, times) for values in (x, y, number[y, x] > 0))
    order = random.permutation(len(x))
    t_ns = end_ns - STEP_NS + np.arange(len(x)) * STEP_NS // max(1, len(x))
    return Events(x[order].astype(np.uint16), y[order].astype(np.uint16),
                  is_on[order].astype(np.uint8), t_ns.astype(np.int64))
