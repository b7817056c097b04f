"""A page in the browser: see what the robot sees, ask it, watch it and change it."""
