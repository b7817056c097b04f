"""Questions about several frames: frames, events and truth of one stream."""

from dataclasses import replace

from epvlm_ros.eval.motion import MotionConfig, MotionSet, stream_under
from epvlm_ros.sim.motion_questions import CHANGE_FAMILIES
from epvlm_ros.sim.questions import ONE_FRAME_FAMILIES
from epvlm_ros.sim.rearrangement import StreamConfig
import numpy as np
import pytest

SMALL = StreamConfig(
    image_height=60, image_width=80, sensor_height=60, sensor_width=80, changed_share=0.15)


def make(**settings):
    return MotionSet(MotionConfig(**{'num_questions': 14, 'stream': SMALL, **settings}))


def test_fewer_questions_are_the_first_ones():
    many, few = list(make()), list(make(num_questions=6))
    assert many[:6] == few and len(many) == 14
    assert {'moved', 'appeared', 'disappeared', 'did'} <= {case.family for case in many}
    assert make().describe() == make(num_questions=6).describe()
    assert make().describe() != make(num_moments=1).describe()


def test_moments_are_the_last_frames_of_the_stream():
    questions = make()
    case = next(iter(questions))
    three = questions.observe(case)
    one = make(num_moments=1).observe(case)
    assert len(three.earlier) == 2 and one.earlier == ()
    np.testing.assert_array_equal(three.rgb, one.rgb)
    np.testing.assert_array_equal(three.previous_rgb, three.earlier[1].rgb)
    np.testing.assert_array_equal(three.earlier[1].previous_rgb, three.earlier[0].rgb)
    assert (three.earlier[0].activity.window_end_ns, three.activity.window_end_ns) == (
        200_000_000, 400_000_000)


def test_the_latest_frame_can_be_asked_about_whatever_is_shown_before_it():
    three, one = (make(about='latest', num_moments=number) for number in (3, 1))
    cases = list(three)
    assert cases == list(one) and {case.family for case in cases} <= set(ONE_FRAME_FAMILIES)
    assert three.describe() != make().describe()
    case = cases[0]
    np.testing.assert_array_equal(three.observe(case).rgb, one.observe(case).rgb)
    assert len(three.observe(case).earlier) == 2


def test_events_show_what_moved_and_the_first_moment_is_at_rest():
    questions = make(stream=replace(SMALL, changed_share=0.3))
    cases = {case.image: case for case in questions}.values()
    num_first, num_later = [], []
    for case in list(cases)[:2]:
        seen = questions.observe(case)
        num_first.append(seen.earlier[0].activity.num_events / 0.2)
        num_later.append(seen.activity.num_events / 0.4)
    # at rest there is noise alone: at most 0.3 events a second of each of 4,800 pixels
    assert max(num_first) < 1440
    assert np.mean(num_later) > 2 * np.mean(num_first)


def test_before_a_moving_camera_all_is_asked_that_is_asked_before_a_still_one():
    questions = make(num_questions=40, stream=replace(SMALL, camera_moves=True))
    cases = list(questions)
    assert {case.family for case in cases} == set(CHANGE_FAMILIES)
    assert any(case.answer == 'it stood still' for case in cases)
    seen = questions.observe(cases[0])
    assert (seen.rgb != seen.previous_rgb).any(axis=2).mean() > 0.8


@pytest.mark.parametrize('settings, message', [
    ({'num_moments': 4}, '--moments is 4: give 1 to 3'), ({'num_questions': 0}, 'at least 1'),
    ({'split': 'randomised'}, "split is 'randomised': give one of train"),
    ({'about': 'first'}, "--about is 'first': give changes or latest")])
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MotionConfig(**settings)


def test_conditions_of_streams_are_scene_and_cameras():
    assert stream_under([]) == stream_under(['change_10']) == StreamConfig()
    assert stream_under(['moving_camera']) == replace(StreamConfig(), camera_moves=True)
    dark = stream_under(['dark_12'])
    assert dark.camera.light == 0.2 and replace(dark, camera=StreamConfig().camera) == (
        StreamConfig())


@pytest.mark.parametrize('names', [['dusk'], ['dark_5', 'dark_12'], ['shifted_5'],
                                   ['flicker_100'], ['bursts']])
def test_conditions_beyond_scene_and_cameras_are_refused(names):
    with pytest.raises(ValueError, match=f'--conditions {" ".join(names)}: give one of change_5'):
        stream_under(names)
