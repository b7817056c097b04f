"""The command ``epvlm ask``; libraries are loaded when it runs, not with its options."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys
from typing import Any

from epvlm_ros.cli.config_values import read_configs
from epvlm_ros.cli.picture import check_picture_path, write_picture
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.time_units import SECOND
from epvlm_ros.vlm.choices import check_choices
from epvlm_ros.vlm.config import ServerConfig, VlmConfig

_FLAGS = {  # options that stand for a parameter
    'model': 'model', 'keep': 'keep_ratio', 'device': 'device', 'dtype': 'dtype',
    'acceleration': 'acceleration', 'max_new_tokens': 'max_new_tokens',
    'allow_download': 'allow_download', 'window_length': 'window_length',
    'window_offset': 'window_offset'}

_MODEL_FILES = ('config.json', 'adapter_config.json')


def add_ask_options(ask: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    sync, model = EventSyncConfig(), VlmConfig()
    ask.add_argument('bag', type=Path, help='rosbag2 folder, or a .db3 or .mcap file')
    ask.add_argument('--question', required=True, help='what to ask')
    ask.add_argument('--choices', nargs='+', default=[], metavar='TEXT',
                     help='the answer is the likeliest of these (default: any text)')
    moment = ask.add_mutually_exclusive_group()
    moment.add_argument('--at', type=float, metavar='SECONDS',
                        help='moment after the start of the recording (default: the last frame '
                             'whose event window is complete)')
    moment.add_argument('--seconds-ago', type=float, metavar='SECONDS',
                        help='moment before the end of the recording')
    ask.add_argument('--parameters', type=Path, nargs='+', default=[], metavar='YAML',
                     help='parameter files of the nodes, such as config/epvlm.yaml')
    ask.add_argument('-p', '--parameter', action='append', default=[], metavar='NAME:=VALUE',
                     help='any parameter of event_sync_node or vlm_node, such as '
                          'selection:=events; beats the files')
    ask.add_argument('--keep', type=float, metavar='RATIO',
                     help='share of the visual tokens to compute on (default: '
                          f'{model.keep_ratio})')
    ask.add_argument('--model', help='folder or hub name of a Qwen-VL (default: the embedded one)')
    ask.add_argument('--allow-download', action='store_true', default=None,
                     help='whether a model may be downloaded from the hub')
    ask.add_argument('--device', help=f'default: {model.device}')
    ask.add_argument('--dtype', help=f'number type of the model (default: {model.dtype})')
    ask.add_argument('--acceleration', help=f'auto or eager (default: {model.acceleration})')
    ask.add_argument('--max-new-tokens', type=int,
                     help=f'most tokens of the answer (default: {model.max_new_tokens})')
    ask.add_argument('--window-length', type=float, metavar='SECONDS',
                     help=f'of the event window (default: {sync.window_length})')
    ask.add_argument('--window-offset', type=float, metavar='SECONDS',
                     help='of its centre from the stamp of the frame (default: '
                          f'{sync.window_offset})')
    ask.add_argument('--event-topic', help='default: the only one of its type')
    ask.add_argument('--image-topic', help='default: the only one of its type')
    ask.add_argument('--overlay', type=Path, metavar='PNG',
                     help='write frame, events and kept tokens as a picture')
    ask.add_argument('--json', action='store_true', help='print one JSON object')
    ask.set_defaults(run=ask_command)


def ask_command(options: argparse.Namespace) -> None:
    """Answer one question about one moment of a recording."""
    flags = {name: value for option, name in _FLAGS.items()
             if (value := getattr(options, option)) is not None}
    configs = read_configs(options.parameters, options.parameter, flags)
    guided, rgb, problem = _find_frame(options, configs)
    if problem:
        print(f'epvlm ask: {problem}', file=sys.stderr)
    # Loaded last: torch takes seconds, and all that may be wrong before is told at once.
    from epvlm_ros.vlm.engine import Moment
    from epvlm_ros.vlm.open_engine import open_engine

    engine = open_engine(configs[VlmConfig], configs[ServerConfig])
    engine.warm_up()
    activity = guided.activity if guided.completeness > 0.0 else None
    result = engine.answer_about(
        [Moment(rgb, activity)], options.question, choices=options.choices)
    if options.overlay:
        _write_overlay(options.overlay, engine, rgb, guided, options.question, result)
    report = _report(options, guided, result)
    if options.json:
        print(json.dumps(report))
        return
    print(result.text)
    for choice, probability in zip(options.choices, result.probabilities):
        print(f'{probability:.3f} {choice}', file=sys.stderr)
    print(f'{report["tokens_kept"]} of {report["tokens"]} visual tokens, '
          f'{report["flops_saved"]:.0%} of the FLOPs saved, {report["num_events"]} events, '
          f'first token after {report["ttft_ms"]:.0f} ms'
          + (f', fallback: {result.fallback}' if result.fallback else ''), file=sys.stderr)


def _find_frame(options: argparse.Namespace, configs: dict[type, Any]) -> tuple[Any, Any, str]:
    """Check what is quick to check; return the guided frame, its image and what is wrong."""
    from epvlm_ros.bag.offline_sync import explain_clocks, find_guided_frame
    from epvlm_ros.bag.reader import BagReader

    _check_model(configs[VlmConfig].model)
    if options.overlay:
        check_picture_path(options.overlay)
    if not options.question.strip():
        raise ValueError('the question is empty: give --question some words')
    check_choices(options.choices)
    with BagReader(options.bag) as bag:
        at_s = options.at
        if options.seconds_ago is not None:
            length_s = ((bag.end_ns or 0) - (bag.start_ns or 0)) / SECOND
            if not 0.0 <= options.seconds_ago <= length_s:
                raise ValueError(f'{options.seconds_ago:g} s before its end is outside the '
                                 f'recording: give 0 to {length_s:.3f}')
            at_s = length_s - options.seconds_ago
        guided = find_guided_frame(
            bag, configs[EventSyncConfig], at_s, options.event_topic, options.image_topic,
            configs[FilterConfig])
        rgb = bag.image(guided.frame.payload).rgb
        problem = '' if guided.completeness else (
            explain_clocks(bag, guided, options.event_topic) or f'no event data: {guided.reason}')
    return guided, rgb, problem


def _check_model(model: str) -> None:
    """Check a folder without torch, which takes seconds to load."""
    folder = Path(model).expanduser()
    is_path = model.startswith(('/', '.', '~')) or model.count('/') > 1
    if is_path and not folder.is_dir():
        raise ValueError(
            f'there is no model folder {folder}: give a folder with config.json, or a hub name')
    if model and folder.is_dir() and not any((folder / name).is_file() for name in _MODEL_FILES):
        raise ValueError(f'model folder {folder} has no config.json: give the folder of a Qwen-VL')


def _report(options: argparse.Namespace, guided: Any, result: Any) -> dict[str, Any]:
    return {
        'question': options.question,
        'answer': result.text,
        'status': 'OK',
        'model': result.model,
        'mean_log_probability': result.mean_log_probability,
        'first_token_margin': result.first_token_margin,
        'choices': options.choices,
        'probabilities': list(result.probabilities),
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

    write_picture(path, draw_overlay(
        rgb, guided.activity, result.kept_indices, engine.patch_grid(*rgb.shape[:2]),
        question=question, answer=result.text))
