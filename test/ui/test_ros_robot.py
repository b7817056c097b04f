"""What the page knows and does of a robot, over a real graph."""

import array
import asyncio
from contextlib import asynccontextmanager, ExitStack
import time

import cv2
from epvlm_interfaces.msg import Answer, EventGuidedFrame, StandingQuestion
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.ros.conversions import rgb_to_image
from epvlm_ros.ros.node_parameters import NodeParameters
from epvlm_ros.ros.qos import FRAMES
from epvlm_ros.ros.spinning_node import SpinningNode
from epvlm_ros.ui.requests import AskRequest, Question, SetRequest, WatchRequest
from epvlm_ros.ui.robot import RobotError
from epvlm_ros.ui.ros_robot import RosRobot
import numpy as np
import pytest
from ros_graph import claim_domain
from scripted_vlm_node import ScriptedVlmNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header

pytestmark = pytest.mark.ros
TIMEOUT_S = 20
# Nodes of the files before, in this process, may be in the graph until they are collected.
DOMAIN_ID, _lock = claim_domain()


class Listener:
    """Keeps what the robot says."""

    def __init__(self):
        self.answers, self.pictures, self.live, self.latest = [], [], [], {}

    def on_answer(self, answer):
        self.answers.append(answer)

    def on_answer_picture(self, stamp, jpeg):
        self.pictures.append((stamp, jpeg))

    def on_live_picture(self, camera, jpeg):
        self.live.append((camera, jpeg))

    def on_latest(self, kind, message):
        self.latest[kind] = message


@asynccontextmanager
async def connect(namespace='', **options):
    """Yield a robot that has found its vlm_node, a listener and that node."""
    with ExitStack() as stack:
        page = stack.enter_context(SpinningNode('epvlm_ui', DOMAIN_ID, namespace=namespace))
        # Nodes of a test before that had to be killed are in the graph until their lease ends.
        await until(lambda: not {'event_sync_node', 'vlm_node'}.intersection(
            page.node.get_node_names()), 40.0)
        vlm = stack.enter_context(ScriptedVlmNode(DOMAIN_ID, namespace, **options))
        robot, listener = RosRobot(
            page.node, asyncio.get_running_loop(), 'event_guided_frame', 20.0), Listener()
        robot.start(listener)
        robot.show_pictures({''}, True)
        await until(lambda: state_of(listener, 'vlm_node') not in (None, 'absent'))
        await until(lambda: vlm.overlays.get_subscription_count())
        await until(lambda: robot._action.server_is_ready())
        yield robot, listener, vlm


async def until(condition, timeout_s=TIMEOUT_S):
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, 'not in time'
        await asyncio.sleep(0.02)
    return value


def state_of(listener, name):
    nodes = {node['name']: node for node in listener.latest.get('nodes', {'nodes': []})['nodes']}
    return nodes[name]['state'] if name in nodes else None


def gauges(listener):
    return {gauge['name']: gauge['text'] for gauge in listener.latest['gauges']['gauges']}


def ask(robot, question, on_text=lambda text: None, cancelled=None, **fields):
    return robot.ask(
        AskRequest(1, Question(question, **fields)), on_text, cancelled or asyncio.Event())


def parameters(listener, node='/vlm_node'):
    groups = {group['node']: group for group in listener.latest['parameters']['nodes']}
    return {item['name']: item for item in groups[node]['parameters']}


def test_a_question_is_answered_with_its_picture():
    async def follow():
        async with connect() as (robot, listener, vlm):
            texts = []
            answer = await ask(
                robot, 'what?', texts.append, choices=('a', 'b'), seconds_ago=2.5, keep_ratio=0.25,
                max_new_tokens=7, deadline=1.5, camera='rear', num_moments=3)
            assert (answer['text'], answer['status']) == ('so far', 'OK')
            assert answer['flops_saved'] == 0.6 and answer['mean_log_probability'] is None
            assert answer['stamp'] == '1.000000005'
            (request,) = vlm.requests
            assert (request.seconds_ago, request.keep_ratio, request.max_new_tokens,
                    request.deadline, request.camera, list(request.choices),
                    request.num_moments) == (2.5, 0.25, 7, 1.5, 'rear', ['a', 'b'], 3)
            await until(lambda: listener.answers and listener.pictures)
            assert texts in ([], ['so '], ['so ', 'so far'])  # the result may overtake the last
            assert listener.answers[0]['text'] == 'so far'
            stamp, jpeg = listener.pictures[0]
            assert stamp == answer['stamp']
            assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1).shape == (12, 16, 3)
            await until(lambda: gauges(listener).get('FLOPs saved') == '60%')
    asyncio.run(follow())


def test_a_question_is_cancelled():
    async def follow():
        async with connect() as (robot, listener, vlm):
            texts, cancelled = [], asyncio.Event()
            asked = asyncio.create_task(ask(robot, 'wait', texts.append, cancelled))
            await until(lambda: texts and texts[-1] == 'so far')
            cancelled.set()
            answer = await asyncio.wait_for(asked, TIMEOUT_S)
            assert (answer['status'], answer['text']) == ('CANCELLED', 'so far')
    asyncio.run(follow())


def test_a_node_that_goes_away_is_told():
    async def follow():
        async with connect() as (robot, listener, vlm):
            vlm.report('model', {'state': 'active'})
            await until(lambda: state_of(listener, 'vlm_node') == 'active')
            assert state_of(listener, 'event_sync_node') == 'absent'
            asked = asyncio.create_task(ask(robot, 'wait'))
            await until(lambda: vlm.requests)
            vlm.close()
            with pytest.raises(RobotError, match='went away before the end'):
                await asyncio.wait_for(asked, TIMEOUT_S)
            await until(lambda: state_of(listener, 'vlm_node') == 'absent')
            with pytest.raises(RobotError, match='nobody answers questions'):
                await ask(robot, 'anybody?')
    asyncio.run(follow())


def test_watches_are_set_listed_and_ended():
    async def follow():
        async with connect() as (robot, listener, vlm):
            await robot.refresh()
            assert listener.latest['watches'] == {'fault': '', 'watches': []}
            watch_id = await robot.watch(WatchRequest(
                1, Question('who?'), 'appeared', level=2.0, min_gap=0.5, max_rate=6.0,
                region=(1, 2, 30, 40)))
            assert watch_id == 'watch-1'
            assert vlm.watches[watch_id].condition == StandingQuestion.APPEARED
            (shown,) = listener.latest['watches']['watches']
            assert shown == {
                'watch_id': 'watch-1', 'question': 'who?', 'camera': '', 'choices': [],
                'condition': 'appeared', 'level': 2.0, 'interval': 0.0, 'min_gap': 0.5,
                'max_rate': 6.0, 'region': [1, 2, 30, 40], 'asked': 3, 'held_back': 1}
            with pytest.raises(RobotError, match='the question is empty'):
                await robot.watch(WatchRequest(2, Question(''), 'activity'))
            with pytest.raises(RobotError, match="no watch 'x': see list_watches"):
                await robot.unwatch('x')
            vlm.watches.clear()  # what others did is seen with the next answer of a watch
            vlm.publish(Answer(watch_id='watch-1'))
            await until(lambda: not listener.latest['watches']['watches'])
    asyncio.run(follow())


def test_a_node_without_watches_is_no_fault_of_the_page():
    async def follow():
        async with connect(watches=False) as (robot, listener, vlm):
            await robot.refresh()
            assert 'there is no service list_watches' in listener.latest['watches']['fault']
            with pytest.raises(RobotError, match='there is no service watch'):
                await robot.watch(WatchRequest(1, Question('who?'), 'activity'))
    asyncio.run(follow())


def test_parameters_are_described_changed_and_refused():
    async def follow():
        async with connect() as (robot, listener, vlm):
            await robot.refresh()
            known = parameters(listener)
            assert known['keep_ratio'] == {
                'name': 'keep_ratio', 'value': 0.5, 'minimum': 0.01, 'maximum': 1.0, 'choices': [],
                'description': 'Fraction of the visual tokens of a frame to keep, which several '
                'frames of a question share; 1.0 is the dense model, all tokens of all frames.'}
            assert 'uniform' in known['selection']['choices']
            assert 'model' not in known and 'use_sim_time' not in known  # not while it runs
            await robot.set_parameter(SetRequest(1, '/vlm_node', 'keep_ratio', 1))
            assert vlm.node.get_parameter('keep_ratio').value == 1.0
            await until(lambda: parameters(listener)['keep_ratio']['value'] == 1.0)
            for node, name, value, words in (
                    ('/vlm_node', 'keep_ratio', 2.0, 'keep_ratio'),
                    ('/vlm_node', 'selection', 'best', "selection is 'best': give one of"),
                    ('/vlm_node', 'keep_ratio', 'much', 'type'),
                    ('/vlm_node', 'model', 'x', "no parameter 'model' that can change"),
                    ('/nobody', 'keep_ratio', 1.0, "no node '/nobody'")):
                with pytest.raises(RobotError, match=words):
                    await robot.set_parameter(SetRequest(2, node, name, value))
            assert parameters(listener)['keep_ratio']['value'] == 1.0
            vlm.node.set_parameters([rclpy_parameter('keep_ratio', 0.25)])  # by somebody else
            await until(lambda: parameters(listener)['keep_ratio']['value'] == 0.25)
    asyncio.run(follow())


def rclpy_parameter(name, value):
    from rclpy.parameter import Parameter

    return Parameter(name, value=value)


def test_live_pictures_are_drawn_while_somebody_looks():
    async def follow():
        async with connect('/front') as (robot, listener, vlm):
            frames = vlm.node.create_publisher(EventGuidedFrame, 'event_guided_frame', FRAMES)
            await until(frames.get_subscription_count)
            rgb = np.full((480, 1280, 3), 200, np.uint8)
            message = EventGuidedFrame(
                image=rgb_to_image(Header(), rgb), coverage=1.0, cell_size=16, rows=30, cols=80,
                pixel_density=1.0, activity=array.array('f', [0.0] * 1200 + [50.0] * 1200))
            message.window_end.nanosec = 1
            frames.publish(message)
            await until(lambda: listener.live)
            camera, jpeg = listener.live[0]
            picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)
            assert picture.shape == (360, 960, 3)
            upper, lower = picture[:170], picture[190:]
            assert (abs(upper.astype(int) - 200) < 3).all()  # as it was: no events
            assert (lower[..., 2] > lower[..., 0].astype(int) + 50).all()  # events: more red
            assert camera == '' and listener.latest['frames'] == {'sizes': {'': (480, 1280)}}
            robot.show_pictures(set(), False)
            await until(lambda: not frames.get_subscription_count())
            await until(lambda: not vlm.overlays.get_subscription_count())
    asyncio.run(follow())


def test_diagnostics_of_other_namespaces_are_not_ours():
    async def follow():
        async with connect('/front') as (robot, listener, vlm):
            with ScriptedVlmNode(DOMAIN_ID, '/rear') as other:
                await until(lambda: other._diagnostics.get_subscription_count())
                other.report('model', {'state': 'active'}, ['of another'])
                other.report('frames', {'age_s': 1.0})
                vlm.report('frames', {'age_s': 2.0}, ['stale'])
                await until(lambda: 'Frame age' in gauges(listener))
            assert gauges(listener)['Frame age'] == '2000 ms'
            assert listener.latest['nodes']['nodes'][1]['faults'] == ['frames: stale']
    asyncio.run(follow())


def test_pictures_of_several_cameras_come_from_their_topics():
    async def follow():
        async with connect() as (robot, listener, vlm):
            node = vlm.node
            frames = node.create_publisher(EventGuidedFrame, 'rear/event_guided_frame', FRAMES)
            overlays = node.create_publisher(Image, 'front/overlay', FRAMES)
            for camera in ('front', 'rear'):
                vlm.report(f'frames of {camera}', {'age_s': 0.1})
            robot.show_pictures({'rear'}, True)
            await until(lambda: listener.latest['nodes']['cameras'] == ['front', 'rear'])
            await until(frames.get_subscription_count)
            await until(overlays.get_subscription_count)
            rgb = np.zeros((48, 64, 3), np.uint8)
            frames.publish(EventGuidedFrame(image=rgb_to_image(Header(), rgb)))
            overlays.publish(rgb_to_image(Header(), rgb))
            await until(lambda: listener.live and listener.pictures)
            assert listener.live[0][0] == 'rear'
    asyncio.run(follow())


def test_each_camera_has_its_event_sync_node():
    async def follow():
        async with connect('/robot') as (robot, listener, vlm):
            for camera in ('front', 'rear'):
                vlm.report(f'frames of {camera}', {'age_s': 0.1})
            with SpinningNode('event_sync_node', DOMAIN_ID, namespace='/robot/rear') as rear:
                NodeParameters(rear.node, EventSyncConfig, on_change=lambda: None)
                await until(lambda: state_of(listener, 'rear/event_sync_node') == 'silent')
                assert state_of(listener, 'front/event_sync_node') == 'absent'
                assert state_of(listener, 'event_sync_node') is None
                await until(lambda: [
                    group['node'] for group in listener.latest['parameters']['nodes']] == [
                        '/robot/front/event_sync_node', '/robot/rear/event_sync_node',
                        '/robot/vlm_node'])
                await until(lambda: parameters(listener, '/robot/rear/event_sync_node'))
                await robot.set_parameter(SetRequest(
                    1, '/robot/rear/event_sync_node', 'window_length', 0.07))
                assert rear.node.get_parameter('window_length').value == 0.07
            # A vlm_node that starts anew with one camera.
            await until(lambda: state_of(listener, 'rear/event_sync_node') == 'absent', 40.0)
            vlm.forget_reports()
            vlm.report('frames', {'age_s': 0.1})
            await until(lambda: state_of(listener, 'event_sync_node') == 'absent')
            assert len(listener.latest['nodes']['nodes']) == 2
            await until(lambda: len(listener.latest['parameters']['nodes']) == 2)
    asyncio.run(follow())
