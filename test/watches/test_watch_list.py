"""The list of standing questions, and the file that keeps it."""

import json

from epvlm_ros.watches import ACTIVITY, StandingQuestion, WatchFile, WatchList
import pytest


def make(watch_id, question='?'):
    return StandingQuestion(watch_id, {'question': question}, ACTIVITY)


def ids(watches):
    return [watch.standing.watch_id for watch in watches]


def test_there_are_so_many_and_no_more():
    watches = WatchList()
    first = watches.make_id()
    assert watches.add(make(first), 2) is None and watches.add(make('door'), 2) is None
    with pytest.raises(ValueError, match='there are 2 watches, max_watches is 2'):
        watches.add(make('window'), 2)
    assert watches.make_id() != first
    before = watches.find('door')
    assert watches.add(make('door', 'who?'), 2) is before  # one in use is replaced in its place
    assert ids(watches) == [first, 'door'] and watches.find('door').standing.question == 'who?'
    assert watches.remove(first).standing.watch_id == first and ids(watches) == ['door']
    with pytest.raises(ValueError, match="there is no watch 'window'"):
        watches.remove('window')


def test_counts_are_since_the_start_whatever_was_ended():
    watches = WatchList()
    watches.add(make('a'), 9)
    watches.find('a').note_asked(1.0)
    watches.remove('a')
    watches.add(make('a'), 9)
    watches.find('a').note_asked(2.0)
    assert watches.counts == (2, 0, 0) and watches.find('a').num_asked == 1


def test_the_file_has_what_the_list_has(tmp_path):
    file = WatchFile(tmp_path / 'watches.json')
    watches = WatchList()
    assert watches.load(file) == ''
    assert not (tmp_path / 'watches.json').exists()
    for name in ('a', 'b', 'c'):
        watches.add(make(name), 9)
    watches.remove('b')
    again = WatchList()
    assert again.load(file) == '' and ids(again) == ['a', 'c']
    assert [path.name for path in tmp_path.iterdir()] == ['watches.json']


@pytest.mark.parametrize('data, words', [
    (b'', 'no JSON'), (b'\xff\x00', 'no JSON'), (b'[' * 100_000, 'no JSON'),
    (b'{"watches": []}', 'its format is not'),
    (b'watches: []', 'no JSON'),
    (b'{"format": "standing questions of epvlm_ros, 1", "watches": [{}]}', 'has no watch_id')])
def test_a_damaged_or_foreign_file_is_set_aside(tmp_path, data, words):
    path = tmp_path / 'watches.json'
    path.write_bytes(data)
    (tmp_path / 'watches.json.aside-1').write_bytes(b'of before')
    watches = WatchList()
    warning = watches.load(WatchFile(path))
    assert words in warning and 'watches.json.aside-2' in warning and '\n' not in warning
    assert len(watches) == 0
    watches.add(make('a'), 9)
    assert (tmp_path / 'watches.json.aside-1').read_bytes() == b'of before'
    assert (tmp_path / 'watches.json.aside-2').read_bytes() == data


def test_a_file_that_was_cut_off_is_set_aside_and_twins_are_too(tmp_path):
    path = tmp_path / 'watches.json'
    WatchFile(path).write([make('a'), make('b')])
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    assert WatchFile(path).read()[0] == []
    values = json.loads(whole)
    values['watches'].append(values['watches'][0])
    path.write_text(json.dumps(values))
    assert 'a watch_id occurs twice' in WatchFile(path).read()[1]


def test_what_cannot_be_kept_is_not_set_up(tmp_path):
    watches = WatchList()
    watches.load(WatchFile(tmp_path / 'watches.json'))
    watches.add(make('a'), 9)
    kept = (tmp_path / 'watches.json').read_bytes()
    watches.load(WatchFile(tmp_path / 'watches.json'))
    blocked = WatchFile(tmp_path / 'no_such_folder' / 'watches.json')
    watches.load(blocked)
    with pytest.raises(ValueError, match='cannot be written: .*nothing was changed'):
        watches.add(make('a'), 9)
    assert len(watches) == 0 and (tmp_path / 'watches.json').read_bytes() == kept
