"""The command line as a user calls it, on real recordings."""

import json
import subprocess
import sys

from calibration_scenes import (
    IMAGE_SIZE, make_good, mean_error_px, SENSOR_SIZE, write_bag)
import cv2
from epvlm_ros.bag import offline_sync
from epvlm_ros.cli import main
from epvlm_ros.cli.config_values import read_configs
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.registration import load_homography_file, make_registration
from epvlm_ros.events.registration.mapping import load_registration
from epvlm_ros.vlm.engine import VlmEngine
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


def test_ask_chooses_about_a_moment_before_the_end(slider_bag, capsys):
    # 3.4 s long, to 20 ms, with frames 39 ms apart: 1.9 s before the end is 1.5 s after the start
    arguments = ['ask', str(slider_bag), '--question', 'what do you see?', '--seconds-ago', '1.9',
                 '--choices', 'a red circle', 'nothing']
    main([*arguments, '--json'])
    report = json.loads(capsys.readouterr().out)
    assert abs(report['frame_stamp_ns'] - 1_700_000_001_500_000_000) <= 60_000_000
    assert report['answer'] in report['choices'] == ['a red circle', 'nothing']
    assert sum(report['probabilities']) == pytest.approx(1.0)
    assert report['mean_log_probability'] < 0.0
    main(arguments)
    answer, remark = capsys.readouterr()
    assert answer == report['answer'] + '\n'
    assert f'{report["probabilities"][1]:.3f} nothing\n' in remark


def test_ask_about_a_window_that_no_events_came_for(slider_bag, capsys):
    # The window of this frame is a second after it, and after the end of the recording.
    main(['ask', str(slider_bag), '--question', 'what do you see?', '--at', '3.4',
          '--window-offset', '1.0', '--json'])
    assert json.loads(capsys.readouterr().out)['fallback'] == 'dense: no event data'


@pytest.mark.parametrize('arguments, words', [
    (['--at', '99'], 'outside the recording: give 0 to 3.4'),
    (['--seconds-ago', '99'], '99 s before its end is outside the recording: give 0 to 3.4'),
    (['--seconds-ago', '-1'], '-1 s before its end'), (['--choices', 'yes'], '1 choices'),
    (['--choices', 'yes', 'no', 'yes'], "choice 2 is 'yes' again"),
    (['--keep', '1.5'], 'keep_ratio is 1.5: give at most 1.0'),
    (['--model', '/no/such/model'], 'there is no model folder /no/such/model'),
    (['--question', ' '], 'empty'),
    (['--event-topic', '/other'], '/other is not an event topic'),
    (['--overlay', '/no/such/folder/o.png'], 'cannot write /no/such/folder/o.png'),
    (['--overlay', 'picture.txt'], 'cannot write picture.txt: give a name that ends in .png'),
    (['-p', 'selecton:=events'], 'there is no parameter selecton: did you mean selection?'),
    (['-p', 'selection:=event'], "selection is 'event': give one of events, events_and_detail"),
    (['-p', 'registration:=file', '-p', 'registration_file:=/no/such.yaml'],
     'cannot read /no/such.yaml'),
    (['-p', 'registration:=camera_info'], 'give registration file, which epvlm calibrate writes'),
    (['--parameters', '/no/such.yaml'], 'cannot read /no/such.yaml: No such file'),
    (['--acceleration', 'fast'], "acceleration is 'fast': give one of auto, eager"),
    (['--dtype', 'int4'], "dtype is 'int4': give one of auto, float32"),
])
def test_what_is_wrong_is_one_line_that_names_it(slider_bag, capsys, arguments, words):
    # in this process; the next test and the last one look at what a process makes of it
    with pytest.raises(SystemExit) as end:
        main(['ask', str(slider_bag), '--question', 'what?', *arguments])
    assert words in end.value.code and '\n' not in end.value.code
    assert 'Traceback' not in capsys.readouterr().err


def test_ask_takes_the_parameters_of_the_nodes(slider_bag, tmp_path, monkeypatch):
    """The command line beats -p, which beats files."""
    file = tmp_path / 'parameters.yaml'
    file.write_text("""
/robot/event_sync_node:
  ros__parameters: {window_length: 0.02, history_length: 2.0, hot_pixel_filter: true}
/**/vlm_node:
  ros__parameters: {selection: centre, keep_ratio: 0.25, max_frame_age: 3}
other_node:
  ros__parameters: {speed: 1}
/**:
  ros__parameters: {use_sim_time: true, speed: 1, seed: 3, qos_overrides: {a: 1}}
""")
    seen = []

    def take(config):
        seen.append(config)
        raise ValueError('seen')

    monkeypatch.setattr(VlmEngine, 'from_config', take)
    guided = []
    find = offline_sync.find_guided_frame
    monkeypatch.setattr(offline_sync, 'find_guided_frame', lambda *arguments: guided.append(
        (arguments, find(*arguments))) or guided[-1][1])
    with pytest.raises(SystemExit, match='seen'):
        main(['ask', str(slider_bag), '--question', 'what?', '--at', '1.5', '--parameters',
              str(file), '-p', 'window_length:=0.03', '-p', 'selection:=events', '--keep', '0.3',
              '--acceleration', 'eager', '--dtype', 'bfloat16'])
    model, = seen
    assert (model.selection, model.keep_ratio, model.seed, model.acceleration, model.dtype) == (
        'events', 0.3, 3, 'eager', 'bfloat16')
    (arguments, frame), = guided
    assert (arguments[1].window_length, arguments[1].history_length) == (0.03, 2.0)
    assert arguments[-1].hot_pixel_filter
    assert frame.activity.window_end_ns - frame.activity.window_start_ns == 30_000_000


@pytest.mark.process
def test_a_wrong_path_is_told_before_torch_is_loaded(slider_bag):
    code = """
import sys
from epvlm_ros.cli import main
for arguments in sys.argv[2:]:
    try:
        main(['ask', *arguments.split(), '--question', 'what?'])
    except SystemExit as end:
        print(end.code)
assert 'torch' not in sys.modules
"""
    wrong = ['/no/such/bag', f'{slider_bag} --model /no/such/model',
             f'{slider_bag} -p registration:=file -p registration_file:=/no/such.yaml',
             f'{slider_bag} --model {slider_bag}', f'{slider_bag} --overlay /no/such/o.png',
             f'{slider_bag} --parameters /no/such.yaml']
    result = subprocess.run([sys.executable, '-c', code, 'epvlm', *wrong], capture_output=True,
                            text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('epvlm ask: ') == len(result.stdout.splitlines()) == len(wrong)


def test_ask_names_the_stamps_of_clocks_that_differ(shared_cases, capsys, monkeypatch):
    monkeypatch.setattr(VlmEngine, 'from_config', lambda config: sys.exit('no model'))
    with pytest.raises(SystemExit, match='no model'):
        main(['ask', str(shared_cases / 'clock_mismatch'), '--question', 'what do you see?'])
    # The events are 1,699,987,655.001 s later, in years of 365.25 days 53.87.
    assert capsys.readouterr().err == (
        'epvlm ask: no event data: the frame is stamped 12345.620246001 s (1970-01-01 03:25:45 '
        'UTC), the event packet recorded with it 1700000000.621507000 s (2023-11-14 22:13:20 '
        'UTC), 1699987655.001 s or 53.9 years later: record both with stamps of one clock\n')


@pytest.mark.parametrize('command', ['ask', 'calibrate'])
def test_events_that_have_to_be_converted_are_refused_in_a_line(shared_cases, command, capsys):
    arguments = ['--question', 'what?'] if command == 'ask' else ['--output', '/no/such.yaml']
    with pytest.raises(SystemExit) as end:
        main([command, str(shared_cases / 'dvs_msgs_ros2'), *arguments])
    assert 'convert dvs_msgs/msg/EventArray with "epvlm convert"' in end.value.code
    assert '\n' not in end.value.code and not capsys.readouterr().err


@pytest.mark.process
def test_a_folder_that_is_no_recording(tmp_path):
    result = epvlm('bag-info', tmp_path)
    assert result.returncode == 1
    assert 'metadata.yaml' in result.stderr and 'Traceback' not in result.stderr


@pytest.mark.process
def test_calibrate_writes_the_file_and_says_how_to_use_it(tmp_path):
    random = np.random.default_rng(6)
    scene = make_good(random)
    bag = write_bag(tmp_path / 'bag', scene, random)
    output, picture = tmp_path / 'found.yaml', tmp_path / 'found.png'
    result = epvlm('calibrate', bag, '--output', output, '--picture', picture,
                   '--window-length', '0.02')
    assert result.returncode == 0, result.stderr
    content = load_homography_file(output)
    assert mean_error_px(content.homography, scene.homography) < 0.5
    assert (content.sensor_size, content.image_size) == (SENSOR_SIZE, IMAGE_SIZE)
    assert content.num_frames == 8
    lines = result.stdout.splitlines()
    assert lines[0].startswith('residual') and f'{content.residual_px:.2f} px' in lines[0]
    assert lines[1].startswith('standard error')
    assert f'registration:=file registration_file:={output}' in lines[-1]
    assert f'window_offset:={content.window_offset_s:.4f}' in lines[-1]
    assert lines[-4].endswith('give epvlm ask') and lines[-3].startswith('  -p registration:=file')
    configs = read_configs([], lines[-3].replace('-p', '').split(), {})
    sync = configs[EventSyncConfig]
    assert sync.window_offset == pytest.approx(content.window_offset_s, abs=5e-5)
    registration = load_registration(sync.registration_file)
    assert make_registration(sync) is not None and registration is not None
    assert cv2.imread(str(picture)).std() > 10


@pytest.mark.process
def test_calibrate_says_in_one_line_what_is_missing(shared_data, tmp_path):
    for arguments, message in (
            ([shared_data / 'evt3_640x480'], 'image topic'),
            ([tmp_path], 'epvlm calibrate:'),
            ([shared_data / 'evt3_640x480', '--frames', '2'], '2 frames: give 8 or more')):
        result = epvlm('calibrate', *arguments, '--output', tmp_path / 'not.yaml')
        assert result.returncode == 1
        assert message in result.stderr and result.stderr.count('\n') == 1
        assert not (tmp_path / 'not.yaml').exists()
