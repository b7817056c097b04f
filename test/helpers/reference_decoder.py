"""
Decoders in plain Python, as slow as they are obvious, written from the layouts alone.

Each takes packets as (payload bytes in little endian, time base) and returns what the fast
decoders should: events and triggers as lists of tuples for each packet, and tallies.
"""

from __future__ import annotations

from collections import Counter
import struct

Event = tuple[int, int, int, int]  # x, y, polarity, t_ns
Trigger = tuple[int, int, int]  # t_ns, edge, index


class Output:
    """Events and triggers of one packet, and what was dropped."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.events: list[Event] = []
        self.triggers: list[Trigger] = []
        self.tally: Counter[str] = Counter()

    def add(self, x: int, y: int, polarity: int, t_ns: int) -> None:
        if x < self.width and y < self.height:
            self.events.append((x, y, polarity, t_ns))
        else:
            self.tally['num_out_of_range'] += 1


def words_of(payload: bytes) -> list[int]:
    return [low | high << 8 for low, high in zip(payload[0::2], payload[1::2])]


class Evt3:
    """Evt3, stateful: None stands for what the stream has not told yet."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.high: int | None = None
        self.low: int | None = None
        self.wraps = 0
        self.y: int | None = None
        self.base: int | None = None
        self.polarity = 0

    def decode(self, payload: bytes, time_base: int = 0) -> Output:
        output = Output(*self.size)
        for word in words_of(payload):
            self.step(word >> 12, word & 0xFFF, output)
        return output

    def time_ns(self) -> int | None:
        if self.high is None or self.low is None:
            return None
        return (self.wraps * 2 ** 24 + self.high * 2 ** 12 + self.low) * 1000

    def step(self, code: int, value: int, output: Output) -> None:
        if code == 0x0:
            self.y = value & 0x7FF
        elif code == 0x2:
            self.emit(value & 0x7FF, value >> 11, output)
        elif code == 0x3:
            self.base, self.polarity = value & 0x7FF, value >> 11
        elif code in (0x4, 0x5):
            length = 12 if code == 0x4 else 8
            for bit in range(length):
                if value >> bit & 1:
                    x = None if self.base is None else self.base + bit
                    self.emit(x, self.polarity, output)
            if self.base is not None:
                self.base += length
        elif code == 0x6:
            if self.high is not None:
                self.low = value
        elif code == 0x8:
            self.set_high(value)
        elif code == 0xA:
            if self.time_ns() is None:
                output.tally['num_before_time'] += 1
            else:
                output.triggers.append((self.time_ns(), value & 1, value >> 8))
        elif code not in (0x7, 0xE, 0xF):
            output.tally['num_unknown_words'] += 1

    def set_high(self, value: int) -> None:
        if self.high is not None:
            if value < self.high - 10:
                self.wraps += 1
            elif self.wraps and self.high + 4096 - value <= 10:
                self.wraps -= 1
        self.high = value

    def emit(self, x: int | None, polarity: int, output: Output) -> None:
        if self.time_ns() is None or self.y is None or x is None:
            output.tally['num_before_time'] += 1
        else:
            output.add(x, self.y, polarity, self.time_ns())


class Evt2:
    """Evt2: words of 32 bits; ``high`` is None until the stream has told it."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.high: int | None = None
        self.wraps = 0

    def decode(self, payload: bytes, time_base: int = 0) -> Output:
        output = Output(*self.size)
        for word, in struct.iter_unpack('<I', payload[:len(payload) // 4 * 4]):
            self.step(word, [0], output)
        return output

    def step(self, word: int, pixels: list[int], output: Output) -> None:
        code = word >> 28
        if code == 8:
            self.set_high(word % 2 ** 28)
        elif code in (0, 1, 10) and self.high is None:
            output.tally['num_before_time'] += 1
        elif code in (0, 1, 10):
            assert self.high is not None
            t_ns = ((self.wraps * 2 ** 28 + self.high) * 64 + (word >> 22) % 64) * 1000
            if code == 10:
                output.triggers.append((t_ns, word % 2, (word >> 8) % 32))
            else:
                for pixel in pixels:
                    output.add((word >> 11) % 2048 + pixel, word % 2048, code, t_ns)
        elif code not in (14, 15):
            output.tally['num_unknown_words'] += 1

    def set_high(self, value: int) -> None:
        if self.high is not None:
            if self.high - value > 2 ** 27:
                self.wraps += 1
            elif self.wraps and value - self.high > 2 ** 27:
                self.wraps -= 1
        self.high = value


class Evt21(Evt2):
    """Evt2.1: words of 64 bits, the upper half as in Evt2, then a bit for each of 32 pixels."""

    def decode(self, payload: bytes, time_base: int = 0) -> Output:
        output = Output(*self.size)
        for word, in struct.iter_unpack('<Q', payload[:len(payload) // 8 * 8]):
            self.step(word >> 32, [bit for bit in range(32) if word >> bit & 1], output)
        return output


class LibcaerCmp:
    """libcaer_cmp; each packet stands alone."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height

    def decode(self, payload: bytes, time_base: int) -> Output:
        output = Output(*self.size)
        high = low = polarity = 0
        x = base = None
        for word in words_of(payload):
            code, value = word >> 12, word & 0xFFF
            t_ns = time_base + 1000 * (high * 4096 + low)
            if code == 0:
                high = value
            elif code == 1:
                low = value
            elif code == 2:
                x = value & 0x7FF
            elif code == 3:
                self.emit(x, value & 0x7FF, value >> 11, t_ns, output)
            elif code == 4:
                base, polarity = value & 0x7FF, value >> 11
            elif code in (5, 6):
                length = 8 if code == 5 else 12
                for bit in range(length):
                    if value >> bit & 1:
                        y = None if base is None else base + bit
                        self.emit(x, y, polarity, t_ns, output)
                if base is not None:
                    base += length
            else:
                output.tally['num_unknown_words'] += 1
        return output

    def emit(
        self, x: int | None, y: int | None, polarity: int, t_ns: int, output: Output,
    ) -> None:
        if x is None or y is None:
            output.tally['num_before_time'] += 1
        else:
            output.add(x, y, polarity, t_ns)


class Libcaer:
    """Polarity events of libcaer."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height

    def decode(self, payload: bytes, time_base: int) -> Output:
        output = Output(*self.size)
        wraps = last = 0
        for i in range(0, len(payload) - len(payload) % 8, 8):
            data, stamp = struct.unpack_from('<Ii', payload, i)
            if data % 2 == 0 or stamp < 0:
                output.tally['num_invalid'] += 1
                continue
            if last - stamp > 2 ** 30:
                wraps += 1
            elif wraps and stamp - last > 2 ** 30:
                wraps -= 1
            last = stamp
            output.add(
                data >> 17, (data >> 2) % 2 ** 15, (data >> 1) % 2,
                time_base + (wraps * 2 ** 31 + stamp) * 1000)
        return output


class Mono:
    """Legacy events."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height

    def decode(self, payload: bytes, time_base: int) -> Output:
        output = Output(*self.size)
        for i in range(0, len(payload) - len(payload) % 8, 8):
            t_ns, x, y = struct.unpack_from('<IHH', payload, i)
            output.add(x, y % 2 ** 15, y // 2 ** 15, time_base + t_ns)
        return output


class Trigger64:
    """Legacy triggers."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height

    def decode(self, payload: bytes, time_base: int) -> Output:
        output = Output(*self.size)
        for i in range(0, len(payload) - len(payload) % 8, 8):
            t_ns, _, upper = struct.unpack_from('<IHH', payload, i)
            output.triggers.append((time_base + t_ns, upper >> 15, upper & 0xFF))
        return output


REFERENCES = {
    'evt2': Evt2, 'evt21': Evt21, 'evt3': Evt3, 'libcaer_cmp': LibcaerCmp, 'libcaer': Libcaer,
    'mono': Mono, 'trigger': Trigger64,
}
