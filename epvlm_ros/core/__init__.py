"""Everything that thinks; imports no ROS."""
