"""Writes AEDAT 4 byte by byte, uncompressed."""

from __future__ import annotations

from pathlib import Path
import struct
from typing import Any, Sequence

INFO = '<dv version="2.0"><node name="outInfo" path="/outInfo/">' + ''.join(
    f'<node name="{stream}" path="/outInfo/{stream}/">'
    '<attr key="compression" type="string">NONE</attr>'
    f'<attr key="typeIdentifier" type="string">{kind}</attr>'
    f'<node name="info" path="/outInfo/{stream}/info/"><attr key="sizeX" type="int">WIDTH</attr>'
    '<attr key="sizeY" type="int">HEIGHT</attr></node></node>'
    for stream, kind in ((0, 'EVTS'), (1, 'FRME'), (2, 'TRIG'))) + '</node></dv>'


def flatbuffer(identifier: bytes, slots: Sequence[tuple[Any, Any]]) -> bytes:
    """
    Return a table of FlatBuffers with its size in front.

    A slot is a format and its number, or the bytes of a vector and how many items it has.
    """
    formats = [slot[0] if isinstance(slot[0], str) else 'I' for slot in slots]
    places, end = [], 4
    for kind in formats:
        end = -(-end // struct.calcsize(kind)) * struct.calcsize(kind)
        places.append(end)
        end += struct.calcsize(kind)
    fields = struct.pack(f'<{2 + len(slots)}H', 4 + 2 * len(slots), end, *places)
    start = -(-(12 + len(fields)) // 8) * 8
    buffer = bytearray(struct.pack('<II4s', 0, start - 4, identifier))
    buffer += bytes(start - 12 - len(fields)) + fields + struct.pack('<i', len(fields))
    buffer += bytes(end - 4)
    for place, kind, (first, second) in zip(places, formats, slots):
        if isinstance(first, str):
            struct.pack_into(f'<{kind}', buffer, start + place, second)
        else:
            buffer += bytes(-(len(buffer) + 4) % 8)
            struct.pack_into('<I', buffer, start + place, len(buffer) - start - place)
            buffer += struct.pack('<I', second) + first
    struct.pack_into('<I', buffer, 0, len(buffer) - 4)
    return bytes(buffer)


def write_file(
    path: Path, packets: Sequence[tuple[int, bytes]], size: tuple[int, int],
) -> Path:
    """Write packets of (stream, data): stream 0 has events, 1 frames and 2 triggers."""
    info = INFO.replace('WIDTH', str(size[0])).replace('HEIGHT', str(size[1])).encode()
    header = flatbuffer(b'IOHE', [('i', 0), ('q', -1), (info + b'\0', len(info))])
    path.write_bytes(b'#!AER-DAT4.0\r\n' + header + b''.join(
        struct.pack('<ii', stream, len(data)) + data for stream, data in packets))
    return path
