"""What is said of a cluster that is not there, before anything is measured or trained."""

import sys
import time

import keras
import numpy as np
import pytest

import tfprune
from tfprune.cluster import Cluster

DATA = np.zeros((4, 3), "float32"), np.zeros(4, int)


def network():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def measure(**options):
    return tfprune.sensitivity(network(), DATA, (0.5,), **options)


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'tfprune\[ray\]'.*Received: engine='ray'"):
        measure(engine="ray")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "spark"}, "must be 'processes' or 'ray'. Received: engine='spark'"),
        ({"address": "auto"}, "for engine='ray'.*Received: engine='processes', address='auto'"),
        ({"resources": {"GPU": 1}}, "for engine='ray'.*resources={'GPU': 1}"),
        ({"engine": "ray", "address": 6379}, "Received: address=6379"),
        ({"engine": "ray", "processes": 0}, "Received: processes=0"),
        ({"engine": "ray", "resources": {"CPU": -1}}, "Received: resources={'CPU': -1}"),
        ({"engine": "ray", "resources": {}}, "Received: resources={}"),
    ],
)
def test_arguments_that_are_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        measure(**options)


def test_processes_of_a_search_are_for_a_cluster():
    with pytest.raises(ValueError, match=r"`processes` is for engine='ray'.*processes=2"):
        tfprune.search(network(), DATA, train=lambda pruned: None, processes=2)
    with pytest.raises(ValueError, match=r"for engine='ray'.*address='auto'"):
        tfprune.search(network(), DATA, train=lambda pruned: None, address="auto")


@pytest.mark.journey
def test_a_cluster_that_cannot_be_reached():
    pytest.importorskip("ray")
    begun = time.monotonic()
    message = "no answer within 4 seconds.*ray start.*Received: address='127.0.0.1:9'"
    with pytest.raises(ConnectionError, match=message), Cluster("127.0.0.1:9", None, None, 4.0):
        pass
    assert time.monotonic() - begun < 20.0


@pytest.mark.journey
def test_a_cluster_of_ones_own_does_not_wait_for_what_it_will_never_have():
    ray = pytest.importorskip("ray")
    wanted = r"never have.*Received: resources=\{'CPU': 1000\}, on a machine with CPU: \d"
    with pytest.raises(ValueError, match=wanted), Cluster(None, None, {"CPU": 1000}):
        pass
    assert not ray.is_initialized()
