"""Files of cameras and simulators, written here word by word, become recordings."""

import struct
import sys

from epvlm_ros.bag import BagReader
from epvlm_ros.bag.convert import convert
from epvlm_ros.cli import main
from epvlm_ros.events.packet import Events
from epvlm_ros.events.packet_codecs import encode_evt3, make_decoder
import numpy as np
import pytest

TOPIC = '/event_camera/events'
SIZE = (640, 480)


def make_events(num_events=3000, seed=1, span_us=50_000):
    """Return rows of x, y, polarity and time in us, in the order of their times."""
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, span_us, num_events)).tolist()
    return list(zip(*(random.integers(0, high, num_events).tolist() for high in (640, 480, 2)),
                    times))


def read_back(path):
    """Return rows as `make_events` does, and the packets."""
    with BagReader(path) as bag:
        packets = list(bag.event_packets(TOPIC))
    decoder = make_decoder(packets[0].encoding, *SIZE)
    rows = []
    for packet in packets:
        assert (packet.width, packet.height) == SIZE
        x, y, polarity, t_ns = (
            values.tolist() for values in decoder.decode(packet).events)
        assert not any(t % 1000 for t in t_ns)
        rows += zip(x, y, polarity, [t // 1000 for t in t_ns])
        if t_ns:
            assert packet.stamp_ns == t_ns[0]
    assert [packet.seq for packet in packets] == [*range(len(packets))]
    return rows, packets


def evt2_words(rows):
    words, high = [], None
    for x, y, polarity, t_us in rows:
        if t_us >> 6 != high:
            high = t_us >> 6
            words.append(8 << 28 | high)
        words.append(polarity << 28 | (t_us & 63) << 22 | x << 11 | y)
    return np.array(words + [10 << 28], '<u4').tobytes()  # a trigger edge


def evt21_words(rows):
    words, high = [], None
    for x, y, polarity, t_us in rows:
        if t_us >> 6 != high:
            high = t_us >> 6
            words.append(8 << 60 | high << 32)
        base = x // 32 * 32
        words.append(
            polarity << 60 | (t_us & 63) << 54 | base << 43 | y << 32 | 1 << (x - base))
    return np.array(words, '<u8').tobytes()


HEADERS = {
    'evt2': b'% date 2020-01-01\n% evt 2.0\n% geometry 640x480\n',
    'evt21': b'% format EVT21;height=480;width=640\n% end\n',
    'evt3': b'% evt 3.0\n% format EVT3;height=480;width=640\n% geometry 640x480\n% end\n'}


@pytest.mark.parametrize(('name', 'encode'), [('evt2', evt2_words), ('evt21', evt21_words)])
def test_raw_words_are_kept(tmp_path, name, encode):
    rows = make_events()
    words = encode(rows)
    (tmp_path / 'a.raw').write_bytes(HEADERS[name] + words + b'1')
    converted = convert(tmp_path / 'a.raw', tmp_path / 'bag')
    num_on = sum(row[2] for row in rows)
    assert converted.num_events == {TOPIC: [3000 - num_on, num_on]}
    assert converted.problems == [f'{tmp_path / "a.raw"} ends within a word']
    read, packets = read_back(tmp_path / 'bag')
    assert read == rows
    assert b''.join(packet.events.tobytes() for packet in packets) == words + b'1'
    assert len(packets) == -(-len(words) // 8192) > 1


def test_raw_evt3_is_kept_word_by_word(tmp_path):
    rows = make_events()
    x, y, polarity, t_us = np.array(rows).T
    words = bytes(encode_evt3(Events(x, y, polarity, t_us * 1000)))
    (tmp_path / 'a.raw').write_bytes(HEADERS['evt3'] + words)
    converted = convert(tmp_path / 'a.raw', tmp_path / 'bag')
    assert converted.num_events == {TOPIC: [sum(polarity == 0), sum(polarity == 1)]}
    read, packets = read_back(tmp_path / 'bag')
    assert len(packets) > 1
    assert b''.join(packet.events.tobytes() for packet in packets) == words
    assert sorted(read) == sorted(rows)


@pytest.mark.parametrize('kind', [0, 12])
def test_dat(tmp_path, kind):
    rows = make_events()
    data = b''.join(struct.pack('<II', t_us, polarity << 28 | y << 14 | x)
                    for x, y, polarity, t_us in rows)
    header = b'% Data file\n% Version 2\n% Height 480\n% Width 640\n' + bytes([kind, 8])
    (tmp_path / 'a.dat').write_bytes(header + data + b'123')
    converted = convert(tmp_path / 'a.dat', tmp_path / 'bag')
    assert converted.problems == [f'{tmp_path / "a.dat"} ends within an event']
    assert read_back(tmp_path / 'bag')[0] == rows


@pytest.mark.parametrize(('unit', 'scale', 'option', 'problems'), [
    ('f8', 1e-6, '', ['times are taken to be in s: give --time-unit']),
    ('i8', 1, '', ['times are taken to be in us: give --time-unit']),
    ('f4', 1e-3, 'ms', []), ('i8', 1000, 'ns', [])])
@pytest.mark.parametrize('kind', ['npz', 'txt', 'csv'])
def test_tables(tmp_path, kind, unit, scale, option, problems):
    rows = make_events(200, span_us=9_000)
    x, y, polarity, t_us = np.array(rows).T
    times = (t_us * scale).astype(unit)
    path = tmp_path / f'a.{kind}'
    if kind == 'npz':
        np.savez(path, x=x, y=y, p=2 * polarity - 1, t=times)
    else:
        separator = ' ' if kind == 'txt' else ','
        lines = [separator.join(map(str, (time, *row[:3])))
                 for time, row in zip(times.tolist(), rows)]
        path.write_text('\n'.join(['# a remark', *lines, '']))
    converted = convert(path, tmp_path / 'bag', size=SIZE, time_unit=option)
    assert converted.problems == problems
    with BagReader(tmp_path / 'bag') as bag:
        decoder = make_decoder('mono', *SIZE)
        read = [row for packet in bag.event_packets(TOPIC) for row in zip(
            *(values.tolist() for values in decoder.decode(packet).events))]
    assert [row[:3] for row in read] == [row[:3] for row in rows]
    # To 1 ns, or what a number of 4 bytes can tell of 9 ms.
    np.testing.assert_allclose(
        [row[3] for row in read], t_us * 1000, rtol=0, atol=1 if unit != 'f4' else 500)


@pytest.mark.parametrize(('name', 'content', 'words'), [
    ('a.raw', b'% evt 2.0\n% end\n', 'does not say the size of its sensor: give --size'),
    ('a.raw', b'% geometry 640x480\n% evt 4.0\n', "of format '4.0': give one of EVT2"),
    ('a.raw', b'% format EVT21;height=4;width=6;endianness=legacy\n', "of format 'EVT21 legacy'"),
    ('a.raw', b'\x00\x01', 'does not say the size of its sensor'),
    ('a.raw', HEADERS['evt2'], 'has no events that have to be converted'),
    ('a.dat', b'% Width 4\n% Height 3\n\x01\x08', 'does not hold events of 8 bytes'),
    ('a.dat', b'% Width 4\n% Height 3\n', 'does not hold events of 8 bytes'),
    ('a.txt', b'1 2 3 0\n', 'give --size'),
    ('a.h5', b'rubbish', 'give --size'),
    ('a.aedat4', b'', 'needs aedat: run pip install aedat|cannot be read as AEDAT 4'),
    ('a.npz', b'rubbish', 'give --size')])
def test_files_that_cannot_be_converted(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        convert(tmp_path / name, tmp_path / 'bag')
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize(('content', 'words'), [
    ('1 2 3\n', 'has a line that is not: time x y polarity'),
    ('1 two 3 0\n', 'has a line that is not made of numbers'),
    ('1 nan 3 0\n', 'has a line that is not: time x y polarity'),
    ('1 2 3 0\n' * 70_000 + '1.5 2 3 0\n', 'whole numbers as times first and other ones later'),
    ('1 640 3 0\n', 'has x from 640 to 640: give a --size that holds all events'),
    ('1 2 -3 0\n', 'has y from -3 to -3'), ('-1 2 3 0\n', 'has events before time 0'),
    ('', 'has no events that have to be converted')])
def test_text_that_cannot_be_converted(tmp_path, content, words):
    (tmp_path / 'a.txt').write_text(content)
    with pytest.raises(ValueError, match=words):
        convert(tmp_path / 'a.txt', tmp_path / 'bag', size=SIZE)


@pytest.mark.parametrize(('time', 't_ns'), [('3', 3000), ('3.0', 3 * 10 ** 9)])
def test_a_point_in_times_of_text_says_that_they_are_seconds(tmp_path, time, t_ns):
    (tmp_path / 'a.csv').write_text(f'{time},2.5,3,0\n')
    convert(tmp_path / 'a.csv', tmp_path / 'bag', size=SIZE)
    with BagReader(tmp_path / 'bag') as bag:
        packet, = bag.event_packets()
    assert packet.stamp_ns == t_ns


@pytest.mark.parametrize(('unit', 'time', 't_ns'), [
    ('s', '1700000000.123456789', 1_700_000_000_123_456_789),
    ('ns', '1700000000123456789', 1_700_000_000_123_456_789),
    ('us', '1700000000123456.789', 1_700_000_000_123_456_789), ('s', '1e-3', 1_000_000)])
def test_no_digit_of_a_time_of_text_is_lost(tmp_path, unit, time, t_ns):
    (tmp_path / 'a.txt').write_text(f'{time}\t+2 3.0 -1\r\n\n% a remark\n{time} 4, 5, 1')
    convert(tmp_path / 'a.txt', tmp_path / 'bag', size=SIZE, time_unit=unit)
    with BagReader(tmp_path / 'bag') as bag:
        packet, = bag.event_packets()
    events = make_decoder('mono', *SIZE).decode(packet).events
    assert [values.tolist() for values in events] == [[2, 4], [3, 5], [0, 1], [t_ns] * 2]


def test_an_npz_without_the_columns(tmp_path):
    np.savez(tmp_path / 'a.npz', x=[1], y=[2], t=[3])
    with pytest.raises(ValueError, match='no array p or ps or pol or polarity: it has t, x, y'):
        convert(tmp_path / 'a.npz', tmp_path / 'bag', size=SIZE)
    np.savez(tmp_path / 'a.npz', x=[1], y=[2], t=[3], p=[1, 0])
    with pytest.raises(ValueError, match='columns of shapes'):
        convert(tmp_path / 'a.npz', tmp_path / 'bag', size=SIZE)
    (tmp_path / 'a.npz').write_bytes(b'rubbish')
    with pytest.raises(ValueError, match='cannot be read as .npz'):
        convert(tmp_path / 'a.npz', tmp_path / 'bag', size=SIZE)


@pytest.mark.process  # h5py asks the system what it is
def test_hdf5(tmp_path):
    h5py = pytest.importorskip('h5py', reason='h5py is not installed')
    rows = make_events(200, span_us=9_000)
    x, y, polarity, t_us = np.array(rows).T
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['events/x'], file['events/y'] = x.astype('u2'), y.astype('u2')
        file['events/p'], file['events/t'] = polarity.astype('u1'), t_us.astype('u4')
        file['t_offset'] = 50_000_000_000
    convert(tmp_path / 'a.h5', tmp_path / 'bag', size=SIZE, time_unit='us')
    assert read_back(tmp_path / 'bag')[0] == [
        (x, y, polarity, 50_000_000_000 + t_us) for x, y, polarity, t_us in rows]
    (tmp_path / 'a.h5').write_bytes(b'rubbish')
    with pytest.raises(ValueError, match='cannot be read as HDF5 of events'):
        convert(tmp_path / 'a.h5', tmp_path / 'more', size=SIZE)


def test_hdf5_names_the_package_that_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    (tmp_path / 'a.h5').write_bytes(b'')
    with pytest.raises(ValueError, match='needs h5py: run pip install h5py'):
        convert(tmp_path / 'a.h5', tmp_path / 'bag', size=SIZE)


def test_the_command(tmp_path, capsys):
    (tmp_path / 'a.txt').write_text('10 2 3 0\n20 4 5 1\n')
    main(['convert', str(tmp_path / 'a.txt'), str(tmp_path / 'bag'), '--size', '640x480'])
    output = capsys.readouterr()
    assert output.out == (f'{TOPIC}: 1 off and 1 on events\nwritten to {tmp_path / "bag"}\n')
    assert 'epvlm convert: times are taken to be in us: give --time-unit\n' in output.err
    assert read_back(tmp_path / 'bag')[0] == [(2, 3, 0, 10), (4, 5, 1, 20)]
    with pytest.raises(SystemExit):
        main(['convert', 'a.txt', 'bag', '--size', '640'])
    assert "'640' is not of the form 640x480" in capsys.readouterr().err
