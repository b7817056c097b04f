"""Gauges from diagnostics, with units that people read."""

from epvlm_ros.ui.gauges import make_gauges

SYNC = {
    'events': {'events_per_s': '1.2345e+06', 'num_lost_packets': '3', 'num_shed_packets': '0',
               'num_dropped_packets': '4', 'num_bad_packets': 'unknown'},
    'frames': {'frames_per_s': '29.97', 'latency_median_s': '0.0212', 'latency_p99_s': 'unknown',
               'num_dropped_frames': '5'},
    'clock': {'drift_ppm': '-31.12', 'sync_error_ns': '250000'},
}
VLM = {
    'model': {'state': 'active', 'memory_mb': '4400'}, 'queries': {'num_queued': '2'},
    'frames': {'age_s': '0.0718'},
    'scene': {'oldest_age_s': '12.34', 'memory_mb': '270.25', 'num_known': '190',
              'num_tokens': '192', 'num_stale': '2', 'tokens_refreshed_per_s': '16',
              'gflops_per_s': '0.5'},
}
ANSWER = {'tokens': 192, 'tokens_kept': 96, 'flops_saved': 0.567, 'total_time': 0.3,
          'time_to_first_token': 0.25}


def texts(*inputs):
    return {gauge['name']: (gauge['text'], gauge['details']) for gauge in make_gauges(*inputs)}


def test_everything_that_is_known_is_shown():
    assert texts({'': SYNC}, VLM, ANSWER) == {
        'Events': ('1.23 M/s', ''),
        'Frames': ('30.0 /s', ''),
        'Frame latency': ('21.2 ms', 'p99 unknown'),
        'Drops': ('12', '3 lost on the way, 4 dropped, 5 frames dropped'),
        'Clock drift': ('-31.1 ppm', 'sync error 0.25 ms'),
        'Frame age': ('71.8 ms', ''),
        'Questions waiting': ('2', ''),
        'Model memory': ('4.40 GB', 'of the process, or of tensors on a GPU'),
        'Age of the scene': ('12.3 s', '190 of 192 tokens known, 2 stale'),
        'Scene updates': ('16 tokens/s', '0.50 GFLOP/s'),
        'Scene memory': ('270.2 MB', ''),
        'Tokens kept': ('96 of 192', 'last answer'),
        'FLOPs saved': ('57%', 'last answer'),
        'Answer time': ('300 ms', 'first token 250 ms'),
    }


def test_what_nobody_reports_is_left_out_or_unknown():
    assert texts({}, {}, None) == {}
    assert texts({'': {'events': {}}}, {}, None)['Events'] == ('unknown', '')
    assert texts({'': {'events': {}}}, {}, None)['Drops'] == ('0', 'since the start')
    assert texts({'': {'events': {'events_per_s': 'nan'}}}, {}, None)['Events'] == ('unknown', '')
    assert texts({}, {}, {**ANSWER, 'flops_saved': None})['FLOPs saved'][0] == 'unknown'


def test_values_for_the_curves_are_numbers_or_unknown():
    values = {gauge['name']: gauge['value'] for gauge in make_gauges({'': SYNC}, VLM, ANSWER)}
    assert values['Events'] == 1234500.0 and values['Drops'] == 12.0
    assert make_gauges({'': {'clock': {'drift_ppm': 'unknown'}}}, {}, None)[-1]['value'] is None


def test_several_cameras_have_gauges_of_their_own():
    vlm = {'frames of front': {'age_s': '0.1'}, 'frames of rear': {'age_s': '0.2'},
           'scene of rear': VLM['scene']}
    assert texts({'front': {}, 'rear': {}}, vlm, None).keys() == {
        'Questions waiting', 'Frame age, front', 'Frame age, rear', 'Age of the scene, rear',
        'Scene updates, rear', 'Scene memory, rear'}
    syncs = {'front': SYNC, 'rear': {**SYNC, 'events': {'events_per_s': '20'}}}
    shown = texts(syncs, vlm, None)
    assert shown['Events, front'] == ('1.23 M/s', '') and shown['Events, rear'] == ('20 /s', '')
    assert shown['Drops, rear'] == ('5', '5 frames dropped')
