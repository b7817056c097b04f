"""The command line as a user calls it, on real recordings."""

import json
import subprocess
import sys

import cv2
from epvlm_ros.cli import main
from epvlm_ros.events.registration import load_homography_file
import numpy as np
import pytest
from slider_depth_bag import make_slider_depth_bag


def epvlm(*arguments):
    return subprocess.run(
        [sys.executable, '-m', 'epvlm_ros.cli', *map(str, arguments)], capture_output=True,
        text=True, timeout=120)


@pytest.fixture(scope='module')
def slider_bag(slider_depth, tmp_path_factory):
    target = tmp_path_factory.mktemp('bags') / 'slider'
    return make_slider_depth_bag(slider_depth, target, storage='mcap')


@pytest.mark.process
def test_bag_info_prints_json_that_equals_the_reference_decoder(shared_data):
    golden = json.loads((shared_data / 'golden.json').read_text())['evt3_trigger_1280x720']
    result = epvlm('bag-info', shared_data / 'evt3_trigger_1280x720')
    assert result.returncode == 0, result.stderr
    topic, = json.loads(result.stdout)['event_topics'].values()
    assert {key: topic[key] for key in golden} == golden


@pytest.mark.process
def test_ask_answers_about_a_moment_and_draws_it(slider_bag, tmp_path):
    overlay = tmp_path / 'overlay.png'
    result = epvlm('ask', slider_bag, '--question', 'what do you see?', '--at', '1.5', '--keep',
                   '0.25', '--overlay', overlay, '--json')
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report['status'] == 'OK' and report['answer']
    assert report['tokens'] == report['rows'] * report['cols']
    assert report['tokens_kept'] == len(report['kept']) == round(0.25 * report['tokens'])
    assert report['kept'] == sorted(set(report['kept']))
    # The camera sends 25.8 frames a second: the closest one is at most 20 ms away.
    assert abs(report['frame_stamp_ns'] - 1_700_000_001_500_000_000) <= 20_000_000
    assert report['window_end_ns'] - report['window_start_ns'] == 40_000_000
    assert report['window_start_ns'] < report['frame_stamp_ns'] < report['window_end_ns']
    assert report['num_events'] > 5000
    assert 0.6 < report['flops_saved'] == 1 - report['flops_used'] / report['flops_dense'] < 0.9
    assert 0 < report['ttft_ms'] <= report['total_ms']
    assert report['fallback'] == ''
    picture = cv2.imread(str(overlay))
    assert picture is not None and picture.std() > 10


def test_ask_in_plain_words(slider_bag, capsys):
    main(['ask', str(slider_bag), '--question', 'what do you see?', '--at', '1.5'])
    answer, remark = capsys.readouterr()
    assert len(answer.strip().splitlines()) == 1
    assert 'of the FLOPs saved' in remark


def test_ask_about_a_window_that_no_events_came_for(slider_bag, capsys):
    # The window of this frame is a second after it, and after the end of the recording.
    main(['ask', str(slider_bag), '--question', 'what do you see?', '--at', '3.4',
          '--window-offset', '1.0', '--json'])
    assert json.loads(capsys.readouterr().out)['fallback'] == 'dense: no event data'


@pytest.mark.parametrize('arguments, words', [
    (['--at', '99'], 'outside the recording: give 0 to 3.4'),
    (['--keep', '1.5'], 'keep_ratio is 1.5: give at most 1.0'),
    (['--model', '/no/such/model'], 'there is no model folder /no/such/model'),
    (['--question', ' '], 'empty'),
    (['--event-topic', '/other'], '/other is not an event topic'),
    (['--overlay', '/no/such/folder/o.png'], 'cannot write /no/such/folder/o.png'),
])
def test_what_is_wrong_is_one_line_that_names_it(slider_bag, capsys, arguments, words):
    # in this process; the next test and the last one look at what a process makes of it
    with pytest.raises(SystemExit) as end:
        main(['ask', str(slider_bag), '--question', 'what?', *arguments])
    assert words in end.value.code and '\n' not in end.value.code
    assert 'Traceback' not in capsys.readouterr().err


@pytest.mark.process
def test_a_folder_that_is_no_recording(tmp_path):
    result = epvlm('bag-info', tmp_path)
    assert result.returncode == 1
    assert 'metadata.yaml' in result.stderr and 'Traceback' not in result.stderr


@pytest.mark.process
def test_calibrate_writes_the_file_and_says_how_to_use_it(slider_depth, tmp_path):
    shift = np.array([[1.0, 0.0, 6.0], [0.0, 1.0, -4.0], [0.0, 0.0, 1.0]])
    bag = make_slider_depth_bag(
        slider_depth, tmp_path / 'bag', end_ns=600_000_000, homography=shift)
    output, picture = tmp_path / 'found.yaml', tmp_path / 'found.png'
    result = epvlm('calibrate', bag, '--output', output, '--picture', picture, '--frames', '8')
    assert result.returncode == 0, result.stderr
    content = load_homography_file(output)
    # In the middle of the sensor it takes the shift back.
    u, v, w = content.homography @ (125.5, 85.5, 1.0)
    assert (u / w, v / w) == pytest.approx((119.5, 89.5), abs=1.0)
    assert (content.sensor_size, content.image_size) == ((180, 240), (180, 240))
    assert content.num_frames == 6
    lines = result.stdout.splitlines()
    assert lines[0].startswith('residual') and f'{content.residual_px:.2f} px' in lines[0]
    assert f'registration:=file registration_file:={output}' in lines[-1]
    assert f'window_offset:={content.window_offset_s:.4f}' in lines[-1]
    assert cv2.imread(str(picture)).std() > 10


@pytest.mark.process
def test_calibrate_says_in_one_line_what_is_missing(shared_data, tmp_path):
    for arguments, message in (
            ([shared_data / 'evt3_640x480'], 'image topic'),
            ([tmp_path], 'epvlm calibrate:'),
            ([shared_data / 'evt3_640x480', '--frames', '2'], '2 frames: give 6 or more')):
        result = epvlm('calibrate', *arguments, '--output', tmp_path / 'not.yaml')
        assert result.returncode == 1
        assert message in result.stderr and result.stderr.count('\n') == 1
        assert not (tmp_path / 'not.yaml').exists()
