#!/usr/bin/env python3
"""
Events per second that ``epvlm convert`` makes of each kind of file, read and written.

Made-up events; prints a table of the best of three runs and one line of JSON.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
import json
from pathlib import Path
import shutil
import struct
import sys
from tempfile import TemporaryDirectory
import time

from epvlm_ros.bag.convert import convert
from epvlm_ros.events.packet import Events
from epvlm_ros.events.packet_codecs import encode_evt3
from mcap.writer import Writer
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / 'test/helpers'))
from aedat4_writer import flatbuffer, write_file  # noqa: E402, I100

SIZE = (640, 480)
NUM_RUNS = 3
NUM_IN_MESSAGE = 30_000


def make_events(num_events: int) -> Events:
    """Return events at 1 MHz, times in ns."""
    random = np.random.default_rng(0)
    x, y, polarity = (random.integers(0, high, num_events) for high in (*SIZE, 2))
    return Events(x, y, polarity, np.sort(random.integers(0, num_events, num_events)) * 1000)


def write_event_arrays(path: Path, events: Events) -> None:
    """Write dvs_msgs/EventArray as CDR: after the first event, 16 bytes each."""
    records = np.zeros(events.x.size, np.dtype({
        'names': ['x', 'y', 'sec', 'nanosec', 'polarity'], 'itemsize': 16,
        'formats': ['<u2', '<u2', '<i4', '<u4', 'u1'], 'offsets': [0, 2, 6, 10, 14]}))
    records['x'], records['y'], records['polarity'] = events.x, events.y, events.polarity
    records['sec'], records['nanosec'] = np.divmod(events.t_ns, 10 ** 9)
    with path.open('wb') as stream:
        writer = Writer(stream)
        writer.start(profile='ros2', library='bench')
        schema = writer.register_schema('dvs_msgs/msg/EventArray', 'ros2msg', b'')
        channel = writer.register_channel('/events', 'cdr', schema)
        for start in range(0, events.x.size, NUM_IN_MESSAGE):
            part = records[start:start + NUM_IN_MESSAGE]
            first = struct.pack('<HH', part['x'][0], part['y'][0])
            head = struct.pack('<iIIIIII', 0, 0, 1, 0, SIZE[1], SIZE[0], part.size)
            time_ns = int(events.t_ns[start])
            writer.add_message(
                channel, time_ns, b'\0\1\0\0' + head + first + part.tobytes()[6:], time_ns)
        writer.finish()


def write_files(folder: Path, events: Events) -> dict[str, Path]:
    """Write the same events in each format and return the files by its name."""
    x, y, polarity, t_us = (values.astype(np.int64) for values in events)
    t_us //= 1000
    paths = {name: folder / f'{name}{suffix}' for name, suffix in (
        ('dvs_msgs', '.mcap'), ('evt2', '.raw'), ('evt21', '.raw'), ('evt3', '.raw'),
        ('dat', '.dat'), ('npz', '.npz'), ('text', '.txt'))}
    write_event_arrays(paths['dvs_msgs'], events)
    high = t_us >> 6
    new = np.flatnonzero(np.diff(high, prepend=-1))
    words = np.insert(
        polarity << 28 | (t_us & 63) << 22 | x << 11 | y, new, 8 << 28 | high[new]).astype('<u4')
    header = '% geometry {}x{}\n'.format(*SIZE).encode()
    paths['evt2'].write_bytes(header + b'% evt 2.0\n% end\n' + words.tobytes())
    vectors = words.astype('<u8') << np.uint64(32) | np.uint64(1)
    paths['evt21'].write_bytes(header + b'% evt 2.1\n% end\n' + vectors.tobytes())
    paths['evt3'].write_bytes(header + b'% evt 3.0\n% end\n' + bytes(encode_evt3(events)))
    records = np.stack([t_us, polarity << 28 | y << 14 | x], 1).astype('<u4')
    paths['dat'].write_bytes(header + b'\x0c\x08' + records.tobytes())
    np.savez(paths['npz'], x=x, y=y, p=polarity, t=t_us)
    with paths['text'].open('w') as lines:
        lines.writelines(f'{t} {a} {b} {p}\n' for t, a, b, p in zip(t_us, x, y, polarity))
    if find_spec('h5py'):
        paths['hdf5'] = folder / 'hdf5.h5'
        write_hdf5(paths['hdf5'], events)
    if find_spec('aedat'):
        paths['aedat4'] = folder / 'aedat4.aedat4'
        write_aedat4(paths['aedat4'], events)
    return paths


def write_hdf5(path: Path, events: Events) -> None:
    """Write the columns as DSEC has them, uncompressed."""
    import h5py
    with h5py.File(path, 'w') as file:
        for name, values, dtype in zip(
                'xypt', (*events[:3], events.t_ns // 1000), ('u2', 'u2', 'u1', 'u4')):
            file[f'events/{name}'] = values.astype(dtype)


def write_aedat4(path: Path, events: Events) -> None:
    """Write packets as cameras of iniVation have them, uncompressed."""
    records = np.zeros(events.x.size, np.dtype({
        'names': ['t', 'x', 'y', 'on'], 'formats': ['<i8', '<i2', '<i2', '?'], 'itemsize': 16,
        'offsets': [0, 8, 10, 12]}))
    records['t'], records['x'], records['y'] = events.t_ns // 1000, events.x, events.y
    records['on'] = events.polarity
    write_file(path, [
        (0, flatbuffer(b'EVTS', [(part.tobytes(), part.size)]))
        for part in np.array_split(records, -(-records.size // NUM_IN_MESSAGE))], SIZE)


def measure(source: Path, target: Path) -> float:
    """Return events per second of the best run."""
    best = 0.0
    for _ in range(NUM_RUNS):
        shutil.rmtree(target, ignore_errors=True)
        begin_s = time.perf_counter()
        converted = convert(source, target, size=SIZE, time_unit='us')
        num_events = sum(map(sum, converted.num_events.values()))
        best = max(best, num_events / (time.perf_counter() - begin_s))
    return best


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--events', type=int, default=2_000_000)
    events = make_events(parser.parse_args().events)
    with TemporaryDirectory() as name:
        folder = Path(name)
        rates = {kind: measure(path, folder / 'target')
                 for kind, path in write_files(folder, events).items()}
    for kind, rate in rates.items():
        print(f'{kind:<10}{rate / 1e6:6.2f} million events/s')
    print(json.dumps(rates))


if __name__ == '__main__':
    main()
