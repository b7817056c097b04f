"""What tests of nodes in their own process share."""

import pytest
import rclpy
from rclpy.context import Context
from ros_graph import DOMAIN_ID
from spun_sync_node import SpunSyncNode


@pytest.fixture
def context():
    """Return a context on the domain that is this test process's own."""
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN_ID)
    yield context
    context.try_shutdown()


@pytest.fixture
def start_sync_node(context):
    """Return what starts an event_sync_node with a client that spins it."""
    graphs = []

    def start(**parameters):
        graphs.append(SpunSyncNode(context, **parameters))
        return graphs[-1]
    yield start
    for graph in graphs:
        graph.close()
