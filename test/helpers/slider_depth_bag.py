"""Turns the slider_depth recording into a rosbag2 of evt3 packets and mono8 images."""

from __future__ import annotations

from pathlib import Path

import cv2
from epvlm_ros.bag.writer import BagWriter
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
import numpy as np

EVENT_TOPIC = '/event_camera/events'
IMAGE_TOPIC = '/camera/image_raw'
# ROS time at the start of the recording. Its own times are sensor times, so that the offset of
# the two clocks is this.
START_NS = 1_700_000_000_000_000_000
PACKET_LENGTH_NS = 4_000_000
WIDTH, HEIGHT = 240, 180


def make_slider_depth_bag(
    source: str | Path, target: str | Path, storage: str = 'sqlite3',
    end_ns: int | None = None, homography: np.ndarray | None = None,
) -> Path:
    """
    Write events and frames of the folder ``source`` as the recording ``target``.

    A packet covers 4 ms of sensor time and is stamped with its start in ROS time; it is received
    when it is full. A frame is stamped with its own time and received 20 ms later.

    Parameters
    ----------
    source, target : path-like
        The folder ``slider_depth``, and the folder to make.
    storage : str
        'sqlite3' or 'mcap'.
    end_ns : int, optional
        Leave out what comes later than this time of the recording.
    homography : numpy.ndarray, optional
        3 x 3, moves the events to other pixels of the sensor; those that leave it are dropped.

    Returns
    -------
    pathlib.Path
        ``target``.

    """
    source, target = Path(source), Path(target)
    entries = [*_packets(source, end_ns, homography), *_images(source, end_ns)]
    entries.sort(key=lambda entry: entry[0])
    with BagWriter(target, storage) as bag:
        for record_time_ns, stamp_ns, content in entries:
            if isinstance(content, EventPacket):
                bag.write_event_packet(EVENT_TOPIC, content, record_time_ns)
            else:
                bag.write_image(IMAGE_TOPIC, stamp_ns, content, record_time_ns)
    return target


def load_events(source: str | Path) -> Events:
    """Return the events of the folder ``slider_depth``, times in whole microseconds."""
    with np.load(Path(source) / 'events.npz') as data:
        order = np.argsort(data['t'], kind='stable')
        x, y, polarity, t_ns = (data[name][order] for name in ('x', 'y', 'p', 't'))
    return Events(x, y, polarity, t_ns // 1000 * 1000)


def move_events(events: Events, homography: np.ndarray) -> Events:
    """Return the events at the pixels that a homography moves them to."""
    moved = homography @ np.stack([events.x, events.y, np.ones(events.x.size)])
    x, y = np.rint(moved[:2] / moved[2]).astype(np.int64)
    inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    return Events(
        x[inside].astype(np.uint16), y[inside].astype(np.uint16), events.polarity[inside],
        events.t_ns[inside])


def _packets(
    source: Path, end_ns: int | None, homography: np.ndarray | None,
) -> list[tuple[int, int, EventPacket]]:
    events = load_events(source)
    if homography is not None:
        events = move_events(events, homography)
    last_ns = int(events.t_ns[-1]) + 1 if end_ns is None else end_ns
    starts_ns = np.arange(0, last_ns, PACKET_LENGTH_NS)
    edges = np.searchsorted(events.t_ns, [*starts_ns, last_ns])
    packets = []
    for seq, start_ns in enumerate(starts_ns.tolist()):
        part = Events(*(values[edges[seq]:edges[seq + 1]] for values in events))
        stamp_ns = START_NS + start_ns
        packet = EventPacket(
            stamp_ns, WIDTH, HEIGHT, seq, 0, 'evt3', encode_evt3(part, start_ns=start_ns))
        packets.append((stamp_ns + PACKET_LENGTH_NS, stamp_ns, packet))
    return packets


def _images(source: Path, end_ns: int | None) -> list[tuple[int, int, np.ndarray]]:
    images = []
    for line in (source / 'images.txt').read_text().splitlines():
        seconds, name = line.split()
        time_ns = round(float(seconds) * 1e9)
        if end_ns is None or time_ns < end_ns:
            image = cv2.imread(str(source / name), cv2.IMREAD_GRAYSCALE)
            stamp_ns = START_NS + time_ns
            images.append((stamp_ns + 20_000_000, stamp_ns, image))
    return images
