"""AEDAT 4, as dv-processing and DV write it: events and frames of iniVation cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

from epvlm_ros.bag.convert.prophesee_files import FRAME_ID, TOPIC
from epvlm_ros.bag.convert.sources import EventBatch, ImageFrame, split_in_time
from epvlm_ros.events.packet import Events
import numpy as np

IMAGE_TOPIC, IMAGE_FRAME_ID = '/camera/image_raw', 'camera'
_CHANNELS = {'L': 'mono8', 'RGB': 'rgb8', 'RGBA': 'rgb8'}


class AedatFile:
    """
    An .aedat4 file, whose times in us are ROS time; needs the package aedat.

    A further stream of events or frames has its number in its topic. Other streams (triggers,
    inertial measurements) are named in ``problems``.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f'{path} does not exist: give a recording')
        try:
            import aedat
        except ImportError:
            raise ValueError(f'{path} needs aedat: run pip install aedat') from None
        self.problems: list[str] = []
        self.num_steps = 0  # not known before
        self._path = path
        try:
            self._decoder = aedat.Decoder(path)
            self._streams: dict[int, dict[str, Any]] = self._decoder.id_to_stream()
        except Exception as error:  # noqa: B902  damaged files fail in many ways
            raise ValueError(f'{path} cannot be read as AEDAT 4: {error}') from None
        self._topics = {
            stream: topic for kind, topic in (('events', TOPIC), ('frame', IMAGE_TOPIC))
            for stream, topic in self._topics_of(kind, topic)}

    def close(self) -> None:
        """Do nothing: the decoder closes its file."""

    def __iter__(self) -> Iterator[EventBatch | ImageFrame]:
        left_out: set[str] = set()
        try:
            for packet in self._decoder:
                if 'events' in packet:
                    yield from self._events(packet['stream_id'], packet['events'])
                elif 'frame' in packet:
                    yield from self._frame(packet['stream_id'], packet['frame'])
                else:
                    left_out.update(set(packet) - {'stream_id'})
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: B902
            raise ValueError(f'{self._path} is damaged: {error}') from None
        if left_out:
            self.problems.append(f'{" and ".join(sorted(left_out))} are left out')

    def _topics_of(self, kind: str, topic: str) -> Iterator[tuple[int, str]]:
        of_kind = sorted(
            stream for stream, about in self._streams.items() if about['type'] == kind)
        for number, stream in enumerate(of_kind):
            yield stream, topic if number == 0 else f'{topic}_{stream}'

    def _events(self, stream: int, records: np.ndarray) -> Iterator[EventBatch]:
        about = self._streams[stream]
        events = Events(
            records['x'].astype(np.uint16), records['y'].astype(np.uint16),
            records['on'].astype(np.uint8), records['t'].astype(np.int64) * 1000)
        for part in split_in_time(events):
            yield EventBatch(
                self._topics[stream], int(part.t_ns.max()), int(part.t_ns[0]), FRAME_ID,
                about['width'], about['height'], part)

    def _frame(self, stream: int, frame: dict[str, Any]) -> Iterator[ImageFrame]:
        encoding = _CHANNELS.get(frame['format'])
        if encoding is None:
            problem = f'frames of format {frame["format"]} are left out'
            if problem not in self.problems:
                self.problems.append(problem)
            return
        pixels = frame['pixels']
        stamp_ns = int(frame['t']) * 1000
        yield ImageFrame(
            self._topics[stream], stamp_ns, stamp_ns, IMAGE_FRAME_ID,
            pixels[..., :3] if pixels.ndim == 3 else pixels, encoding)
