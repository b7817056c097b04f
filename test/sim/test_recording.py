"""Recordings: stamps, clocks and contents as cameras would give them, and the truth about them."""

import hashlib
import json

from epvlm_ros.bag.reader import BagReader
from epvlm_ros.events.packet_codecs import make_decoder
from epvlm_ros.sim.cameras import CameraConfig
from epvlm_ros.sim.questions import FAMILIES
from epvlm_ros.sim.recording import (
    frame_times_ns, record_simulation, RecordingConfig, TRUTH_FILE, TruthQuestion)
import numpy as np
import pytest

pytestmark = pytest.mark.long

SMALL = {
    'seed': 4, 'duration_s': 0.5, 'image_height': 96, 'image_width': 128, 'sensor_height': 48,
    'sensor_width': 64, 'num_objects': 3, 'camera_moves': True,
    'camera': CameraConfig(exposure_s=0.01)}
START_NS = RecordingConfig().start_stamp_ns


@pytest.fixture(scope='module', params=['sqlite3', 'mcap'])
def recording(request, tmp_path_factory):
    """Return the folder of a small recording and what record_simulation returned."""
    folder = tmp_path_factory.mktemp('recording') / 'bag'
    return folder, record_simulation(folder, storage=request.param, **SMALL)


def test_packets_are_stamped_at_arrival_and_carry_sensor_time(recording):
    config = RecordingConfig(**SMALL)
    decoder = make_decoder('evt3', 64, 48)
    records = []
    with BagReader(recording[0]) as reader:
        assert reader.event_topics == ['/event_camera/events']
        for message in reader.messages(['/event_camera/events']):
            records.append(message.record_time_ns)
        packets = list(reader.event_packets())
    assert len(packets) == 125  # of 4 ms in 0.5 s
    delays_ns, num_events = [], 0
    for number, packet in enumerate(packets):
        assert (packet.seq, packet.width, packet.height) == (number, 64, 48)
        true_ns = number * 4_000_000
        delays_ns.append(packet.stamp_ns - START_NS - true_ns)
        events = decoder.decode(packet).events
        sensor_ns = np.array([true_ns, true_ns + 4_000_000]) * (1 + 30e-6) + config.sensor_epoch_ns
        assert (events.t_ns >= sensor_ns[0] - 1000).all()
        assert (events.t_ns < sensor_ns[1]).all()
        num_events += len(events.t_ns)
    assert num_events == decoder.counters.num_events > 1000
    assert decoder.counters.num_unknown_words == decoder.counters.num_before_time == 0
    assert min(delays_ns) >= 400_000 and max(delays_ns) <= 4_400_000
    assert np.std(delays_ns) > 100_000
    # What is recorded has arrived in whole, and in order.
    ends_ns = [START_NS + (number + 1) * 4_000_000 for number in range(125)]
    assert (np.array(records) > np.array(ends_ns)).all()
    assert (np.diff(records) > 0).all()


def test_images_are_stamped_at_the_start_of_exposure_and_arrive_later(recording):
    config = RecordingConfig(**SMALL)
    with BagReader(recording[0]) as reader:
        records = [item.record_time_ns for item in reader.messages(['/camera/image_raw'])]
        images = list(reader.images())
    stamps = [image.stamp_ns - START_NS for image in images]
    assert stamps == frame_times_ns(config)
    assert len(stamps) == 14  # 30 Hz; an exposure in the last 10 ms would end too late
    np.testing.assert_allclose(np.diff(stamps), 1e9 / 30, atol=1)
    lateness = np.array(records) - START_NS - np.array(stamps)
    assert lateness.min() >= 22_000_000 and lateness.max() <= 23_000_001
    assert all(image.rgb.shape == (96, 128, 3) for image in images)
    assert np.abs(images[0].rgb.astype(int) - images[-1].rgb).max() > 50  # something moved


def test_truth_is_written_beside_the_recording(recording):
    folder, truth = recording
    report = json.loads((folder / TRUTH_FILE).read_text())
    assert [TruthQuestion(**item) for item in report['questions']] == truth
    assert report['camera_moves'] is True and len(report['objects']) == 3
    assert set(report['objects'][0]) == {
        'shape', 'colour', 'symbol', 'appears_s', 'moves', 'turns'}
    with BagReader(folder) as reader:
        stamps = [image.stamp_ns for image in reader.images()]
    for item in truth:
        assert item.family in FAMILIES and item.question[-1] in '?.'
        assert item.stamp_ns == stamps[7]
        assert item.valid_from_ns in stamps and item.valid_until_ns in stamps
        assert item.valid_from_ns <= item.stamp_ns <= item.valid_until_ns
        whole = (item.valid_from_ns, item.valid_until_ns) == (stamps[0], stamps[-1])
        assert item.always_valid == whole
    answer = {item.question: item.answer for item in truth if item.family == 'count'}
    assert all(answers in ('zero', 'one', 'two', 'three') for answers in answer.values())
    always = [item.always_valid for item in truth]
    assert always == sorted(always, reverse=True)


def digest(folder):
    with BagReader(folder) as reader:
        contents = [(item.topic, item.record_time_ns, bytes(item.data))
                    for item in reader.messages()]
    return hashlib.sha256(repr(contents).encode()).hexdigest()


def test_equal_settings_give_equal_recordings(tmp_path):
    small = {**SMALL, 'duration_s': 0.1}
    record_simulation(tmp_path / 'first', **small)
    record_simulation(tmp_path / 'again', **small)
    record_simulation(tmp_path / 'other', **{**small, 'seed': 5})
    assert digest(tmp_path / 'first') == digest(tmp_path / 'again')
    assert digest(tmp_path / 'first') != digest(tmp_path / 'other')


@pytest.mark.parametrize('settings, message', [
    ({'duration_s': 0.0}, 'duration_s is 0.0: give more than 0'),
    ({'camera': CameraConfig(exposure_s=0.05)}, 'the time between frames'),
    ({'sensor_width': 240}, 'give sizes of one aspect ratio')])
def test_impossible_settings_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        record_simulation(tmp_path / 'bag', **settings)
    assert not (tmp_path / 'bag').exists()


def test_an_existing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match='exists already'):
        record_simulation(tmp_path, **SMALL)
