"""Start event_sync_node and vlm_node for one or several cameras, drivers and page if wanted."""

import os

from epvlm_ros.ros.launch_arguments import check_arguments, describe_arguments, describe_exit
from epvlm_ros.ui.access import Access, TOKEN_VARIABLE
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, ExecuteProcess, LogInfo, OpaqueFunction, Shutdown)
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare


def generate_launch_description():
    """Declare the arguments and start the nodes."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'config_file', default_value=PathJoinSubstitution(
                [FindPackageShare('epvlm_ros'), 'config', 'epvlm.yaml']),
            description='YAML file of parameters for both nodes.'),
        *[DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in describe_arguments().items()],
        OpaqueFunction(function=start_nodes),
    ])


def start_nodes(context):
    """Return the nodes, with the configuration file first and then what the arguments say."""
    values = {name: LaunchConfiguration(name).perform(context)
              for name in ('config_file', *describe_arguments())}
    options = check_arguments(values)
    page = []
    if options.ui_command:
        Access(values['ui_address'], os.environ.get(TOKEN_VARIABLE, ''))  # or why not
        page = [ExecuteProcess(
            cmd=[ExecutableInPackage('epvlm', 'epvlm_ros'), *options.ui_command], output='screen')]
    return [*(make_node(node, options) for node in options.nodes), *page]


def make_node(node, options):
    """Return one node that tells when it ends."""
    def on_exit(event, context):
        if context.is_shutdown:
            return []
        text = describe_exit(node.full_name, event.returncode, options)
        return [Shutdown(reason=text)] if options.shutdown_on_exit else [LogInfo(msg=text)]

    return Node(
        package=node.package, executable=node.executable, name=node.name,
        namespace=node.namespace, output='screen', emulate_tty=True, respawn=options.respawn,
        on_exit=on_exit, ros_arguments=options.ros_arguments, remappings=node.remappings,
        parameters=[options.config_file, *([node.parameters] if node.parameters else [])])
