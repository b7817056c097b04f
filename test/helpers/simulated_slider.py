"""A simulated stand-in for the recording slider_depth, for checkouts that do not have it."""

from __future__ import annotations

from pathlib import Path

import cv2
from epvlm_ros.events.packet import Events
from epvlm_ros.sim.event_simulator import EventCameraConfig, EventSimulator
import numpy as np
from slider_depth_bag import HEIGHT, WIDTH

NUM_FRAMES, FRAME_NS = 87, 38_765_500
DELAY_NS = 5_000_000  # a frame shows what was this long after its stamp
_STEPS_PER_FRAME = 8
_SPEED_PX = 4.0  # from frame to frame


def make_simulated_slider(folder: Path) -> Path:
    """
    Write a folder with the files, sizes and times of slider_depth, and return it.

    A camera slides past a wall, so that nothing of the first frame is in the last one.
    """
    (folder / 'images').mkdir(parents=True)
    wall = _paint_wall(WIDTH + round((NUM_FRAMES + 2) * _SPEED_PX) + 2)
    sensor = EventSimulator(HEIGHT, WIDTH, EventCameraConfig(cutoff_hz=2000.0))
    parts, lines = [], []
    for step in range(-_STEPS_PER_FRAME, (NUM_FRAMES + 1) * _STEPS_PER_FRAME):
        # at the time at which this is seen, `step` steps after the first frame's stamp
        time_ns = step * FRAME_NS // _STEPS_PER_FRAME + DELAY_NS
        picture = _look(wall, (step / _STEPS_PER_FRAME + 1) * _SPEED_PX)
        parts.append(sensor.step(picture, time_ns + FRAME_NS))
        number, is_between = divmod(step, _STEPS_PER_FRAME)
        if 0 <= number < NUM_FRAMES and not is_between:
            name = f'images/frame_{number:08d}.png'
            cv2.imwrite(str(folder / name), np.rint(picture * 255).astype(np.uint8))
            lines.append(f'{number * FRAME_NS * 1e-9:.9f} {name}')
    events = Events(*(np.concatenate(part) for part in zip(*parts)))
    t_ns = events.t_ns - FRAME_NS
    is_in = t_ns >= 0
    np.savez(folder / 'events.npz', x=events.x[is_in], y=events.y[is_in],
             p=events.polarity[is_in], t=t_ns[is_in])
    (folder / 'images.txt').write_text('\n'.join(lines) + '\n')
    return folder


def _paint_wall(width: int) -> np.ndarray:
    """Return discs and boxes of all sizes and brightnesses with sharp edges; float, 0 to 1."""
    random = np.random.default_rng(4)
    wall = np.full((HEIGHT, width), 0.2, np.float32)
    for _ in range(width // 3):
        x, y = int(random.integers(0, width)), int(random.integers(0, HEIGHT))
        size, shade = int(random.integers(3, 16)), float(0.1 * 5 ** random.random())
        if random.random() < 0.5:
            cv2.circle(wall, (x, y), size, shade, cv2.FILLED)
        else:
            corners = cv2.boxPoints(((x, y), (size, 2 * size), random.uniform(0, 180)))
            cv2.fillPoly(wall, [np.rint(corners).astype(np.int32)], shade)
    return cv2.GaussianBlur(wall, (0, 0), 0.7)


def _look(wall: np.ndarray, place_px: float) -> np.ndarray:
    """Return what a camera at a place sees, between pixels too."""
    middle = place_px + (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    return cv2.getRectSubPix(wall, (WIDTH, HEIGHT), middle)
