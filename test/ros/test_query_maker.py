"""When a request is about, and the one line that says why it cannot be answered."""

import math

from epvlm_interfaces.msg import Query
from epvlm_ros.ros.frame_faults import explain_no_past
from epvlm_ros.ros.query_maker import find_time_ns
import pytest

SECOND = 10 ** 9


def request(seconds_ago=0.0, at=(0, 0)):
    message = Query(question='?', seconds_ago=seconds_ago)
    message.at.sec, message.at.nanosec = at
    return message


def test_a_time_is_given_in_one_of_two_ways():
    assert find_time_ns(request(), 100 * SECOND) is None
    assert find_time_ns(request(seconds_ago=2.5), 100 * SECOND) == 97_500_000_000
    assert find_time_ns(request(at=(42, 7)), 100 * SECOND) == 42_000_000_007


@pytest.mark.parametrize('wrong, words', [
    (request(-1.0), 'seconds_ago is -1.0'), (request(math.nan), 'seconds_ago is nan'),
    (request(math.inf), 'seconds_ago is inf'), (request(1.0, (5, 0)), 'give one of them'),
    (request(at=(-5, 0)), 'at is -5.000 s')])
def test_a_wrong_time_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        find_time_ns(wrong, 100 * SECOND)


def test_what_is_not_kept_is_refused_with_what_is():
    now_ns = 100 * SECOND
    span = 90 * SECOND, 99 * SECOND + 5
    line = explain_no_past(50 * SECOND, now_ns, span, 256.0)
    assert line == (
        'no frame of 50.000000000 (50.000 s ago) is kept, but those from 90.000000000 (10.000 s '
        'ago) to 99.000000005 (1.000 s ago): ask about these')
    full = explain_no_past(50 * SECOND, now_ns, span, 256.0, is_full=True)
    assert full == line + ', or raise history_memory (256 MB)'
    assert 'raise' not in explain_no_past(103 * SECOND, now_ns, span, 256.0, is_full=True)
    assert 'is kept, nor any other: history_memory is 0 MB' in explain_no_past(
        103 * SECOND, now_ns, None, 0.0)
    assert '(3.000 s ahead)' in explain_no_past(103 * SECOND, now_ns, None, 0.0)
