"""Random payloads that look enough like the wire formats to reach every branch of a decoder."""

from __future__ import annotations

from epvlm_ros.events.packet import EventPacket
import numpy as np

WIDTH, HEIGHT = 40, 30  # addresses go a little beyond


def random_packets(
    encoding: str, num_packets: int, seed: int, is_bigendian: bool = False,
    is_dense: bool = False, max_words: int = 120,
) -> list[EventPacket]:
    """
    Return packets of one stream, a few of them with trailing bytes or without any.

    Times are as wild as the format allows or, if dense, a few ms from packet to packet. A word
    is an event in libcaer, mono and trigger.
    """
    random = np.random.default_rng(seed)
    make_words = {
        'evt2': _Evt2Words, 'evt21': _Evt21Words, 'evt3': _Evt3Words,
        'libcaer_cmp': _LibcaerCmpWords, 'libcaer': _LibcaerWords,
        'mono': _MonoWords, 'trigger': _MonoWords}[encoding](random, is_dense)
    packets = []
    for seq in range(num_packets):
        num_words = 0 if random.random() < 0.02 else int(random.integers(1, max_words + 1))
        words = make_words(num_words)
        payload = words.astype(words.dtype.newbyteorder('>' if is_bigendian else '<')).tobytes()
        if random.random() < 0.1:
            payload += b'\xA5' * int(random.integers(1, min(words.dtype.itemsize, 4)))
        time_base = seq * 2_000_000 if is_dense else int(random.integers(0, 1 << 60))
        packets.append(EventPacket(
            seq, WIDTH, HEIGHT, seq, time_base, encoding, payload, is_bigendian))
    return packets


class _Words:
    """Makes the words of a payload of a given length."""

    def __init__(self, random: np.random.Generator, is_dense: bool) -> None:
        self.random, self.is_dense = random, is_dense


class _Evt2Words(_Words):
    """Words in the proportions of a stream, with steps back, wraps and garbage."""

    time_high = 2 ** 28 - 40

    def __call__(self, num_words: int) -> np.ndarray:
        codes = self.random.choice(
            [0, 1, 8, 10, 14, 15, 2, 9], num_words,
            p=[.35, .35, .18, .06, .01, .01, .02, .02])
        return np.array([code << 28 | self.value(code) for code in codes.tolist()], np.uint32)

    def value(self, code: int) -> int:
        random = self.random
        if code == 8:
            steps = [0, 1, 1, 2] if self.is_dense else [0, 1, 1, 7, -1, -3, 2 ** 27 + 9, 3000]
            self.time_high = (self.time_high + int(random.choice(steps))) % 2 ** 28
            return self.time_high
        x, y = random.integers(0, 48, 2).tolist()
        return int(random.integers(0, 64)) << 22 | x << 11 | y


class _Evt21Words(_Evt2Words):
    """The same with a mask of 32 pixels."""

    def __call__(self, num_words: int) -> np.ndarray:
        upper = super().__call__(num_words).astype(np.uint64)
        mask = self.random.integers(0, 2 ** 32, num_words, np.uint64)
        return upper << np.uint64(32) | mask & self.random.integers(
            0, 2 ** 32, num_words, np.uint64)


class _Evt3Words(_Words):
    """Words in the proportions of a stream, with steps back, wraps and garbage."""

    time_high = 4000

    def __call__(self, num_words: int) -> np.ndarray:
        codes = self.random.choice(
            [0, 2, 3, 4, 5, 6, 8, 10, 7, 14, 15, 1, 9, 11],
            num_words, p=[.15, .2, .08, .12, .12, .12, .1, .04, .01, .01, .01, .01, .02, .01])
        words = [code << 12 | self.value(code) for code in codes.tolist()]
        return np.array(words, np.uint16)

    def value(self, code: int) -> int:
        random = self.random
        if code in (0, 2, 3):
            return int(random.integers(0, 2)) << 11 | int(random.integers(0, 48))
        if code == 8:
            steps = [0, 1, 1, -2] if self.is_dense else [0, 1, 7, -1, -10, -11, 300, 3000]
            self.time_high = (self.time_high + int(random.choice(steps))) % 4096
            return self.time_high
        return int(random.integers(0, 4096))


class _LibcaerCmpWords(_Words):
    """Words in the proportions of a stream, with garbage."""

    def __call__(self, num_words: int) -> np.ndarray:
        random = self.random
        codes = random.choice(
            range(9), num_words, p=[.05, .15, .15, .2, .1, .15, .15, .03, .02])
        values = random.integers(0, 4096, num_words)
        address = random.integers(0, 2, num_words) << 11 | random.integers(0, 48, num_words)
        values = np.where(np.isin(codes, (2, 3, 4)), address, values)
        if self.is_dense:
            values = np.where(codes == 0, values % 4, values)
        return (codes << 12 | values).astype(np.uint16)


class _LibcaerWords(_Words):
    """Pairs of words, some of them marked as invalid, with disorder and wraps."""

    def __call__(self, num_words: int) -> np.ndarray:
        random = self.random
        start, step = (100, 200) if self.is_dense else (random.integers(0, 1 << 31), 1 << 26)
        stamps = (start + np.cumsum(random.integers(-3, step, num_words))) % (1 << 31)
        stamps = np.where(random.random(num_words) < 0.02, 1 << 31 | stamps, stamps)
        data = (random.integers(0, 48, num_words) << 17 | random.integers(0, 48, num_words) << 2
                | random.integers(0, 2, num_words) << 1 | (random.random(num_words) < 0.95))
        return np.stack([data, stamps], axis=1).astype(np.uint32).reshape(-1)


class _MonoWords(_Words):
    """Words of 64 bits."""

    def __call__(self, num_words: int) -> np.ndarray:
        random = self.random
        address = random.integers(0, 48, num_words) | random.integers(0, 48, num_words) << 16
        upper = (address | random.integers(0, 2, num_words) << 31).astype(np.uint64)
        last = 5_000_000 if self.is_dense else 1 << 32
        lower = random.integers(0, last, num_words).astype(np.uint64)
        return upper << np.uint64(32) | lower
