"""Recordings in which something moves for a while: whoever watches asks then, and only then."""

from epvlm_ros.bag.offline_sync import guided_frames
from epvlm_ros.bag.reader import BagReader
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.watches import (
    ACTIVITY, APPEARED, RateReader, Region, StandingQuestion, Watch, WatchDefaults)
from moving_square_bag import make_moving_square_bag, REGION, START_NS
import pytest

SPANS = [(1.5, 2.3), (3.6, 4.4)]
DEFAULTS = WatchDefaults(min_gap=0.2)


@pytest.mark.parametrize('camera_moves, places', [
    (False, [(Region(), 0.0), (Region(*REGION), 0.0)]), (True, [(Region(*REGION), 2.0)])])
def test_questions_are_asked_while_something_moves(tmp_path, camera_moves, places):
    path = make_moving_square_bag(tmp_path / 'bag', 5.5, SPANS, camera_moves=camera_moves)
    watches = [Watch(StandingQuestion('w', {'question': '?'}, condition, level, region))
               for region, level in places for condition in (ACTIVITY, APPEARED)]
    asked = {watch: [] for watch in watches}
    reader = RateReader()
    with BagReader(path) as bag:
        for guided in guided_frames(bag, EventSyncConfig()):
            stamp_ns = guided.frame.stamp_ns
            rates = reader.read(guided.activity, guided.change, stamp_ns)
            now_s = (stamp_ns - START_NS) * 1e-9
            for watch in watches:
                if watch.is_due(rates, now_s, DEFAULTS):
                    watch.note_asked(now_s)
                    watch.note_answered()
                    asked[watch].append(now_s)
    for watch, times_s in asked.items():
        bursts = [[now_s for now_s in times_s if begin <= now_s < end + 0.1]
                  for begin, end in SPANS]
        assert sum(map(len, bursts)) == len(times_s)
        for (begin, _), burst in zip(SPANS, bursts):
            assert burst[0] - begin < 0.2
            assert len(burst) == 1 if watch.standing.condition == APPEARED else len(burst) >= 3
