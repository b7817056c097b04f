"""A recording of real events, moved by a homography that is not told, gives it back."""

from damaged_bag import make_too_high, replace_in_message
from epvlm_ros.bag.calibrate import calibrate_bag
from epvlm_ros.bag.reader import BagReader
from epvlm_ros.bag.writer import BagWriter
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
import numpy as np
import pytest
from slider_depth_bag import EVENT_TOPIC, HEIGHT, IMAGE_TOPIC, make_slider_depth_bag, WIDTH


def moving(scale, angle_deg, shift, tilt=(0.0, 0.0)):
    """Return a homography about the middle of the sensor."""
    angle = np.radians(angle_deg)
    to_middle = np.eye(3)
    to_middle[:2, 2] = -(WIDTH - 1) / 2, -(HEIGHT - 1) / 2
    turn = np.array([
        [scale * np.cos(angle), -scale * np.sin(angle), shift[0]],
        [scale * np.sin(angle), scale * np.cos(angle), shift[1]], [*tilt, 1.0]])
    return np.linalg.inv(to_middle) @ turn @ to_middle


def mean_error_px(found, applied):
    """Return the mean distance, over the event pixels that see the image, from the truth."""
    truth = np.linalg.inv(applied)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    ends = [matrix @ points for matrix in (found, truth)]
    (u, v), (u_true, v_true) = (end[:2] / end[2] for end in ends)
    seen = (u_true > -0.5) & (u_true < WIDTH - 0.5) & (v_true > -0.5) & (v_true < HEIGHT - 0.5)
    assert seen.mean() > 0.7
    return np.hypot(u - u_true, v - v_true)[seen].mean()


@pytest.mark.long
def test_an_unknown_homography_is_found(shared_data, tmp_path):
    applied = moving(0.95, -3.0, (-10.0, 0.0), (2e-4, -1e-4))
    path = make_slider_depth_bag(
        shared_data / 'slider_depth', tmp_path / 'bag', homography=applied)
    with BagReader(path) as bag:
        measured = calibrate_bag(bag, num_frames=20)
    assert (measured.sensor_size, measured.image_size) == ((HEIGHT, WIDTH), (HEIGHT, WIDTH))
    result = measured.result
    assert mean_error_px(result.homography, applied) < 0.5
    # The residual says so: it neither hides an error nor invents one.
    assert 0.05 < result.residual_px < 0.8
    # The frames of this recording show what was some 7 ms after their stamps.
    assert result.window_offset_s == pytest.approx(0.007, abs=0.003)
    assert result.num_frames + result.num_held_out == 20
    assert result.correlation > 0.75


@pytest.mark.long
def test_too_short_a_recording_of_one_direction_is_refused(shared_data, tmp_path):
    path = make_slider_depth_bag(
        shared_data / 'slider_depth', tmp_path / 'bag', end_ns=600_000_000,
        homography=moving(1.05, 3.0, (6.0, -8.0)))
    with BagReader(path) as bag, pytest.raises(ValueError, match='may be .* px off .*: .*move'):
        calibrate_bag(bag, num_frames=8)


def write_bag(path, num_frames, event_stamp_s=0.0):
    """Write noise: every 40 ms a frame and a packet, its events in the last 30 ms of it."""
    random = np.random.default_rng(1)
    with BagWriter(path) as bag:
        for num in range(num_frames):
            time_ns = num * 40_000_000
            events = Events(
                random.integers(0, 40, 100).astype(np.uint16),
                random.integers(0, 30, 100).astype(np.uint16), np.ones(100, np.uint8),
                np.sort(random.integers(10_000, 40_000, 100)) * 1000 + time_ns)
            stamp_ns = time_ns + round(event_stamp_s * 1e9)
            payload = encode_evt3(events, start_ns=time_ns)
            bag.write_event_packet(
                EVENT_TOPIC, EventPacket(stamp_ns, 40, 30, num, 0, 'evt3', payload), time_ns)
            bag.write_image(
                IMAGE_TOPIC, time_ns, random.integers(0, 255, (30, 40), np.uint8), time_ns)
    return path


@pytest.mark.parametrize(('num_frames', 'event_stamp_s', 'message'), [
    (9, 0.0, 'has 9 frames: record 10 or more'),
    (20, 1000.0, 'no events around any of 18 frames: the stamps .* one clock')])
def test_recordings_of_no_use(tmp_path, num_frames, event_stamp_s, message):
    with BagReader(write_bag(tmp_path / 'bag', num_frames, event_stamp_s)) as bag:
        with pytest.raises(ValueError, match=message):
            calibrate_bag(bag)


def test_mistakes_of_the_caller(tmp_path):
    with BagReader(write_bag(tmp_path / 'bag', 20)) as bag:
        with pytest.raises(ValueError, match='7 frames: give 8 or more'):
            calibrate_bag(bag, num_frames=7)
        with pytest.raises(ValueError, match='window length is 0.0 s'):
            calibrate_bag(bag, window_length_s=0.0)
        with pytest.raises(ValueError, match='/none'):
            calibrate_bag(bag, image_topic='/none')


def collect_frames(path, monkeypatch, num_frames):
    """Return the frames that the calibration is given."""
    seen = []

    def spy(frames, sensor_size, window_length_s, progress):
        seen.extend(frames)
        raise ValueError('seen enough')

    monkeypatch.setattr('epvlm_ros.bag.calibrate.calibrate', spy)
    with BagReader(path) as bag, pytest.raises(ValueError, match='seen enough'):
        calibrate_bag(bag, num_frames=num_frames)
    return seen


def test_messages_that_cannot_be_used_are_left_out_and_named(tmp_path, monkeypatch, caplog):
    path = write_bag(tmp_path / 'bag', 30)
    for number in (5, 17):
        make_too_high(path, IMAGE_TOPIC, number, 30, 40)
    # longer than the whole message
    replace_in_message(path, EVENT_TOPIC, 9, b'\x05\0\0\0evt3', b'\xff\xff\0\0evt3')
    seen = collect_frames(path, monkeypatch, 26)
    assert len(seen) == 26
    assert sorted({round(frame.seconds_after, 3) for frame in seen}) == [0.04, 0.08]
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 2
    assert f'{IMAGE_TOPIC} at 0.200 s is left out' in named[0] and '40 x 31 pixels' in named[0]
    assert f'{EVENT_TOPIC} at 0.360 s is left out' in named[1]


def test_every_frame_has_the_events_around_its_own_stamp(tmp_path, monkeypatch):
    seen = collect_frames(write_bag(tmp_path / 'bag', 30), monkeypatch, 28)
    assert len(seen) == 28
    with BagReader(tmp_path / 'bag') as bag:
        images = [image.rgb[..., 0] for image in bag.images()]
    for num, frame in enumerate(seen, 1):
        for name, picture in zip(('before', 'grey', 'after'), images[num - 1:num + 2]):
            np.testing.assert_array_equal(getattr(frame, name), picture)
        assert (frame.seconds_before, frame.seconds_after) == (0.04, 0.04)
        assert np.all(np.diff(frame.t_s) >= 0)
        # About 2500 events a second, within 0.13 s on both sides where there are any.
        expected = 2500 * (min(0.13, num * 0.04) + min(0.13, (30 - num) * 0.04))
        assert frame.x.size == pytest.approx(expected, rel=0.12)
        assert abs(frame.t_s).max() <= 0.13
        # Packets are stamped with their start, and that is where the frames are, too.
        assert np.all((frame.t_s + 1e-9) % 0.04 >= 0.01)
