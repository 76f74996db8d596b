"""Two results files of `fashion_mnist.py` side by side: do they differ beyond the noise?

For each level: the mean of both over the seeds they share, the difference with the standard error
of its mean over seeds (both libraries begin a seed with equal data and an equal budget, but other
random numbers), and t = difference / error. Beyond about 2 either way it is no noise.

    python benchmarks/fashion_mnist_compare.py results/fashion_mnist_small.json \\
        results/fashion_mnist_small_tfmot.json
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import statistics


def by_level(path: pathlib.Path) -> dict[str, dict[int, float]]:
    """Return {level: {seed: accuracy}}."""
    found: dict[str, dict[int, float]] = {}
    for run in json.loads(path.read_text())["runs"]:
        found.setdefault(run["level"], {})[run["seed"]] = run["accuracy"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours", type=pathlib.Path)
    parser.add_argument("theirs", type=pathlib.Path)
    options = parser.parse_args()
    ours, theirs = by_level(options.ours), by_level(options.theirs)
    print(f"{'level':<16}{'seeds':>6}{'first':>9}{'second':>9}{'difference':>12}{'t':>7}")
    for level in ours:
        seeds = sorted(set(ours[level]) & set(theirs.get(level, {})))
        if len(seeds) < 2:
            continue
        gaps = [ours[level][seed] - theirs[level][seed] for seed in seeds]
        mean, error = statistics.mean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))
        first = statistics.mean(ours[level][seed] for seed in seeds)
        print(
            f"{level:<16}{len(seeds):>6}{first:>9.4f}{first - mean:>9.4f}{mean:>+12.4f}"
            f"{mean / error if error else math.inf:>7.1f}"
        )


if __name__ == "__main__":
    main()
