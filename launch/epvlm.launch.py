"""Start both nodes on the topics of a robot."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Arguments that set a parameter: (name, node, type, description). Empty leaves the value to
# the configuration file, so that the command line beats the file and the file the defaults.
PARAMETERS = [
    ('model', 'vlm_node', str, 'folder or hub name of a Qwen-VL checkpoint'),
    ('device', 'vlm_node', str, 'auto, cpu, cuda or cuda:N'),
    ('keep_ratio', 'vlm_node', float, 'share of the visual tokens to compute on'),
    ('compressed', 'event_sync_node', bool, 'whether the image topic is compressed'),
    ('window_length', 'event_sync_node', float, 'length of the event window in seconds'),
    ('window_offset', 'event_sync_node', float, 'its centre after the frame stamp in seconds'),
    ('sync_mode', 'event_sync_node', str, 'free_running, hardware_trigger or common_clock'),
    ('registration', 'event_sync_node', str, 'homography, file or camera_info'),
    ('registration_file', 'event_sync_node', str, 'what epvlm calibrate wrote'),
]


def generate_launch_description():
    """Declare the arguments and start the nodes."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'events_topic', default_value='/event_camera/events',
            description='topic of event_camera_msgs/EventPacket'),
        DeclareLaunchArgument(
            'image_topic', default_value='/camera/image_raw',
            description='topic of sensor_msgs/Image'),
        DeclareLaunchArgument(
            'event_camera_info_topic', default_value='/event_camera/camera_info',
            description='calibration of the event camera, for registration:=camera_info'),
        DeclareLaunchArgument(
            'image_camera_info_topic', default_value='/camera/camera_info',
            description='calibration of the camera, for registration:=camera_info'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=['true', 'false'],
            description='take the time from /clock, as in replays and simulations'),
        DeclareLaunchArgument(
            'config_file', default_value=PathJoinSubstitution(
                [FindPackageShare('epvlm_ros'), 'config', 'epvlm.yaml']),
            description='YAML file of parameters for both nodes'),
        *[DeclareLaunchArgument(
            name, default_value='', description=f'{description}; empty: as in config_file')
            for name, _, _, description in PARAMETERS],
        OpaqueFunction(function=start_nodes),
    ])


def start_nodes(context):
    """Return both nodes with the parameters that were given."""
    return [
        make_node(context, 'event_sync_node', {
            'events': LaunchConfiguration('events_topic'),
            'image': LaunchConfiguration('image_topic'),
            'event_camera_info': LaunchConfiguration('event_camera_info_topic'),
            'image_camera_info': LaunchConfiguration('image_camera_info_topic')}),
        make_node(context, 'vlm_node', {}),
    ]


def make_node(context, name, remappings):
    """Return one node: file first, then what the command line says."""
    given = {'use_sim_time': ParameterValue(
        LaunchConfiguration('use_sim_time'), value_type=bool)}
    for parameter, node, value_type, _ in PARAMETERS:
        configuration = LaunchConfiguration(parameter)
        if node == name and configuration.perform(context):
            given[parameter] = ParameterValue(configuration, value_type=value_type)
    return Node(
        package='epvlm_ros', executable=name, name=name, output='screen', emulate_tty=True,
        remappings=list(remappings.items()),
        parameters=[LaunchConfiguration('config_file'), given])
