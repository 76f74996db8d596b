"""The mask of a weight in parts is that of the whole, to the bit."""

import threading

import numpy as np
import pytest

from tfprune import masks, split_masks
from tfprune.criteria import Criterion
from tfprune.split_masks import Part


def split(whole, cuts):
    """Return the parts of an array between cuts along each axis, in any order."""
    spans = [
        list(zip([0, *at], [*at, size], strict=True))
        for at, size in zip(cuts, whole.shape, strict=True)
    ]
    parts = []
    for place in np.ndindex(*map(len, spans)):
        chosen = [spans[axis][at] for axis, at in enumerate(place)]
        values = whole[tuple(slice(*span) for span in chosen)]
        parts.append(Part(tuple(first for first, _ in chosen), np.ascontiguousarray(values)))
    return parts[::-1]


class Processes:
    """Threads in the place of processes, whose counts are summed when all have come."""

    def __init__(self, count):
        self._barrier, self._given = threading.Barrier(count, timeout=30), {}

    def total(self, counts):
        self._given[threading.get_ident()] = counts
        self._barrier.wait()
        found = sum(self._given.values())
        self._barrier.wait()
        return found

    def run(self, work, shares):
        results = [None] * len(shares)

        def one(index):
            try:
                results[index] = work(shares[index], self.total)
            except ValueError as error:
                results[index] = error

        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(shares))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


def cases():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 4, (12, 10)).astype(np.float32)  # many ties, and zeros
    yield "ties", few
    yield "distinct", rng.random((12, 10), np.float32)
    yield "double", rng.random((12, 10))
    yield "tiny", rng.random((12, 10), np.float32) * np.float32(1e-42)  # subnormal
    yield "equal", np.ones((12, 10), np.float32)
    yield "zero", np.zeros((12, 10), np.float32)
    yield "deep", rng.integers(0, 9, (3, 3, 12, 10)).astype(np.float32)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("scores", [pytest.param(s, id=name) for name, s in cases()])
def test_it_is_the_mask_of_the_whole(scores, sparsity):
    parts = split(scores, [(), (), (4, 5), (7,)][4 - scores.ndim :])
    keep = masks.kept_count(scores.size, sparsity)
    want, limit = masks.top_k(scores, keep)
    copy = parts[0]._replace(counts=False)  # one part lies on both
    shares = [parts[:3], [copy, *parts[3:]]]
    found = Processes(2).run(
        lambda share, total: split_masks.top_k(share, scores.shape, keep, total), shares
    )
    for share, (got, threshold) in zip(shares, found, strict=True):
        assert threshold == limit
        for part, mask in zip(share, got, strict=True):
            at = tuple(slice(s, s + n) for s, n in zip(part.start, mask.shape, strict=True))
            np.testing.assert_array_equal(mask, want[at])


def test_a_process_may_hold_copies_only():
    scores = np.array([3.0, 1.0, 2.0, 5.0], np.float32)
    part = Part((0,), scores)
    shares = [[part], [part._replace(counts=False)]]
    found = Processes(2).run(lambda share, total: split_masks.top_k(share, (4,), 2, total), shares)
    for (mask,), threshold in found:
        assert mask.tolist() == [True, False, False, True]
        assert threshold == 3.0


def test_a_long_part_is_counted_in_pieces(monkeypatch):
    monkeypatch.setattr(split_masks, "_CHUNK", 1 << 12)
    monkeypatch.setattr(masks, "_LONG", 1 << 12)
    scores = np.random.default_rng(1).integers(0, 1000, 1 << 16).astype(np.float32)
    want, limit = masks.top_k(scores, 20_000)
    (got,), threshold = split_masks.top_k([Part((0,), scores)], scores.shape, 20_000, lambda c: c)
    np.testing.assert_array_equal(got, want)
    assert threshold == limit


def test_weights_that_are_cut_stay_cut():
    weights, mask = np.array([5.0, -4.0, 3.0, 2.0], np.float32), np.array([False, True, True, True])
    (new,), limit = Criterion("unstructured").masks_of_parts(
        [Part((0,), weights)], [Part((0,), mask)], (4,), 0.5, lambda counts: counts
    )
    assert new.values.tolist() == [False, True, True, False]
    assert limit == 3.0


def test_all_processes_hear_of_weights_that_are_not_finite():
    good, bad = np.ones(4, np.float32), np.array([1, np.nan, np.inf, 2], np.float32)
    kept = np.ones(4, bool)

    def choose(share, total):
        criterion = Criterion("unstructured")
        return criterion.masks_of_parts([share], [Part(share.start, kept)], (8,), 0.5, total)

    here, there = Processes(2).run(choose, [Part((0,), bad), Part((4,), good)])
    assert "Received: 2 of 4 weights not finite" in str(here)
    assert "NaN or infinite" in str(there)
    assert "of the process says that holds them" in str(there)
