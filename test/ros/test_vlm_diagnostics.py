"""The report of vlm_node about its queries and frames."""

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from epvlm_interfaces.msg import Answer
from epvlm_ros.ros.shadow_answers import ShadowStatus
from epvlm_ros.ros.vlm_diagnostics import CameraStatus, VlmDiagnostics
from epvlm_ros.vlm.engine import SceneStatus, ServerStatus


def make(report, state='active', silent_s=0.1, num_frames=0, cameras=()):
    cameras = cameras or [CameraStatus('', num_frames, 0.25, silent_s, 1.5)]
    message = report.make(Time(sec=5), 2.0, state, 'a model', 3, cameras, memory_taken=2_500_000)
    assert message.header.stamp.sec == 5
    return {status.name: (status.level, status.message, {
        item.key: item.value for item in status.values}) for status in message.status}


def test_outcomes_are_counted_and_faults_are_those_of_the_period():
    report = VlmDiagnostics('/robot/vlm_node')
    for first_s, total_s in ((0.1, 0.5), (0.2, 0.7), (0.3, 0.6)):
        report.add_answer(Answer(time_to_first_token=first_s, total_time=total_s))
    parts = make(report, num_frames=4)
    level, message, values = parts['robot/vlm_node: queries']
    assert (level, message) == (DiagnosticStatus.OK, 'good')
    assert values['num_ok'] == '3' and values['num_queued'] == '3' and values['num_busy'] == '0'
    assert values['time_to_first_token_median_s'] == '0.2'
    assert values['total_time_median_s'] == '0.6'
    level, _, values = parts['robot/vlm_node: frames']
    assert level == DiagnosticStatus.OK
    assert values == {
        'num_frames': '4', 'frames_per_s': '2', 'age_s': '0.25', 'history_s': '1.5'}
    assert parts['robot/vlm_node: model'][2] == {
        'state': 'active', 'model': 'a model', 'num_encoded': '0', 'memory_mb': '2.5'}

    report.add_answer(Answer(status=Answer.BUSY))
    level, message, values = make(report)['robot/vlm_node: queries']
    assert level == DiagnosticStatus.WARN
    assert message == 'queries come faster than they are answered'
    assert values['num_busy'] == '1' and values['num_ok'] == '3'
    assert values['total_time_median_s'] == 'unknown'
    assert make(report)['robot/vlm_node: queries'][:2] == (DiagnosticStatus.OK, 'good')


def test_a_node_without_frames_or_at_rest_says_so():
    report = VlmDiagnostics('vlm_node')
    parts = make(report, state='inactive', silent_s=5.0)
    assert parts['vlm_node: model'][:2] == (DiagnosticStatus.WARN, 'the node is inactive')
    assert parts['vlm_node: frames'][1] == 'no guided frame yet'
    lately = make(report, silent_s=5.0, num_frames=1)
    assert lately['vlm_node: frames'][1] == 'no guided frame lately'
    assert make(report, silent_s=1.0, num_frames=1)['vlm_node: frames'][1] == 'good'


def test_each_camera_has_a_part_of_its_own():
    report = VlmDiagnostics('vlm_node')
    front = CameraStatus('front', 4, 0.1, 0.1, 1.0, SceneStatus(num_updates=4))
    make(report, cameras=[front, CameraStatus('rear', 2, 0.1, 0.1, 1.0)])
    parts = make(report, cameras=[
        front._replace(num_frames=10, scene=SceneStatus(num_updates=6)),
        CameraStatus('rear', 2, None, 3.0, 0.0)])
    assert parts['vlm_node: frames of front'][1:] == ('good', {
        'num_frames': '10', 'frames_per_s': '3', 'age_s': '0.1', 'history_s': '1'})
    assert parts['vlm_node: frames of rear'][1] == 'no guided frame lately'
    assert parts['vlm_node: scene of front'][2]['updates_per_s'] == '1'
    assert 'vlm_node: scene of rear' not in parts and 'vlm_node: frames' not in parts


def test_agreement_with_the_dense_model_is_told_where_it_is_wanted():
    report, part = VlmDiagnostics('vlm_node'), 'vlm_node: agreement with the dense model'
    assert part not in make(report)

    def values(shadow):
        message = report.make(Time(), 1.0, 'active', 'a model', 0, shadow=shadow)
        found = next(status for status in message.status if status.name == part)
        return {item.key: item.value for item in found.values}

    assert values(ShadowStatus())['same_text'] == 'unknown'
    assert values(ShadowStatus(8, 6, 7, 0.4, 3, 1)) == {
        'num_compared': '8', 'num_broken_off': '3', 'num_failed': '1', 'same_text': '0.75',
        'same_first_token': '0.875', 'mean_log_probability_lost': '0.05'}


def test_a_server_is_told_of_with_what_it_did_last():
    report = VlmDiagnostics('vlm_node')

    def part(status):
        message = report.make(Time(), 1.0, 'active', 'a model', 0, server=status)
        found, = [part for part in message.status if part.name == 'vlm_node: server']
        return found.level, found.message, {item.key: item.value for item in found.values}

    level, message, values = part(ServerStatus(num_asked=3, latency_s=0.25, num_bytes_sent=4000))
    assert (level, message) == (DiagnosticStatus.OK, 'good')
    assert values == {
        'circuit': 'closed', 'num_asked': '3', 'num_failed': '0', 'num_retries': '0',
        'num_by_fallback': '0', 'failures_in_a_row': '0', 'last_fault': '',
        'num_bytes_sent': '4000', 'num_bytes_received': '0', 'latency_to_first_token_s': '0.25'}
    failed = ServerStatus('closed', 4, 1, last_fault='it is gone')
    assert part(failed)[:2] == (DiagnosticStatus.WARN, 'the server failed: it is gone')
    assert part(failed)[0] == DiagnosticStatus.OK  # nothing new
    left_alone = ServerStatus('open', 6, 3, failures_in_a_row=3, last_fault='it is gone')
    for _ in range(2):
        assert part(left_alone)[1] == 'the server is left alone: it is gone'
