"""Random graphs, exported as users do it: right on a CPU without AVX, or refused in words.

`TFPRUNE_RANDOM_GRAPHS=500:900 pytest -m slow_sweep tests/export/test_random_graphs.py` looks at
other seeds.
"""

import os
import warnings

import numpy as np
import pytest
from emulation import Failure, require_emulator, run_without_avx
from zoo import prune_to
from zoo.exports import SAMPLES, error, names_of, run, samples_for
from zoo.random_graphs import random_graph

import tfprune
from tfprune.export import ExportMismatch

TOLERANCE = {None: 5e-4, "float16": 5e-3}
FIRST, LAST = (int(n) for n in os.environ.get("TFPRUNE_RANDOM_GRAPHS", "0:40").split(":"))


@pytest.mark.slow_sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("quantize", [None, "float16"])
def test_no_random_graph_is_wrong_without_avx(tmp_path, quantize):
    require_emulator()
    jobs, plain, encoded = {}, {}, 0
    for seed in range(FIRST, LAST):
        model = prune_to(random_graph(seed), 0.9, seed=0)
        path = tmp_path / f"seed{seed}.tflite"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = tfprune.export_tflite(model, path, quantize)
            except ExportMismatch:  # values that jump, or too large: nothing was written
                continue
        data = zip(*(np.split(a, SAMPLES) for a in samples_for(model, SAMPLES, 2)), strict=True)
        samples = [dict(zip(names_of(model), one, strict=True)) for one in data]
        jobs[str(seed)] = path, samples
        plain[str(seed)] = run(path, samples, xnnpack=False)
        encoded += any(weight.encoded for weight in result.weights)
    found = run_without_avx(jobs)
    wrong = {
        seed: got.reason if isinstance(got, Failure) else error(plain[seed], got)
        for seed, got in found.items()
        if isinstance(got, Failure) or not error(plain[seed], got) <= TOLERANCE[quantize]
    }
    assert wrong == {}
    assert len(jobs) > 0.8 * (LAST - FIRST)
    assert encoded > 0.4 * len(jobs)  # else nothing could go wrong
