"""Several cameras of one node: queries name theirs, and none is answered about another one."""

import random
import statistics
import time

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import Answer, Query, StandingQuestion
from epvlm_interfaces.srv import Watch
import pytest
from ros_graph import RosGraph, wait_until
from vlm_asker import Asker, save_endless_model

CAMERAS = ('front', 'rear')


@pytest.fixture(scope='module')
def askers(tmp_path_factory):
    """Return those who show frames of each camera; the first one also asks."""
    folder = save_endless_model(tmp_path_factory.mktemp('model'))
    with RosGraph(tmp_path_factory.mktemp('graph')) as graph:
        process = graph.start('vlm_node', parameters={
            'model': folder, 'max_new_tokens': 2, 'device': 'cpu', 'num_threads': 1,
            'max_frame_age': 3600.0, 'cameras': "'front rear'"})
        askers = {camera: Asker(graph, f'{camera}/event_guided_frame', f'{camera}/overlay')
                  for camera in CAMERAS}
        for asker in askers.values():
            asker.wait_for_node(process)
        yield askers


@pytest.fixture
def asker(askers):
    return askers['front']


def show(askers, **fields):
    """Show a frame of each camera, which has its name, and return them by camera."""
    return {camera: asker.show(frame_id=camera, **fields) for camera, asker in askers.items()}


def test_a_camera_is_named_or_the_query_is_told_the_names(askers, asker):
    frames = show(askers)
    for camera in CAMERAS:
        answer = asker.ask('what moves?', camera=camera)
        assert (answer.status, answer.camera) == (Answer.OK, camera)
        assert answer.header == frames[camera].header
    missing = asker.ask('what moves?')
    assert missing.status == Answer.INVALID
    assert missing.message == 'the query names no camera: give one of front, rear'
    unknown = asker.ask('what moves?', camera='le\nft')
    assert unknown.status == Answer.INVALID and unknown.camera == ''
    assert unknown.message == r"camera is 'le\\nft': give one of front, rear"


def test_each_camera_has_its_past(askers, asker):
    then, now = show(askers, age_s=2.0), show(askers)
    for camera in CAMERAS:
        past = asker.ask('what moves?', camera=camera, at=then[camera].header.stamp)
        assert past.header == then[camera].header
        assert asker.ask('what moves?', camera=camera).header == now[camera].header


def test_each_camera_has_its_earlier_frames(askers, asker):
    show(askers, age_s=0.6)
    latest = {'front': show(askers)['front'], 'rear': askers['rear'].show(frame_id='turned')}
    for camera, num_moments in (('front', 2), ('rear', 1)):  # the rear one began anew
        answer = asker.ask('what moves?', camera=camera, num_moments=2)
        assert (answer.status, answer.moments) == (Answer.OK, num_moments)
        assert answer.header == latest[camera].header
        assert asker.ask('what moves?', camera=camera).moments == 1


def test_each_camera_has_its_overlay(askers, asker):
    frames = show(askers)
    for each in askers.values():
        each.subscribe_to_overlays()
    wait_until(lambda: asker.ask('what moves?', camera='rear') and askers['rear'].overlays,
               20, 'overlay')
    assert askers['rear'].overlays[0].header == frames['rear'].header
    assert askers['front'].overlays == []


def test_each_camera_has_its_diagnostics(askers, asker):
    reports = []
    asker.node.create_subscription(DiagnosticArray, '/diagnostics', reports.append, 10)
    show(askers)
    report = wait_until(lambda: reports and reports[-1], 20, 'a report')
    names = {status.name for status in report.status}
    assert {'vlm_node: frames of front', 'vlm_node: frames of rear'} <= names


def ask_all(askers, num_queries, num_open=4):
    """Ask so many questions of each camera, some at a time; return waiting times by camera."""
    asker = askers['front']
    shown = {camera: frame.header for camera, frame in show(askers).items()}
    waits = {camera: [] for camera in CAMERAS}
    todo = {camera: num_queries for camera in CAMERAS}
    waiting = []
    order = random.Random(5)
    while any(todo.values()) or waiting:
        for camera in order.sample(CAMERAS, len(CAMERAS)):
            num_waiting = sum(one == camera for one, _, _ in waiting)
            if todo[camera] and num_waiting < num_open:
                todo[camera] -= 1
                waiting.append((camera, time.monotonic(), asker.ask_async(
                    f'what moves {todo[camera]}?', camera=camera, query_id=camera)))
        wait_until(lambda: any(future.done() for _, _, future in waiting), 60, 'an answer')
        now_s = time.monotonic()
        for camera, start_s, future in [one for one in waiting if one[2].done()]:
            answer = future.result().answer
            assert answer.status == Answer.OK, answer.message
            assert answer.query_id == answer.camera == camera
            assert answer.header == shown[camera]
            waits[camera].append(now_s - start_s)
        waiting = [one for one in waiting if not one[2].done()]
    return waits


@pytest.mark.parametrize('num_queries', [25, pytest.param(200, marks=pytest.mark.slow)])
def test_cameras_wait_equally_long_and_none_gets_an_answer_of_the_other(askers, num_queries):
    waits = ask_all(askers, num_queries)
    means = sorted(statistics.fmean(times_s) for times_s in waits.values())
    print(f'mean waiting times of {num_queries} queries each: '
          + ', '.join(f'{1e3 * mean_s:.1f} ms' for mean_s in means))
    assert [len(times_s) for times_s in waits.values()] == [num_queries] * 2
    assert means[1] <= 1.2 * means[0]


def test_a_camera_that_is_asked_much_does_not_keep_the_other_waiting(askers, asker):
    show(askers)
    goal = asker.send_goal('talk on', camera='front', max_new_tokens=400)
    wait_until(lambda: goal.texts, 30, 'the first text')
    done = []
    for number in range(6):
        future = asker.ask_async('what moves?', camera='front')
        future.add_done_callback(lambda _, number=number: done.append(f'front {number}'))
    wait_for = asker.ask_async('what moves?', camera='rear')
    wait_for.add_done_callback(lambda _: done.append('rear'))
    wait_until(lambda: len(done) == 7, 60, 'all answers')
    assert done.index('rear') <= 1  # the goal was of the front camera: the rear one is next


def test_a_watch_is_of_one_camera(askers, asker):
    client = asker.node.create_client(Watch, 'watch')
    assert client.wait_for_service(20)

    def watch(camera):
        future = client.call_async(Watch.Request(watch=StandingQuestion(
            query=Query(question='what moves?', camera=camera), interval=0.01, max_rate=6000.0,
            condition=StandingQuestion.INTERVAL)))
        return wait_until(lambda: future.done() and future.result(), 20, 'the watch')

    assert 'names no camera: give one of front, rear' in watch('').message
    assert "camera is 'left'" in watch('left').message
    made = watch('rear')
    assert made.success, made.message
    asker.answers.clear()
    frame = askers['rear'].show(frame_id='rear')
    answer = wait_until(lambda: asker.answers, 30, 'the answer of the watch')[0]
    assert (answer.watch_id, answer.camera, answer.header) == (made.watch_id, 'rear', frame.header)
    asker.answers.clear()
    askers['front'].show(frame_id='front')
    asker.ask('what moves?', camera='front')  # what the watch asks would come before
    assert [answer.watch_id for answer in asker.answers if answer.watch_id] == []
