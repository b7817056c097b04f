"""Standing questions: when to ask them again, by what events say; knows no model and no ROS."""

from epvlm_ros.watches.event_rates import EventRates, RateReader, Region
from epvlm_ros.watches.standing_question import (
    ACTIVITY, APPEARED, CONDITIONS, INTERVAL, StandingQuestion, WatchDefaults)
from epvlm_ros.watches.watch import Watch
from epvlm_ros.watches.watch_file import WatchFile
from epvlm_ros.watches.watch_list import WatchList

__all__ = [
    'ACTIVITY', 'APPEARED', 'CONDITIONS', 'EventRates', 'INTERVAL', 'RateReader', 'Region',
    'StandingQuestion', 'Watch', 'WatchDefaults', 'WatchFile', 'WatchList']
