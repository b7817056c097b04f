"""The command line ``epvlm``: the nodes' core on recordings, without a ROS graph."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import sys
from typing import Any

from epvlm_ros.eval.command import add_eval_options
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.vlm.config import VlmConfig


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what is wrong with its input is one line and exit status 1."""
    options = _make_parser().parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:
        sys.exit(f'epvlm {options.command}: {error}')
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python must not flush into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def bag_info_command(options: argparse.Namespace) -> None:
    """Print what is in a recording as JSON."""
    from epvlm_ros.bag.info import bag_info

    print(json.dumps(bag_info(options.bag), indent=1))


def ask_command(options: argparse.Namespace) -> None:
    """Answer one question about one moment of a recording."""
    # Loaded here: the other commands need no torch and start at once.
    from epvlm_ros.bag.offline_sync import find_guided_frame
    from epvlm_ros.bag.reader import BagReader
    from epvlm_ros.vlm.engine import VlmEngine

    sync_config = EventSyncConfig(
        window_length=options.window_length, window_offset=options.window_offset)
    model_config = VlmConfig(
        model=options.model, keep_ratio=options.keep, device=options.device,
        max_new_tokens=options.max_new_tokens, allow_download=options.allow_download)
    with BagReader(options.bag) as bag:
        guided = find_guided_frame(
            bag, sync_config, options.at, options.event_topic, options.image_topic)
        rgb = bag.image(guided.frame.payload).rgb
    engine = VlmEngine.from_config(model_config)
    engine.warm_up()
    activity = guided.activity if guided.completeness > 0.0 else None
    result = engine.answer(rgb, options.question, activity)
    if options.overlay:
        _write_overlay(options.overlay, engine, rgb, guided, options.question, result)
    report = _report(options.question, guided, result)
    if options.json:
        print(json.dumps(report))
        return
    print(result.text)
    print(f'{report["tokens_kept"]} of {report["tokens"]} visual tokens, '
          f'{report["flops_saved"]:.0%} of the FLOPs saved, {report["num_events"]} events, '
          f'first token after {report["ttft_ms"]:.0f} ms'
          + (f', fallback: {result.fallback}' if result.fallback else ''), file=sys.stderr)


def calibrate_command(options: argparse.Namespace) -> None:
    """Measure where event pixels are in the image, and write the file for the node."""
    from epvlm_ros.bag.calibrate import calibrate_bag
    from epvlm_ros.bag.reader import BagReader
    from epvlm_ros.events.calibration import draw_calibration
    from epvlm_ros.events.registration import HomographyFile, save_registration
    from tqdm import tqdm

    with BagReader(options.bag) as bag:
        measured = calibrate_bag(
            bag, options.frames, options.window_length, options.event_topic,
            options.image_topic, lambda steps: tqdm(steps, leave=False, disable=None))
    result = measured.result
    save_registration(options.output, HomographyFile(
        result.homography, measured.sensor_size, measured.image_size, result.residual_px,
        result.num_frames, result.window_offset_s))
    if options.picture:
        _write_picture(options.picture, draw_calibration(
            measured.frames, result, measured.sensor_size, options.window_length))
    for name, text in (
            ('residual', f'{result.residual_px:.2f} px, on {result.num_held_out} other frames '
                         f'in {result.num_blocks} parts of the image'),
            ('frames', f'{result.num_frames}'),
            ('correlation', f'{result.correlation:.2f}, was {result.correlation_before:.2f}'),
            ('window offset', f'{result.window_offset_s * 1e3:+.1f} ms'),
            ('homography', '\n'.join(
                ('' if row is result.homography[0] else ' ' * 15)
                + ' '.join(f'{number:12.6g}' for number in row) for row in result.homography))):
        print(f'{name:<15}{text}')
    print(f'written to {options.output}; give the node\n'
          f'  registration:=file registration_file:={options.output.resolve()} '
          f'window_offset:={result.window_offset_s:.4f}')


def _report(question: str, guided: Any, result: Any) -> dict[str, Any]:
    return {
        'question': question,
        'answer': result.text,
        'status': 'OK',
        'frame_stamp_ns': guided.frame.stamp_ns,
        'window_start_ns': guided.activity.window_start_ns,
        'window_end_ns': guided.activity.window_end_ns,
        'num_events': round(guided.activity.num_events),
        'rows': result.rows,
        'cols': result.cols,
        'kept': [int(index) for index in result.kept_indices],
        'tokens': result.num_tokens,
        'tokens_kept': result.num_tokens_kept,
        'flops_dense': result.flops_dense,
        'flops_used': result.flops_used,
        'flops_saved': result.flops_saved,
        'ttft_ms': result.time_to_first_token_s * 1e3,
        'total_ms': result.total_time_s * 1e3,
        'fallback': result.fallback,
    }


def _write_overlay(
    path: Path, engine: Any, rgb: Any, guided: Any, question: str, result: Any,
) -> None:
    from epvlm_ros.vlm.overlay import draw_overlay

    _write_picture(path, draw_overlay(
        rgb, guided.activity, result.kept_indices, engine.patch_grid(*rgb.shape[:2]),
        question=question, answer=result.text))


def _write_picture(path: Path, rgb: Any) -> None:
    import cv2

    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise ValueError(f'cannot write {path}: give a name that ends in .png ({error})') from None
    if not written:
        raise ValueError(f'cannot write {path}: is its folder there, and writable?')


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='epvlm', description='Event-guided sparse vision-language answers on recordings.')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    info = commands.add_parser('bag-info', help='print what is in a recording as JSON')
    info.add_argument('bag', type=Path, help='rosbag2 folder, or a .db3 or .mcap file')
    info.set_defaults(run=bag_info_command)
    _add_ask_options(commands.add_parser('ask', help='answer a question about a recording'))
    _add_calibrate_options(commands.add_parser(
        'calibrate', help='measure where the event pixels of a recording are in its images'))
    add_eval_options(commands.add_parser(
        'eval', help='measure accuracy against FLOPs on a set of questions'))
    return parser


def _add_ask_options(ask: argparse.ArgumentParser) -> None:
    sync, model = EventSyncConfig(), VlmConfig()
    ask.add_argument('bag', type=Path, help='rosbag2 folder, or a .db3 or .mcap file')
    ask.add_argument('--question', required=True, help='what to ask')
    ask.add_argument('--at', type=float, metavar='SECONDS',
                     help='moment after the start of the recording (default: the last frame '
                          'whose event window is complete)')
    ask.add_argument('--keep', type=float, default=model.keep_ratio, metavar='RATIO',
                     help='share of the visual tokens to compute on (default: %(default)s)')
    ask.add_argument('--model', default=model.model,
                     help='folder or hub name of a Qwen-VL (default: the embedded one)')
    ask.add_argument('--allow-download', action='store_true',
                     help='whether a model may be downloaded from the hub')
    ask.add_argument('--device', default=model.device, help='default: %(default)s')
    ask.add_argument('--max-new-tokens', type=int, default=model.max_new_tokens,
                     help='most tokens of the answer (default: %(default)s)')
    ask.add_argument('--window-length', type=float, default=sync.window_length,
                     metavar='SECONDS', help='of the event window (default: %(default)s)')
    ask.add_argument('--window-offset', type=float, default=sync.window_offset,
                     metavar='SECONDS',
                     help='of its centre from the stamp of the frame (default: %(default)s)')
    ask.add_argument('--event-topic', help='default: the only one of its type')
    ask.add_argument('--image-topic', help='default: the only one of its type')
    ask.add_argument('--overlay', type=Path, metavar='PNG',
                     help='write frame, events and kept tokens as a picture')
    ask.add_argument('--json', action='store_true', help='print one JSON object')
    ask.set_defaults(run=ask_command)


def _add_calibrate_options(calibrate: argparse.ArgumentParser) -> None:
    calibrate.add_argument('bag', type=Path, help='rosbag2 folder, or a .db3 or .mcap file')
    calibrate.add_argument('--output', type=Path, default=Path('registration.yaml'),
                           metavar='YAML', help='file to write (default: %(default)s)')
    calibrate.add_argument('--picture', type=Path, metavar='PNG',
                           help='draw edges in grey and events in colour, before and after')
    calibrate.add_argument('--frames', type=int, default=32, metavar='NUMBER',
                           help='frames to measure on (default: %(default)s)')
    calibrate.add_argument('--window-length', type=float,
                           default=EventSyncConfig().window_length, metavar='SECONDS',
                           help='of the event window (default: %(default)s)')
    calibrate.add_argument('--event-topic', help='default: the only one of its type')
    calibrate.add_argument('--image-topic', help='default: the only one of its type')
    calibrate.set_defaults(run=calibrate_command)


if __name__ == '__main__':
    main()
