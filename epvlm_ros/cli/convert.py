"""The command ``epvlm convert``."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument(
        'source', type=Path, help='rosbag2 (folder, .db3 or .mcap) or .bag of ROS 1 with '
        'dvs_msgs/EventArray or prophesee_event_msgs/EventArray, .raw or .dat of Prophesee, '
        '.npz, text or (with h5py) HDF5 of time, x, y, polarity, a folder of DSEC, or (with '
        'aedat) .aedat4')
    parser.add_argument('target', type=Path, help='folder to make')
    parser.add_argument('--size', type=_parse_size, metavar='WIDTHxHEIGHT',
                        help='of the sensor in pixels, for files that do not say it')
    parser.add_argument('--time-unit', default='', choices=('s', 'ms', 'us', 'ns'),
                        help='of .npz and text (default: s for fractions, us for whole numbers)')
    parser.set_defaults(run=convert_command)


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form 640x480')
    return int(width), int(height)


def convert_command(options: argparse.Namespace) -> None:
    """Convert a recording and print what was written."""
    from epvlm_ros.bag.convert import convert
    from tqdm import tqdm

    result = convert(
        options.source, options.target,
        lambda steps, number: tqdm(steps, total=number or None, leave=False, disable=None),
        options.size, options.time_unit)
    for topic, (num_off, num_on) in result.num_events.items():
        print(f'{topic}: {num_off} off and {num_on} on events')
    for topic, number in result.num_copied.items():
        print(f'{topic}: {number} messages copied')
    for problem in result.problems:
        print(f'epvlm convert: {problem}', file=sys.stderr)
    print(f'written to {options.target}')
