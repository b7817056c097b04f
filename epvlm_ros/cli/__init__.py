"""The command line ``epvlm``: the nodes' core on recordings, and the page of a robot."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import sys

from epvlm_ros.cli.ask import add_ask_options
from epvlm_ros.cli.calibrate import add_calibrate_options
from epvlm_ros.cli.convert import add_convert_options
from epvlm_ros.cli.plan import add_plan_options
from epvlm_ros.cli.ui import add_ui_options
from epvlm_ros.eval.command import add_eval_options
from epvlm_ros.vlm.model_error import ModelError


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what is wrong with its input is one line and exit status 1."""
    options = _make_parser().parse_args(arguments)
    try:
        options.run(options)
    except (ModelError, ValueError) as error:
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


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='epvlm', description='Event-guided sparse vision-language answers on recordings.')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    info = commands.add_parser('bag-info', help='print what is in a recording as JSON')
    info.add_argument('bag', type=Path, help='rosbag2 folder, or a .db3 or .mcap file')
    info.set_defaults(run=bag_info_command)
    add_ask_options(commands.add_parser('ask', help='answer a question about a recording'))
    add_calibrate_options(commands.add_parser(
        'calibrate', help='measure where the event pixels of a recording are in its images'))
    add_convert_options(commands.add_parser(
        'convert', help='make a recording that all commands read from one that they cannot'))
    add_plan_options(commands.add_parser(
        'plan', help='tell how much memory a model needs, and what fits'))
    add_ui_options(commands.add_parser(
        'ui', help='show a robot in the browser: picture, questions, watches, parameters'))
    add_eval_options(commands.add_parser(
        'eval', help='measure accuracy against FLOPs on a set of questions'))
    return parser
