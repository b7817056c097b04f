"""Random payloads that look enough like the wire formats to reach every branch of a decoder."""

from __future__ import annotations

from epvlm_ros.core.packets import EventPacket
import numpy as np

WIDTH, HEIGHT = 40, 30  # addresses go a little beyond


def random_packets(
    encoding: str, num_packets: int, seed: int, is_bigendian: bool = False,
) -> list[EventPacket]:
    """Return packets of one stream, a few of them with trailing bytes or without any."""
    random = np.random.default_rng(seed)
    make_words = {
        'evt3': _Evt3Words(random), 'libcaer_cmp': _LibcaerCmpWords(random),
        'libcaer': _libcaer_words(random), 'mono': _mono_words(random),
        'trigger': _mono_words(random),
    }[encoding]
    packets = []
    for seq in range(num_packets):
        num_words = 0 if random.random() < 0.02 else int(random.integers(1, 120))
        words = make_words(num_words)
        payload = words.astype(words.dtype.newbyteorder('>' if is_bigendian else '<')).tobytes()
        if random.random() < 0.1:
            payload += b'\xA5' * int(random.integers(1, 2 if words.dtype.itemsize == 2 else 4))
        time_base = int(random.integers(0, 1 << 60))
        packets.append(EventPacket(
            seq, WIDTH, HEIGHT, seq, time_base, encoding, payload, is_bigendian))
    return packets


class _Evt3Words:
    """Words in the proportions of a stream, with steps back, wraps and garbage."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.time_high = 4000

    def __call__(self, num_words: int) -> np.ndarray:
        random = self.random
        codes = random.choice(
            [0, 2, 3, 4, 5, 6, 8, 10, 7, 14, 15, 1, 9, 11],
            num_words, p=[.15, .2, .08, .12, .12, .12, .1, .04, .01, .01, .01, .01, .02, .01])
        words = [code << 12 | self.value(code) for code in codes.tolist()]
        return np.array(words, np.uint16)

    def value(self, code: int) -> int:
        random = self.random
        if code in (0, 2, 3):
            return int(random.integers(0, 2)) << 11 | int(random.integers(0, 48))
        if code == 8:
            step = random.choice([0, 1, 7, -1, -10, -11, 300, 3000])
            self.time_high = (self.time_high + int(step)) % 4096
            return self.time_high
        return int(random.integers(0, 4096))


class _LibcaerCmpWords:
    """Words in the proportions of a stream, with garbage."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random

    def __call__(self, num_words: int) -> np.ndarray:
        random = self.random
        codes = random.choice(
            range(9), num_words, p=[.05, .15, .15, .2, .1, .15, .15, .03, .02])
        values = random.integers(0, 4096, num_words)
        address = random.integers(0, 2, num_words) << 11 | random.integers(0, 48, num_words)
        values = np.where(np.isin(codes, (2, 3, 4)), address, values)
        return (codes << 12 | values).astype(np.uint16)


def _libcaer_words(random: np.random.Generator):
    def make(num_words: int) -> np.ndarray:
        start = random.integers(0, 1 << 31)
        stamps = (start + np.cumsum(random.integers(-3, 1 << 26, num_words))) % (1 << 31)
        stamps = np.where(random.random(num_words) < 0.02, 1 << 31 | stamps, stamps)
        data = (random.integers(0, 48, num_words) << 17 | random.integers(0, 48, num_words) << 2
                | random.integers(0, 2, num_words) << 1 | (random.random(num_words) < 0.95))
        return np.stack([data, stamps], axis=1).astype(np.uint32).reshape(-1)
    return make


def _mono_words(random: np.random.Generator):
    def make(num_words: int) -> np.ndarray:
        address = random.integers(0, 48, num_words) | random.integers(0, 48, num_words) << 16
        upper = (address | random.integers(0, 2, num_words) << 31).astype(np.uint64)
        lower = random.integers(0, 1 << 32, num_words).astype(np.uint64)
        return upper << np.uint64(32) | lower
    return make
