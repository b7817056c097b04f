"""The simulated benchmark: its questions, images and events, and events of still images."""

from collections import Counter
from dataclasses import replace

import cv2
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.eval.groups import MOVING_GROUP, STILL_GROUP, TWIN_GROUP
from epvlm_ros.eval.simulated import is_about_still, SimulatedSet, SimulationConfig
from epvlm_ros.eval.still_image_events import activity_of_events, still_image_activity
from epvlm_ros.events.packet import Events
from epvlm_ros.sim.event_simulator import EventCameraConfig
from epvlm_ros.sim.questions import (
    FAMILIES, Name, ONE_FRAME_FAMILIES, Question, snapshot_scene)
from epvlm_ros.sim.sampling import sample_scene
import numpy as np
import pytest

pytestmark = pytest.mark.long

GOOD_LIGHT_GROUPS = (STILL_GROUP, MOVING_GROUP, TWIN_GROUP)
SILENT = EventCameraConfig(
    threshold_mismatch=0.0, leak_rate_hz=0.0, shot_noise_rate_hz=0.0, refractory_s=0.0)


def test_fewer_questions_are_the_first_ones():
    many, few = (list(SimulatedSet(SimulationConfig(num_questions=n))) for n in (100, 37))
    assert many[:37] == few and len(many) == 100
    assert [case.number for case in many] == list(range(1, 101))
    assert {case.family for case in many} == set(FAMILIES)
    # one of every family for each image at most, images one after the other
    assert max(Counter((case.image, case.family) for case in many).values()) == 1
    images = [int(case.image) for case in many]
    assert images == sorted(images)
    assert SimulatedSet(SimulationConfig(num_questions=100)).describe() == \
        SimulatedSet(SimulationConfig(num_questions=37)).describe()


def test_training_never_sees_the_scenes():
    questions = SimulatedSet(SimulationConfig())
    case = next(iter(questions))
    tested, trained = (sample_scene(split, int(case.image), aspect_ratio=4 / 3)
                       for split in ('test', 'train'))
    assert questions._scene(int(case.image))[0].background.tolist() == tested.background.tolist()
    assert tested.background.tolist() != trained.background.tolist()


@pytest.fixture(scope='module')
def scene():
    """Return a scene with a still object, a moving and a turning one, the camera at rest."""
    found = sample_scene('test', 0, num_objects=3, camera_moves=False)
    assert found.num_objects == 3
    return replace(
        found, shape=np.array([0, 1, 2, 0, 0, 0]), colour=np.array([0, 1, 2, 0, 0, 0]),
        orbit_radius=np.array([0, 0.1, 0, 0, 0, 0], np.float32),
        spin=np.array([0, 0, 2.0, 0, 0, 0], np.float32))


@pytest.mark.parametrize('question, still', [
    (Question('colour', 'colour', '', Name(shape=0)), True),
    (Question('colour', 'colour', '', Name(shape=1)), False),
    (Question('colour', 'colour', '', Name(shape=2)), False),
    (Question('relation', 'relation', '', Name(shape=0), Name(shape=1), 'left'), False),
    (Question('relation', 'relation', '', Name(shape=0), Name(colour=0), 'left'), True),
    (Question('existence', 'existence', '', Name(shape=5)), False),  # is about all there is
    (Question('description', 'description', '', Name(shape=0)), False),  # names none
    (Question('unknown', 'unknown', '', Name(shape=0)), False),
    (Question('still', 'still', '', Name(shape=0)), False)])
def test_what_a_question_is_about_stands_still(scene, question, still):
    assert is_about_still(question, snapshot_scene(scene, 3.0)) == still
    moving_camera = replace(scene, camera=np.array([0.02, 5.0, 0.0], np.float32))
    assert not is_about_still(question, snapshot_scene(moving_camera, 3.0))
    nothing_moves = replace(
        scene, orbit_radius=np.zeros(6, np.float32), spin=np.zeros(6, np.float32))
    is_about_objects = question.family not in ('unknown', 'still')
    assert is_about_still(question, snapshot_scene(nothing_moves, 3.0)) == is_about_objects


def test_events_and_frame_difference_are_where_something_moves():
    questions = SimulatedSet(SimulationConfig(num_questions=400))
    still = next(case for case in questions
                 if case.group == STILL_GROUP and case.family == 'description')
    moving = next(
        case for case in questions if questions._scene(int(case.image))[0].camera_moves)
    observations = {
        name: questions.observe(case) for name, case in (('still', still), ('moving', moving))}
    for observation in observations.values():
        assert observation.rgb.shape == observation.previous_rgb.shape == (480, 640, 3)
        assert 0.005 < observation.object_mask.mean() < 0.5
        assert observation.activity.window_end_ns == 40_000_000
        assert observation.activity.pixel_density == 0.25
        # the mask is where the objects are: they differ from the ground about them
        inside = observation.object_mask
        assert observation.rgb[inside].std() > observation.rgb[~inside].std()
    # shot noise alone: 0.2 events per pixel and second on 76,800 pixels in 40 ms are 614
    assert 500 < observations['still'].activity.num_events < 730
    assert observations['moving'].activity.num_events > 2000
    change = {name: np.abs(observation.rgb.astype(int) - observation.previous_rgb).mean()
              for name, observation in observations.items()}
    assert change['moving'] > 1.3 * change['still']
    again = questions.observe(still)
    np.testing.assert_array_equal(again.rgb, observations['still'].rgb)
    np.testing.assert_array_equal(again.activity.counts, observations['still'].activity.counts)


@pytest.mark.parametrize('frames, answer, darkest, brightest', [
    ('black', 'it is too dark to see', 0, 25), ('white', 'it is too bright to see', 255, 255),
    ('grey', None, 128, 128)])
def test_frames_that_show_nothing(frames, answer, darkest, brightest):
    ordinary = SimulatedSet(SimulationConfig(num_questions=200))
    empty = SimulatedSet(SimulationConfig(num_questions=60, frames=frames))
    asked = [case for case in ordinary if case.family in ONE_FRAME_FAMILIES][:60]
    assert [case.question for case in empty] == [case.question for case in asked]
    expected = [case.answer if answer is None else answer for case in asked]
    assert [case.answer for case in empty] == expected
    case = next(iter(empty))
    seen, found = ordinary.observe(case), empty.observe(case)
    np.testing.assert_array_equal(found.activity.counts, seen.activity.counts)
    for picture in (found.rgb, found.previous_rgb):
        assert (picture.shape, picture.dtype) == (seen.rgb.shape, np.uint8)
        assert picture.min() == darkest and brightest - 15 < picture.max() <= brightest
    # only noise differs from frame to frame
    assert (found.rgb != found.previous_rgb).any() == (frames == 'black')
    np.testing.assert_array_equal(empty.observe(case).rgb, found.rgb)
    assert empty.describe() != ordinary.describe()


def test_a_small_motion_over_an_image_makes_events_at_its_edges():
    image = np.full((240, 320, 3), 60, np.uint8)
    image[80:160, 120:200] = 200
    activity = still_image_activity(image, config=SILENT)
    assert isinstance(activity, ActivityGrid) and activity.counts.shape == (60, 80)
    near = np.zeros((240, 320), bool)
    near[75:165, 115:205] = True
    near[87:153, 127:193] = False  # up to 4 px of motion on one side, and interpolation
    cells = near.reshape(60, 4, 80, 4).any(axis=(1, 3))
    assert not activity.counts[~cells].any()
    # log(200/60) * 2.2 / 0.2 = 13 thresholds, there and back, along 4 x 80 px, about 2 px deep
    assert 0.5 < activity.num_events / (2 * 13 * 4 * 80 * 2) < 2.0
    flat = still_image_activity(np.full((240, 320, 3), 60, np.uint8), config=SILENT)
    assert flat.num_events == 0
    at_rest = still_image_activity(image, config=SILENT, radius_px=0.0)
    assert at_rest.num_events == 0


@pytest.mark.parametrize('height, width', [(37, 61), (2000, 1000), (28, 28)])
def test_images_of_any_size_have_events(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    activity = still_image_activity(image)
    assert (activity.image_height, activity.image_width) == (height, width)
    sensor = np.array([height, width]) * 320 / max(height, width)
    assert activity.pixel_density == pytest.approx(
        np.round(sensor).prod() / (height * width), rel=1e-6)
    assert activity.num_events > 100


def test_events_fall_into_the_cell_of_their_pixel():
    events = Events(*(np.array(part) for part in (
        [0, 1, 2, 319, 319], [0, 0, 0, 239, 0], [0] * 5, range(5))))
    activity = activity_of_events(events, (240, 320), (480, 640), 0.04)
    expected = np.zeros((120, 160))
    expected[0, 0], expected[0, 1], expected[119, 159], expected[0, 159] = 2, 1, 1, 1
    np.testing.assert_array_equal(activity.counts, expected)
    assert activity.pixel_density == 0.25


@pytest.mark.parametrize(
    'settings', [{'num_questions': 0}, {'events': 'none'}, {'split': 'holiday'},
                 {'frames': 'pink'}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f'{next(iter(settings))} is .*: give'):
        SimulationConfig(**settings)


def test_randomised_scenes_are_seen_by_their_own_cameras():
    questions = SimulatedSet(SimulationConfig(num_questions=600, split='randomised'))
    cases = list(questions)
    groups = {case.image: {other.group for other in cases if other.image == case.image}
              for case in cases}
    in_the_dark = [image for image, found in groups.items() if found == {'dark'}]
    assert 3 < len(in_the_dark) < 0.4 * len(groups)
    in_light = [found for found in groups.values() if found & set(GOOD_LIGHT_GROUPS)]
    assert len(in_light) > 0.2 * len(groups)
    assert all(found <= set(GOOD_LIGHT_GROUPS) for found in in_light)

    def noise(image):
        observation = questions.observe(next(case for case in cases if case.image == image))
        grey = observation.rgb.astype(float).mean(axis=2)
        return np.median(np.abs(grey[2:, 2:] - 2 * grey[1:-1, 1:-1] + grey[:-2, :-2]))

    others = [image for image, found in groups.items() if found <= set(GOOD_LIGHT_GROUPS)]
    assert np.median([noise(image) for image in in_the_dark[:3]]) > \
        2 * np.median([noise(image) for image in others[:3]])


def test_photographs_are_described_by_what_they_are(tmp_path):
    for name in ('here', 'there'):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / 'one.png'), np.zeros((30, 40, 3), np.uint8))
    described = [SimulatedSet(SimulationConfig(
        split='randomised', photographs=str(tmp_path / name))).describe()
        for name in ('here', 'there')]
    assert described[0] == described[1]
    assert described[0] != SimulatedSet(SimulationConfig(split='randomised')).describe()
    with pytest.raises(ValueError, match='photographs is .* give one of randomised'):
        SimulationConfig(photographs=str(tmp_path))
