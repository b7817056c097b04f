"""The file of a measured registration comes back as it was written, or says what is wrong."""

from epvlm_ros.events.registration import (
    HomographyFile, load_homography_file, load_registration, save_registration)
import numpy as np
import pytest
import yaml

CONTENT = HomographyFile(
    np.array([[1.01, 0.02, -3.0], [-0.02, 0.99, 4.125], [1e-5, 2e-5, 1.0]]), (180, 240),
    (480, 640), 0.31, 24, 0.0075, '2026-03-01T12:00:00+00:00')


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'registration.yaml'
    save_registration(path, CONTENT)
    return path


def test_everything_comes_back(path):
    content = load_homography_file(path)
    np.testing.assert_array_equal(content.homography, CONTENT.homography)
    for name in ('sensor_size', 'image_size', 'residual_px', 'num_frames', 'window_offset_s',
                 'date'):
        assert getattr(content, name) == getattr(CONTENT, name)


def test_the_date_is_today_where_none_is_given(tmp_path):
    path = tmp_path / 'registration.yaml'
    save_registration(path, HomographyFile(np.eye(3), (4, 4), (4, 4), 0.0, 1))
    assert load_homography_file(path).date.startswith('20')


@pytest.mark.parametrize(('key', 'value'), [
    ('homography', None), ('homography', [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ('homography', [[1, 0, 0], [0, 1, 0]]), ('homography', [[1, 0, 0], [0, 1, 0], [0, 0]]),
    ('homography', [[1, 0, 0], [0, float('nan'), 0], [0, 0, 1]]),
    ('homography', [[1, 0, 0], [0, 'one', 0], [0, 0, 1]]),
    ('homography', [[1, 0, 0], [2, 0, 0], [0, 0, 1]]),
    ('sensor_size', [180, 240]), ('sensor_size', {'height': 180}),
    ('sensor_size', {'height': 0, 'width': 240}), ('sensor_size', {'height': 1.5, 'width': 240}),
    ('image_size', {'height': True, 'width': 240}), ('image_size', 'large'),
    ('residual_px', -1), ('residual_px', float('inf')), ('residual_px', 'small'),
    ('num_frames', 0), ('num_frames', True), ('window_offset', None)])
def test_a_wrong_value_names_file_key_and_remedy(path, key, value):
    data = yaml.safe_load(path.read_text())
    data[key] = value
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ValueError, match=rf'registration\.yaml: key {key}') as caught:
        load_registration(path)
    assert 'epvlm calibrate' in str(caught.value) or 'not invertible' in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('key', [
    'homography', 'sensor_size', 'image_size', 'residual_px', 'num_frames', 'window_offset',
    'date'])
def test_a_missing_key(path, key):
    data = yaml.safe_load(path.read_text())
    del data[key]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ValueError, match=f'registration.yaml has no key {key}: .*calibrate'):
        load_registration(path)


@pytest.mark.parametrize(('content', 'message'), [
    (b'', 'no keys'), (b'- 1\n- 2\n', 'no keys'), (b'a: [1, 2\nb: }', 'not YAML'),
    (b'\xff\xfe\x80', 'not YAML'), (b'!!python/object/apply:os.getcwd []', 'not YAML')])
def test_files_of_something_else(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'registration.yaml .*{message}.*calibrate') as caught:
        load_registration(path)
    assert '\n' not in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(ValueError, match='cannot read .*nothing.yaml.*epvlm calibrate'):
        load_registration(tmp_path / 'nothing.yaml')
    with pytest.raises(ValueError, match='cannot read'):
        load_registration(tmp_path)
    with pytest.raises(ValueError, match='cannot write .*is its folder there'):
        save_registration(tmp_path / 'no' / 'folder.yaml', CONTENT)


def test_numbers_without_a_point_are_read(path):
    # YAML 1.1 takes 1e-05 to be text; other programs write it so.
    text = path.read_text()
    assert '1.0e-05' in text and '0.0075' in text
    path.write_text(text.replace('1.0e-05', '1e-05').replace('0.0075', '7.5E-3').replace(
        'residual_px: 0.31', 'residual_px: +31e-2'))
    content = load_homography_file(path)
    np.testing.assert_array_equal(content.homography, CONTENT.homography)
    assert (content.window_offset_s, content.residual_px) == (0.0075, 0.31)
