"""Words of EVT2 and EVT2.1, against a plain decoder that looks at one word after the other."""

from epvlm_ros.bag.convert.evt2 import Evt21Decoder, Evt2Decoder
import numpy as np
import pytest


def decode_plainly(words, is_vector):
    """Follow the description of the format bit by bit."""
    events, high, wraps = [], None, 0
    for word in map(int, words):
        code = word >> (60 if is_vector else 28)
        if code == 8:
            new = word >> 32 & 0xFFFFFFF if is_vector else word & 0xFFFFFFF
            if high is not None and new < high - 2 ** 27:
                wraps += 1
            high = new
        elif code <= 1 and high is not None:
            low = word >> (54 if is_vector else 22) & 0x3F
            t_ns = ((wraps << 28 | high) << 6 | low) * 1000
            if is_vector:
                x, y = word >> 43 & 0x7FF, word >> 32 & 0x7FF
                events += [(x + bit, y, code, t_ns) for bit in range(32) if word >> bit & 1]
            else:
                events.append((word >> 11 & 0x7FF, word & 0x7FF, code, t_ns))
    return events


def listed(events):
    assert [values.dtype for values in events] == ['u2', 'u2', 'u1', 'i8']
    return list(zip(*(values.tolist() for values in events)))


def test_words_by_hand():
    # x 5, y 6, brighter, at 64 * 3 + 2 us
    decoder = Evt2Decoder()
    word = 1 << 28 | 2 << 22 | 5 << 11 | 6
    data = np.array([word, 8 << 28 | 3, word], '<u4')
    assert listed(decoder.decode(data.tobytes())) == [(5, 6, 1, 194_000)]
    assert listed(decoder.decode(data[:1].tobytes() + b'xyz')) == [(5, 6, 1, 194_000)]
    decoder = Evt21Decoder()
    word = 0 << 60 | 2 << 54 | 5 << 43 | 6 << 32 | 1 << 31 | 0b101
    data = np.array([8 << 60 | 3 << 32, word], '<u8')
    assert listed(decoder.decode(data.tobytes())) == [
        (5, 6, 0, 194_000), (7, 6, 0, 194_000), (36, 6, 0, 194_000)]
    assert listed(decoder.decode(b'')) == []


@pytest.mark.parametrize('is_vector', [False, True])
@pytest.mark.parametrize('seed', range(5))
def test_random_words_in_packets_of_any_size(is_vector, seed):
    random = np.random.default_rng(seed)
    num_words, shift = 400, 60 if is_vector else 28
    words = random.integers(0, 2 ** shift, num_words).astype('<u8')
    codes = random.choice([0, 1, 8, 10, 14, 15], num_words, p=[0.4, 0.4, 0.1, 0.04, 0.03, 0.03])
    # Times that go on, step back a little, and wrap once.
    high = (2 ** 28 - 20 + np.arange(num_words) // 10 - (np.arange(num_words) % 7 == 0)) % 2 ** 28
    high = high.astype('<u8')
    time_words = high << np.uint64(32) | np.uint64(5) if is_vector else high
    words = np.where(codes == 8, time_words, words) | codes.astype('<u8') << np.uint64(shift)
    words = words.astype('<u8' if is_vector else '<u4')
    decoder = (Evt21Decoder if is_vector else Evt2Decoder)()
    edges = [0, *sorted(random.integers(0, num_words, 6)), num_words]
    events = [event for start, end in zip(edges, edges[1:])
              for event in listed(decoder.decode(words[start:end].tobytes()))]
    expected = decode_plainly(words, is_vector)
    assert len(expected) > 200 and events == expected
