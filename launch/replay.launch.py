"""Replay a recording into both nodes, with simulated time."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare


def generate_launch_description():
    """Start the player of this package and both nodes on its topics."""
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='rosbag2 folder, or a .db3 or .mcap file'),
        DeclareLaunchArgument('rate', default_value='1.0', description='speed of the replay'),
        IncludeLaunchDescription(
            PathJoinSubstitution(
                [FindPackageShare('epvlm_ros'), 'launch', 'epvlm.launch.py']),
            launch_arguments={'use_sim_time': 'true'}.items()),
        ExecuteProcess(
            cmd=[ExecutableInPackage('bag_player', 'epvlm_ros'), LaunchConfiguration('bag'),
                 '--rate', LaunchConfiguration('rate'), '--clock', '--loop',
                 '--wait-for-subscribers', '60'],
            output='screen'),
    ])
