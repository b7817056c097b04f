"""What both lifecycle nodes have in common: they start by themselves, and log why they do not."""

from __future__ import annotations

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn


class AutostartNode(LifecycleNode):
    """A lifecycle node that can configure and activate itself."""

    def start(self) -> None:
        """Configure and activate; a failure is logged and leaves the node unconfigured."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _fail(self, what: str, error: Exception) -> TransitionCallbackReturn:
        """Log why a transition failed: rclpy hides the errors of transitions."""
        name = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
        self.get_logger().fatal(f'not {what}: {name}{error}')
        return TransitionCallbackReturn.FAILURE
