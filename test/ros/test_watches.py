"""Standing questions over DDS: set up, asked by events only, kept, ended."""

import time

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import Answer, Query, StandingQuestion
from epvlm_interfaces.srv import ListWatches, Unwatch, Watch
from epvlm_ros.ros.watch_messages import to_message, to_standing_question
from lifecycle_msgs.srv import ChangeState
import pytest
from ros_graph import RosGraph, wait_until
from sensor_msgs.msg import RegionOfInterest
from vlm_asker import save_endless_model, start

STILL = ((0, 0), (0, 0))  # cells with events: none
CORNER = RegionOfInterest(x_offset=0, y_offset=0, width=28, height=28)


def make_watch(**changes):
    return StandingQuestion(**{
        'watch_id': 'door', 'query': Query(question='who comes?', keep_ratio=0.25), **changes})


class Watcher:
    """Sets up standing questions and sees what the node says of them."""

    def __init__(self, asker):
        self._node, self._asker = asker.node, asker
        self._clients = {kind: self._node.create_client(kind, name) for kind, name in (
            (Watch, 'watch'), (Unwatch, 'unwatch'), (ListWatches, 'list_watches'))}
        self._reports = []
        self._node.create_subscription(
            DiagnosticArray, '/diagnostics', self._reports.append, 10)

    def call(self, kind, **fields):
        assert self._clients[kind].wait_for_service(20)
        future = self._clients[kind].call_async(kind.Request(**fields))
        return wait_until(lambda: future.done() and future.result(), 30, kind.__name__)

    def watch(self, **changes):
        return self.call(Watch, watch=make_watch(**changes))

    def report(self, part):
        """Return the values of a part of the next report."""
        self._reports.clear()
        status = wait_until(lambda: [
            status for report in self._reports for status in report.status
            if status.name == f'vlm_node: {part}'], 20, 'a report')[0]
        return {item.key: item.value for item in status.values}

    def transition(self, number):
        client = self._node.create_client(ChangeState, '/vlm_node/change_state')
        assert client.wait_for_service(20)
        request = ChangeState.Request()
        request.transition.id = number
        future = client.call_async(request)
        assert wait_until(lambda: future.done() and future.result(), 60, 'state').success


@pytest.fixture(scope='module')
def model_folder(tmp_path_factory):
    return save_endless_model(tmp_path_factory.mktemp('model'))


def test_questions_stand_until_they_are_ended(tmp_path, model_folder):
    kept = tmp_path / 'watches.json'
    parameters = {'watches_file': kept, 'max_watches': 3, 'max_new_tokens': 4}
    with RosGraph(tmp_path) as graph:
        process, asker = start(graph, model_folder, **parameters)
        watcher = Watcher(asker)
        asker.show(active_cells=STILL)
        for changes, words in (
                ({'condition': 9}, 'condition is 9: give 0 (activity)'),
                ({'level': float('nan')}, 'level is nan'),
                ({'region': RegionOfInterest(width=28)}, 'is empty'),
                ({'region': RegionOfInterest(x_offset=120, width=28, height=28)},
                 'is not inside of the image of 140 x 112'),
                ({'region': RegionOfInterest(width=9, height=9, do_rectify=True)}, 'do_rectify'),
                ({'condition': 2, 'interval': 2.0, 'level': 1.0}, 'level is 1.0'),
                ({'condition': 2, 'interval': 0.1}, 'interval is 0.1'),
                ({'query': Query(question='?', query_id='mine')}, 'query.query_id is set'),
                ({'query': Query(question='?', seconds_ago=1.0)}, 'query.seconds_ago is set'),
                ({'query': Query(question=' ')}, 'empty'),
                ({'query': Query(question='?', keep_ratio=2.0)}, 'keep_ratio is 2.0')):
            refused = watcher.watch(**changes)
            assert not refused.success and words in refused.message, refused.message
            assert '\n' not in refused.message and refused.watch_id == ''
        assert not kept.exists()

        assert watcher.watch(region=CORNER, level=5.0, min_gap=0.3).watch_id == 'door'
        assert watcher.watch(watch_id='', condition=1, level=5.0).success
        assert watcher.watch(watch_id='far', region=RegionOfInterest(
            x_offset=112, y_offset=84, width=28, height=28)).success
        full = watcher.watch(watch_id='more')
        assert not full.success and 'max_watches is 3' in full.message

        asker.answers.clear()
        num_encoded = watcher.report('model')['num_encoded']
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            asker.show(active_cells=STILL)
        assert watcher.report('model')['num_encoded'] == num_encoded and asker.answers == []
        frame = asker.show()  # events in the first 28 x 28 pixels
        wait_until(lambda: len(asker.answers) == 2, 30, 'answers')
        assert {answer.watch_id for answer in asker.answers} == {'door', 'watch-1'}
        for answer in asker.answers:
            assert (answer.status, answer.question) == (Answer.OK, 'who comes?')
            assert answer.header == frame.header and answer.tokens_kept == 5
        # What was computed for one is there for the other.
        assert int(watcher.report('model')['num_encoded']) == int(num_encoded) + 1
        listed = watcher.call(ListWatches)
        assert [watch.watch_id for watch in listed.watches] == ['door', 'watch-1', 'far']
        assert listed.watches[0] == make_watch(region=CORNER, level=5.0, min_gap=0.3)
        assert list(listed.asked) == [1, 1, 0]
        values = watcher.report('watches')
        assert (values['num_watches'], values['num_asked']) == ('3', '2')

        assert watcher.call(Unwatch, watch_id='far').success
        unknown = watcher.call(Unwatch, watch_id='far')
        assert not unknown.success and "no watch 'far'" in unknown.message
        watcher.transition(4)
        asker.show()
        watcher.transition(3)
        assert list(watcher.call(ListWatches).asked) == [1, 1]
        asker.answers.clear()
        asker.show()
        assert wait_until(lambda: asker.answers, 30, 'an answer')[0].watch_id == 'door'
        assert process.stop() == 0 and 'Traceback' not in process.log.read_text()

    with RosGraph(tmp_path) as graph:
        _, asker = start(graph, model_folder, **parameters)
        watcher = Watcher(asker)
        listed = watcher.call(ListWatches)
        assert [watch.watch_id for watch in listed.watches] == ['door', 'watch-1']
        assert list(listed.asked) == [0, 0]
        asker.show(active_cells=STILL)
        asker.show()
        assert wait_until(lambda: asker.answers, 30, 'an answer')[0].watch_id == 'door'


def test_messages_come_back_as_they_went():
    message = make_watch(
        condition=1, level=2.5, region=CORNER, min_gap=3.0, max_rate=7.0, query=Query(
            question='who?', keep_ratio=0.5, max_new_tokens=9, deadline=2.0, choices=['a', 'b'],
            camera='rear', num_moments=3))
    assert to_message(to_standing_question(message, 'other')) == message
    assert to_standing_question(make_watch(watch_id=''), 'other').watch_id == 'other'
