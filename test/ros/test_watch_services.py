"""What the services do with the queries of watches: asked, taken back, told apart by camera."""

import array
from types import SimpleNamespace

from epvlm_interfaces.msg import Answer, EventGuidedFrame, Query, StandingQuestion
from epvlm_interfaces.srv import Unwatch, Watch
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.watch_services import WatchServices
from epvlm_ros.watches import StandingQuestion as Standing, WatchFile
import numpy as np
import pytest
from sensor_msgs.msg import Image, RegionOfInterest


def make_frame(number, events=100.0, width=32):
    """Return a frame of cells of 4 px with so many events each, 0.1 s after the one before."""
    frame = EventGuidedFrame(
        image=Image(height=32, width=width), coverage=1.0, cell_size=4, rows=8, cols=width // 4,
        pixel_density=1.0)
    frame.header.stamp.sec = 1
    frame.header.stamp.nanosec = number * 10 ** 8
    frame.window_end.nanosec = 40_000_000
    frame.activity = array.array('f', np.full(2 * width, events, np.float32).tobytes())
    return frame


class Node:
    """A node of which the services are called by hand."""

    def __init__(self, **config):
        self.calls, self.lines, self.asked, self.cancelled = {}, [], [], []
        self.ranks = []
        log = SimpleNamespace(**{level: self.lines.append for level in (
            'info', 'warning', 'error')})
        node = SimpleNamespace(
            get_logger=lambda: log, destroy_service=lambda name: self.calls.pop(name),
            create_service=self._create_service)
        self.watches = WatchServices(
            node, lambda: VlmNodeConfig(**config), self._check, self._ask, self.cancelled.append)

    def watch(self, watch_id, **fields):
        fields.setdefault('query', Query(question='?'))
        return self.calls['watch'](Watch.Request(watch=StandingQuestion(
            watch_id=watch_id, **fields)), Watch.Response())

    def _create_service(self, kind, name, callback, **_):
        self.calls[name] = callback
        return name

    def _check(self, request):
        if request.camera == 'gone':
            raise ValueError("camera is 'gone'")

    def _ask(self, request, reply, *, watch_id, rank):
        self.ranks.append(rank)
        self.asked.append((watch_id, request.camera, reply))
        return f'query of {watch_id}'


@pytest.fixture
def node():
    node = Node()
    node.watches.create()
    return node


def test_an_open_question_goes_with_its_watch(node):
    for watch_id in ('ended', 'replaced', 'answered'):
        assert node.watch(watch_id).success
    node.watches.look(make_frame(0))
    assert [watch_id for watch_id, _, _ in node.asked] == ['ended', 'replaced', 'answered']
    node.asked[2][2](Answer())
    node.watches.look(make_frame(1))
    assert len(node.asked) == 3 and node.watches.status.num_busy == 2
    assert node.watch('replaced').success and node.watch('answered').success
    assert node.calls['unwatch'](Unwatch.Request(watch_id='ended'), Unwatch.Response()).success
    assert node.cancelled == ['query of replaced', 'query of ended']
    assert node.watches.status.num_watches == 2 and node.watches.status.num_asked == 3


def test_what_events_set_off_goes_before_what_the_clock_does(node):
    assert node.watch('clock', condition=StandingQuestion.INTERVAL, interval=5.0).success
    assert node.watch('events').success
    node.watches.look(make_frame(0))
    assert [asked[0] for asked in node.asked] == ['clock', 'events'] and node.ranks == [2, 1]


def test_a_watch_is_judged_by_the_frames_of_its_camera(node):
    assert node.watch('front', query=Query(question='?', camera='front')).success
    node.watches.look(make_frame(0), 'rear')
    node.watches.look(make_frame(0, events=0.0), 'front')
    assert node.asked == []
    node.watches.look(make_frame(1), 'front')
    assert [asked[:2] for asked in node.asked] == [('front', 'front')]


def test_a_frame_that_is_no_frame_is_no_activity(node):
    assert node.watch('all').success
    for damage in ({'cell_size': 5}, {'pixel_density': float('nan')}, {'coverage': 0.0}):
        frame = make_frame(0)
        for name, value in damage.items():
            setattr(frame, name, value)
        node.watches.look(frame)
    assert node.asked == [] and node.watches.status.faults == ()


def test_an_image_of_another_size_makes_a_region_a_fault(node):
    region = RegionOfInterest(x_offset=32, width=16, height=16)
    node.watches.look(make_frame(0))
    refused = node.watch('right', region=region)
    assert not refused.success and 'is not inside of the image of 32 x 32' in refused.message
    node.watches.look(make_frame(1, width=64))
    assert node.watch('right', region=region).success
    node.watches.look(make_frame(2))
    assert 'watch right: region 16 x 16' in node.watches.status.faults[0]


def test_what_a_file_has_for_a_camera_that_is_gone_is_named(tmp_path):
    path = tmp_path / 'watches.json'
    WatchFile(path).write([
        Standing(name, {'question': '?', 'camera': name}, 'activity')
        for name in ('gone', 'here')])
    node = Node(watches_file=str(path))
    node.watches.create()
    assert node.lines == [f'2 standing questions of {path}',
                          "watch gone cannot be answered: camera is 'gone'"]
    node.watches.destroy()
    assert node.calls == {} and node.watches.status.num_watches == 2
