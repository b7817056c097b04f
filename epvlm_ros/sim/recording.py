"""
Writes recordings of simulated scenes, with realistic stamps and delays.

An image is stamped at the start of its exposure and arrives after exposure and readout. An event
packet is stamped with the host's time at which its first data arrived, after a varying delay;
events carry the time of the sensor's clock, which has its own epoch and drifts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
import heapq
import itertools
import json
from pathlib import Path
from typing import Any

from epvlm_ros.bag.writer import BagWriter
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.sim.cameras import CameraConfig, event_camera_step_s, FrameCamera
from epvlm_ros.sim.event_simulator import EventCameraConfig, EventSimulator
from epvlm_ros.sim.question_maker import draw_questions
from epvlm_ros.sim.questions import answer_question, FAMILIES, Question, snapshot_scene
from epvlm_ros.sim.renderer import luminance, SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import COLOURS, Scene, SHAPES, SYMBOLS
import numpy as np
import torch

TRUTH_FILE = 'truth.json'
_STEPS_AT_ONCE = 16
_MAX_SIZE_DISAGREEMENT = 0.02


@dataclass(frozen=True)
class RecordingConfig:
    """
    Content, clocks and cameras of a recording; times in the unit of the name.

    ``camera_moves`` and ``num_objects`` are random where they are None. Delays have a fixed part
    and a random one: uniform up to ``readout_jitter_s`` for images, exponential with the mean
    ``host_jitter_s`` for packets.
    """

    seed: int = 0
    duration_s: float = 3.0
    image_height: int = 480
    image_width: int = 640
    sensor_height: int = 240
    sensor_width: int = 320
    frame_rate_hz: float = 30.0
    camera: CameraConfig = CameraConfig()
    readout_s: float = 0.012
    readout_jitter_s: float = 0.001
    packet_length_s: float = 0.004
    host_delay_s: float = 0.0004
    host_jitter_s: float = 0.0006
    start_stamp_ns: int = 1_750_000_000_000_000_000
    sensor_epoch_ns: int = 5_250_000_000
    sensor_drift_ppm: float = 30.0
    camera_moves: bool | None = None
    num_objects: int | None = None
    questions_per_family: int = 2
    storage: str = 'sqlite3'
    event_topic: str = '/event_camera/events'
    image_topic: str = '/camera/image_raw'

    def __post_init__(self) -> None:
        """Refuse what cannot be recorded."""
        for name in ('duration_s', 'frame_rate_hz', 'packet_length_s'):
            if not getattr(self, name) > 0.0:
                raise ValueError(f'{name} is {getattr(self, name)}: give more than 0')
        if self.camera.exposure_s > 1.0 / self.frame_rate_hz:
            raise ValueError(
                f'exposure_s is {self.camera.exposure_s}: give at most '
                f'{1.0 / self.frame_rate_hz:.4f}, the time between frames')
        ratio = (self.image_width * self.sensor_height) / (self.image_height * self.sensor_width)
        if abs(ratio - 1.0) > _MAX_SIZE_DISAGREEMENT:
            raise ValueError(
                f'image of {self.image_width} x {self.image_height} and sensor of '
                f'{self.sensor_width} x {self.sensor_height}: give sizes of one aspect ratio')


@dataclass(frozen=True)
class TruthQuestion:
    """
    A question and the range of stamps for which its answer is true, in ROS time.

    ``stamp_ns`` is the stamp of the image that it was made for; ``valid_from_ns`` and
    ``valid_until_ns`` are both included.
    """

    question: str
    answer: str
    family: str
    stamp_ns: int
    valid_from_ns: int
    valid_until_ns: int
    always_valid: bool


def record_simulation(
    path: Path | str, *, event_camera: EventCameraConfig | None = None, **settings: Any,
) -> list[TruthQuestion]:
    """
    Simulate a scene and write it as a rosbag2 recording with ``truth.json`` in its folder.

    ``settings`` are fields of ``RecordingConfig``; equal ones give equal recordings. Returns
    questions about the image in the middle, those whose answer never changes first.

    Raises
    ------
    ValueError
        If a setting is out of range or the folder ``path`` exists.

    """
    config = RecordingConfig(**settings)
    scene = sample_scene(
        'demo', config.seed, aspect_ratio=config.image_width / config.image_height,
        camera_moves=config.camera_moves, num_objects=config.num_objects)
    with BagWriter(path, config.storage) as writer:
        _Recorder(config, scene, event_camera, writer).run()
    truth = make_truth(config, scene)
    objects = [
        {'shape': SHAPES[scene.shape[item]], 'colour': COLOURS[scene.colour[item]],
         'symbol': SYMBOLS[scene.symbol[item]] if scene.symbol[item] >= 0 else None,
         'appears_s': float(scene.appears_s[item]),
         'moves': bool(scene.orbit_radius[item] > 0), 'turns': bool(scene.spin[item] != 0)}
        for item in range(scene.num_objects)]
    report = {
        'config': asdict(config), 'objects': objects, 'camera_moves': scene.camera_moves,
        'questions': [asdict(item) for item in truth]}
    (Path(path) / TRUTH_FILE).write_text(json.dumps(report, indent=1) + '\n')
    return truth


def make_truth(config: RecordingConfig, scene: Scene) -> list[TruthQuestion]:
    """Ask questions about the middle of a recording and find when their answers hold."""
    random = np.random.default_rng([11, config.seed])
    times_ns = frame_times_ns(config)
    snapshots = [
        snapshot_scene(scene, time_ns * 1e-9 + config.camera.exposure_s / 2)
        for time_ns in times_ns]
    middle = len(snapshots) // 2
    truth: list[TruthQuestion] = []
    for family in FAMILIES:
        texts: dict[str, tuple[Question, str]] = {}
        for made in draw_questions(
                family, snapshots[middle], random, 20 * config.questions_per_family):
            if len(texts) < config.questions_per_family:
                texts.setdefault(made[0].text, made)
        for question, answer in texts.values():
            holds = [answer_question(question, snapshot) == answer for snapshot in snapshots]
            first = next(i for i in range(middle, -1, -1) if i == 0 or not holds[i - 1])
            last = next(
                i for i in range(middle, len(holds)) if i + 1 == len(holds) or not holds[i + 1])
            stamps = [config.start_stamp_ns + times_ns[i] for i in (middle, first, last)]
            truth.append(TruthQuestion(
                _punctuate(question.text), answer, family, stamps[0], stamps[1], stamps[2],
                all(holds)))
    return sorted(truth, key=lambda item: not item.always_valid)


def _punctuate(text: str) -> str:
    return text + ('.' if {'describe', 'list', 'count', 'read'} & set(text.split()) else '?')


def frame_times_ns(config: RecordingConfig) -> list[int]:
    """Return when the exposures start, in ns since the start of the recording."""
    period_s = 1.0 / config.frame_rate_hz
    num_frames = max(1, int((config.duration_s - config.camera.exposure_s) / period_s))
    return [round((0.25 + number) * period_s * 1e9) for number in range(num_frames)]


class _Recorder:
    """Runs both cameras through a scene and writes messages in the order of their arrival."""

    def __init__(
        self, config: RecordingConfig, scene: Scene, event_camera: EventCameraConfig | None,
        writer: BagWriter,
    ) -> None:
        self._config, self._writer = config, writer
        self._random = np.random.default_rng([13, config.seed])
        self._camera = FrameCamera(config.camera, self._random)
        fields = stack_scenes([scene])
        self._camera_view = SceneRenderer(fields, config.image_height, config.image_width)
        self._sensor_view = SceneRenderer(fields, config.sensor_height, config.sensor_width)
        self._sensor = EventSimulator(
            config.sensor_height, config.sensor_width, event_camera, config.seed)
        step_s = event_camera_step_s(
            scene.max_speed, config.sensor_height, config.sensor_width, config.camera.flicker_hz)
        self._num_steps = max(2, int(np.ceil(config.duration_s / step_s)))
        self._arrivals: list[tuple[int, int, Any]] = []  # heap of record time, number, message
        self._numbers = itertools.count()
        self._packet_number = 0
        self._last_arrival_ns = 0
        self._waiting: list[Events] = []

    def run(self) -> None:
        """Write the whole recording."""
        config = self._config
        frames_ns = frame_times_ns(config)
        times_ns = np.linspace(0, config.duration_s * 1e9, self._num_steps + 1).astype(np.int64)
        for start in range(0, len(times_ns), _STEPS_AT_ONCE):
            chunk_ns = times_ns[start:start + _STEPS_AT_ONCE]
            views = self._sensor_view.render(torch.from_numpy(chunk_ns * 1e-9).float()[None])
            light = config.camera.light_at(chunk_ns * 1e-9)
            for picture, share, time_ns in zip(luminance(views.rgb[0]).numpy(), light, chunk_ns):
                self._collect(self._sensor.step(share * picture, int(time_ns)), int(time_ns))
            while frames_ns and frames_ns[0] <= chunk_ns[-1]:
                self._expose(frames_ns.pop(0))
            self._write_arrivals(int(chunk_ns[-1]))
        self._write_arrivals(None)

    def _to_sensor_ns(self, true_ns: np.ndarray) -> np.ndarray:
        """Return the sensor's clock; it counts whole microseconds."""
        config = self._config
        sensor_ns = config.sensor_epoch_ns + true_ns * (1.0 + config.sensor_drift_ppm * 1e-6)
        return sensor_ns.astype(np.int64) // 1000 * 1000

    def _collect(self, events: Events, now_ns: int) -> None:
        """Take events, and send the packets that are complete at the true time ``now_ns``."""
        self._waiting.append(events._replace(t_ns=self._to_sensor_ns(events.t_ns)))
        length_ns = round(self._config.packet_length_s * 1e9)
        while (self._packet_number + 1) * length_ns <= now_ns:
            bounds_ns = np.array([self._packet_number, self._packet_number + 1]) * length_ns
            self._send_packet(int(bounds_ns[0]), int(bounds_ns[1]))
            self._packet_number += 1

    def _send_packet(self, start_ns: int, end_ns: int) -> None:
        config = self._config
        sensor_ns = self._to_sensor_ns(np.array([start_ns, end_ns]))
        pending = Events(*(np.concatenate(part) for part in zip(*self._waiting)))
        pending = Events(*(part[np.lexsort((pending.x, pending.y, pending.t_ns))]
                           for part in pending))
        split = int(np.searchsorted(pending.t_ns, sensor_ns[1]))
        self._waiting = [Events(*(part[split:] for part in pending))]
        ready = Events(*(part[:split] for part in pending))
        delay_s = config.host_delay_s + self._random.exponential(config.host_jitter_s)
        delay_ns = round(min(delay_s, config.host_delay_s + config.packet_length_s) * 1e9)
        packet = EventPacket(
            stamp_ns=config.start_stamp_ns + start_ns + delay_ns, width=config.sensor_width,
            height=config.sensor_height, seq=self._packet_number, time_base=0, encoding='evt3',
            events=encode_evt3(ready, start_ns=int(sensor_ns[0])))
        # Packets overtake no packets.
        self._last_arrival_ns = max(
            self._last_arrival_ns + 1, config.start_stamp_ns + end_ns + delay_ns)
        heapq.heappush(
            self._arrivals, (self._last_arrival_ns, next(self._numbers), packet))

    def _expose(self, time_ns: int) -> None:
        """Take an image whose exposure starts at a true time."""
        config = self._config
        pixels = self._camera.expose(self._camera_view, time_ns * 1e-9)
        readout_s = config.readout_s + self._random.uniform(0.0, config.readout_jitter_s)
        stamp_ns = config.start_stamp_ns + time_ns
        arrival_ns = stamp_ns + round((config.camera.exposure_s + readout_s) * 1e9)
        heapq.heappush(
            self._arrivals, (arrival_ns, next(self._numbers), (stamp_ns, pixels)))

    def _write_arrivals(self, until_ns: int | None) -> None:
        """Write what arrived by a true time; what comes later arrives later."""
        while self._arrivals and (
                until_ns is None
                or self._arrivals[0][0] <= self._config.start_stamp_ns + until_ns):
            arrival_ns, _, message = heapq.heappop(self._arrivals)
            if isinstance(message, EventPacket):
                self._writer.write_event_packet(self._config.event_topic, message, arrival_ns)
            else:
                self._writer.write_image(
                    self._config.image_topic, message[0], message[1], arrival_ns)
