"""Replay a recording into both nodes, with simulated time."""

from epvlm_ros.ros.launch_arguments import parse_bool, parse_rate
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction)
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare


def generate_launch_description():
    """Check the arguments, then start both nodes and the player of this package."""
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='rosbag2 folder, or a .db3 or .mcap file.'),
        DeclareLaunchArgument('rate', default_value='1.0', description='Speed of the replay.'),
        DeclareLaunchArgument(
            'loop', default_value='true', description='Whether the recording starts again.'),
        OpaqueFunction(function=check_options),
        IncludeLaunchDescription(
            PathJoinSubstitution(
                [FindPackageShare('epvlm_ros'), 'launch', 'epvlm.launch.py']),
            launch_arguments={'use_sim_time': 'true'}.items()),
        OpaqueFunction(function=start_player),
    ])


def check_options(context):
    """Stop the launch at a wrong value, before a node starts."""
    read_options(context)


def read_options(context):
    """Return the options of the player."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ('rate', 'loop')}
    rate, loop = parse_rate('rate', values['rate']), parse_bool('loop', values['loop'])
    return ['--rate', str(rate), *['--loop'] * loop]


def start_player(context):
    """Return the player."""
    return [ExecuteProcess(
        cmd=[ExecutableInPackage('bag_player', 'epvlm_ros'), LaunchConfiguration('bag'),
             *read_options(context), '--clock', '--wait-for-subscribers', '60'],
        output='screen')]
