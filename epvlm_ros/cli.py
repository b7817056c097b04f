"""The command line ``epvlm``: the nodes' core on recordings, without a ROS graph."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import sys
from typing import Any

from epvlm_ros.core.config import EventSyncConfig, VlmConfig


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
    from epvlm_ros.bag.guide import find_guided_frame
    from epvlm_ros.bag.reader import BagReader
    from epvlm_ros.core.coverage import Missing
    from epvlm_ros.core.engine import VlmEngine

    sync_config = EventSyncConfig(
        window_length=options.window_length, window_offset=options.window_offset)
    model_config = VlmConfig(
        model=options.model, keep_ratio=options.keep, device=options.device,
        max_new_tokens=options.max_new_tokens)
    with BagReader(options.bag) as bag:
        guided = find_guided_frame(
            bag, sync_config, options.at, options.event_topic, options.image_topic)
        rgb = bag.image(guided.frame.payload).rgb
    engine = VlmEngine.from_config(model_config)
    engine.warm_up()
    no_events = Missing.NO_EVENT_STREAM in guided.missing
    result = engine.answer(rgb, options.question, None if no_events else guided.activity)
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
    import cv2
    from epvlm_ros.core.overlay import draw_overlay

    overlay = draw_overlay(
        rgb, guided.activity, result.kept_indices, engine.patch_grid(*rgb.shape[:2]),
        question=question, answer=result.text)
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))
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
                     help='folder or hub name of a Qwen2-VL (default: the embedded one)')
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


if __name__ == '__main__':
    main()
