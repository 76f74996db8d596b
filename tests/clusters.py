"""What the tests of Ray share: a cluster of several nodes on this machine."""

import contextlib
import importlib.util
import os

import pytest

USAGE = "RAY_USAGE_STATS_ENABLED"


@contextlib.contextmanager
def nodes(count):
    """Start a cluster whose head computes nothing, beside so many nodes of one CPU; end it."""
    if importlib.util.find_spec("ray") is None:
        if os.environ.get("CI"):
            pytest.fail("Ray is not installed")
        pytest.skip("Ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(USAGE, "0")
        head = {"num_cpus": 0, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(count):
                cluster.add_node(num_cpus=1)
            yield cluster
        finally:
            cluster.shutdown()
