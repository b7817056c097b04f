"""One recording, written as each kind of file that ``epvlm convert`` reads."""

from __future__ import annotations

from pathlib import Path
import struct
from typing import Any, Callable, NamedTuple

from aedat4_writer import flatbuffer, write_file
import cv2
from epvlm_ros.events.packet import Events
from epvlm_ros.events.packet_codecs import encode_evt3
from mcap.writer import Writer as McapWriter
import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

EVENT_TOPIC, IMAGE_TOPIC = '/event_camera/events', '/camera/image_raw'
SENSOR_SIZE = 64, 48  # columns, rows
IMAGE_SIZE = 140, 112


class Recording(NamedTuple):
    """Rows of x, y, polarity and us in order, and frames: us, and uint8 (rows, columns, 3)."""

    events: list[tuple[int, int, int, int]]
    frames: list[tuple[int, np.ndarray]]


class Kind(NamedTuple):
    """
    How a recording is written into a folder; a function returns the path of what it wrote.

    ``package`` is what the converter needs for it, and ``options`` its arguments. Where
    ``has_frames`` is false there is no place for frames; where ``has_own_clock`` is true, times
    are those of the sensor, of some bits.
    """

    write: Callable[[Recording, Path], Path]
    has_frames: bool = False
    has_own_clock: bool = False
    package: str = ''
    options: tuple[str, ...] = ()


def make_recording(start_us: int, num_frames: int = 8) -> Recording:
    """Return random events and frames, 32 ms apart; the first frame is 64 ms after the start."""
    random = np.random.default_rng(1)
    num_events, length_us = 30_000, 32_000 * (num_frames + 4)
    columns = [random.integers(0, high, num_events).tolist() for high in (*SENSOR_SIZE, 2)]
    times = start_us + np.sort(random.integers(0, length_us, num_events))
    frames = [(start_us + 64_000 + 32_000 * number,
               random.integers(0, 255, (*IMAGE_SIZE[::-1], 3), np.uint8))
              for number in range(num_frames)]
    return Recording(list(zip(*columns, times.tolist())), frames)


def _cut(recording: Recording, step_us: int = 4000) -> list[list[tuple[int, int, int, int]]]:
    """Return the events of every 4 ms."""
    parts: dict[int, list] = {}
    for row in recording.events:
        parts.setdefault(row[3] // step_us, []).append(row)
    return list(parts.values())


def _array_types(typestore: Any, package: str, time: str) -> tuple[Any, Any]:
    typestore.register(get_types_from_msg(
        f'uint16 x\nuint16 y\n{time} ts\nbool polarity\n', f'{package}/msg/Event'))
    typestore.register(get_types_from_msg(
        f'std_msgs/Header header\nuint32 height\nuint32 width\n{package}/Event[] events\n',
        f'{package}/msg/EventArray'))
    return (typestore.types[f'{package}/msg/{name}'] for name in ('Event', 'EventArray'))


def _messages(recording: Recording, package: str, typestore: Any, time: str) -> list[tuple]:
    """Return (topic, type, us at which it was recorded, message) in the order of the times."""
    types = typestore.types
    make_event, make_array = _array_types(typestore, package, time)

    def stamp(t_us: int) -> Any:
        return types['builtin_interfaces/msg/Time'](t_us // 10 ** 6, t_us % 10 ** 6 * 1000)

    def header(t_us: int, frame_id: str) -> Any:
        kind = types['std_msgs/msg/Header']
        return kind(*[0] * ('seq' in kind.__annotations__), stamp(t_us), frame_id)

    image = types['sensor_msgs/msg/Image']
    messages = [
        (EVENT_TOPIC, f'{package}/msg/EventArray', part[-1][3], make_array(
            header(part[-1][3], 'dvs'), SENSOR_SIZE[1], SENSOR_SIZE[0],
            [make_event(x, y, stamp(t_us), bool(on)) for x, y, on, t_us in part]))
        for part in _cut(recording)]
    messages += [
        (IMAGE_TOPIC, 'sensor_msgs/msg/Image', t_us, image(
            header(t_us, 'camera'), *pixels.shape[:2], 'rgb8', 0, 3 * pixels.shape[1],
            pixels.ravel()))
        for t_us, pixels in recording.frames]
    return sorted(messages, key=lambda message: message[2])


def write_ros1_bag(package: str) -> Callable[[Recording, Path], Path]:
    """Return what writes a bag of ROS 1 with the event arrays of a package."""
    def write(recording: Recording, folder: Path) -> Path:
        typestore = get_typestore(Stores.ROS1_NOETIC)
        messages = _messages(recording, package, typestore, 'time')
        with Ros1Writer(folder / 'a.bag') as bag:
            channels: dict[str, Any] = {}
            for topic, name, t_us, message in messages:
                if topic not in channels:
                    channels[topic] = bag.add_connection(topic, name, typestore=typestore)
                bag.write(channels[topic], t_us * 1000, typestore.serialize_ros1(message, name))
        return folder / 'a.bag'
    return write


def write_rosbag2(package: str) -> Callable[[Recording, Path], Path]:
    """Return what writes an MCAP file of ROS 2 with the event arrays of a package."""
    def write(recording: Recording, folder: Path) -> Path:
        typestore = get_typestore(Stores.LATEST)
        messages = _messages(recording, package, typestore, 'builtin_interfaces/Time')
        with (folder / 'a.mcap').open('wb') as stream:
            bag = McapWriter(stream)
            bag.start(profile='ros2', library='a test')
            channels: dict[str, int] = {}
            for topic, name, t_us, message in messages:
                if topic not in channels:
                    schema = bag.register_schema(name, 'ros2msg', b'')
                    channels[topic] = bag.register_channel(topic, 'cdr', schema)
                data = bytes(typestore.serialize_cdr(message, name))
                bag.add_message(channels[topic], t_us * 1000, data, t_us * 1000)
            bag.finish()
        return folder / 'a.mcap'
    return write


def write_raw(version: str) -> Callable[[Recording, Path], Path]:
    """Return what writes a .raw of a version: 2.0, 2.1 or 3.0."""
    def words(recording: Recording) -> bytes:
        if version == '3.0':
            x, y, polarity, t_us = np.array(recording.events).T
            return bytes(encode_evt3(Events(x, y, polarity, t_us * 1000)))
        shift = 32 if version == '2.1' else 0
        made, high = [], None
        for x, y, on, t_us in recording.events:
            if t_us >> 6 != high:
                high = t_us >> 6
                made.append((8 << 28 | high) << shift)
            bit = 1 << x % 32 if shift else 0
            column = x - x % 32 if shift else x
            made.append((on << 28 | (t_us & 63) << 22 | column << 11 | y) << shift | bit)
        return np.array(made, '<u8' if shift else '<u4').tobytes()

    def write(recording: Recording, folder: Path) -> Path:
        header = '% evt {}\n% geometry {}x{}\n% end\n'.format(version, *SENSOR_SIZE).encode()
        (folder / 'a.raw').write_bytes(header + words(recording))
        return folder / 'a.raw'
    return write


def write_dat(recording: Recording, folder: Path) -> Path:
    """Write events of 8 bytes."""
    header = '% Version 2\n% Width {}\n% Height {}\n'.format(*SENSOR_SIZE).encode()
    (folder / 'a.dat').write_bytes(header + b'\x0c\x08' + b''.join(
        struct.pack('<II', t_us, on << 28 | y << 14 | x) for x, y, on, t_us in recording.events))
    return folder / 'a.dat'


def write_aedat4(recording: Recording, folder: Path) -> Path:
    """Write an AEDAT 4 file of events and frames."""
    packets = [
        (part[-1][3], 0, flatbuffer(b'EVTS', [(b''.join(
            struct.pack('<qhhb3x', t_us, x, y, on) for x, y, on, t_us in part), len(part))]))
        for part in _cut(recording)]
    packets += [
        (t_us, 1, flatbuffer(b'FRME', [
            *[('q', t_us)] * 5, ('b', 16), *(('h', side) for side in IMAGE_SIZE), ('h', 0),
            ('h', 0), (pixels[..., ::-1].tobytes(), pixels.size)]))  # blue first
        for t_us, pixels in recording.frames]
    return write_file(
        folder / 'a.aedat4', [packet[1:] for packet in sorted(packets)], SENSOR_SIZE)


def write_dsec(recording: Recording, folder: Path) -> Path:
    """Write a sequence of DSEC; its map moves each event by less than half a pixel."""
    import h5py

    sequence = folder / 'sequence'
    for part in ('events/left', 'images/left/rectified'):
        (sequence / part).mkdir(parents=True)
    start_us = recording.events[0][3]
    write_hdf5(recording, sequence / 'events/left', 'events.h5', start_us)
    columns, rows = np.meshgrid(*(np.arange(side) for side in SENSOR_SIZE))
    with h5py.File(sequence / 'events/left/rectify_map.h5', 'w') as file:
        file['rectify_map'] = np.stack([columns + 0.4, rows - 0.3], -1).astype('f4')
    for number, (_, pixels) in enumerate(recording.frames):
        path = sequence / f'images/left/rectified/{number:06d}.png'
        cv2.imwrite(str(path), pixels[..., ::-1])
    (sequence / 'images/timestamps.txt').write_text(
        ''.join(f'{t_us}\n' for t_us, _ in recording.frames))
    return sequence


def write_hdf5(
    recording: Recording, folder: Path, name: str = 'a.h5', start_us: int = 0,
) -> Path:
    """Write the columns as DSEC has them."""
    import h5py

    x, y, polarity, t_us = np.array(recording.events).T
    with h5py.File(folder / name, 'w') as file:
        file['events/x'], file['events/y'] = x.astype('u2'), y.astype('u2')
        file['events/p'] = polarity.astype('u1')
        file['events/t'] = (t_us - start_us).astype('u4' if start_us else 'i8')
        file['t_offset'] = start_us
    return folder / name


def write_npz(recording: Recording, folder: Path) -> Path:
    """Write an array for each column."""
    x, y, polarity, t_us = np.array(recording.events).T
    np.savez(folder / 'a.npz', x=x, y=y, p=polarity, t=t_us)
    return folder / 'a.npz'


def write_text(recording: Recording, folder: Path) -> Path:
    """Write a line for each event, its time in seconds."""
    (folder / 'a.txt').write_text(''.join(
        f'{t_us // 10 ** 6}.{t_us % 10 ** 6:06d} {x} {y} {on}\n'
        for x, y, on, t_us in recording.events))
    return folder / 'a.txt'


_SIZE = '--size', '{}x{}'.format(*SENSOR_SIZE)
KINDS = {
    'raw of EVT2': Kind(write_raw('2.0'), has_own_clock=True),
    'raw of EVT2.1': Kind(write_raw('2.1'), has_own_clock=True),
    'raw of EVT3': Kind(write_raw('3.0'), has_own_clock=True),
    'dat': Kind(write_dat, has_own_clock=True),
    'npz': Kind(write_npz, options=(*_SIZE, '--time-unit', 'us')),
    'text': Kind(write_text, options=(*_SIZE, '--time-unit', 's')),
    'HDF5': Kind(write_hdf5, package='h5py', options=(*_SIZE, '--time-unit', 'us')),
    'ROS 1, dvs_msgs': Kind(write_ros1_bag('dvs_msgs'), has_frames=True),
    'ROS 1, prophesee': Kind(write_ros1_bag('prophesee_event_msgs'), has_frames=True),
    'rosbag2, dvs_msgs': Kind(write_rosbag2('dvs_msgs'), has_frames=True),
    'rosbag2, prophesee': Kind(write_rosbag2('prophesee_event_msgs'), has_frames=True),
    'AEDAT 4': Kind(write_aedat4, has_frames=True, package='aedat'),
    'DSEC': Kind(write_dsec, has_frames=True, package='h5py')}
