"""How long it takes to cut ResNet-50 to half its channels: tfprune beside Torch-Pruning.

Both get a ResNet-50 for 224x224 images that is in memory, and do the whole work: follow the
channels through the graph, tie them into groups, score the groups by the L2 norm of their weights,
choose half of all channels by one ranking, hand over a smaller model. tfprune: `tfprune.shrink`
on `keras.applications.ResNet50`. Torch-Pruning: `MagnitudePruner` with `MagnitudeImportance(p=2)`
and `step()` on the same network, written out below. Weights are random: none of it depends on them.

Each repeat runs both once, one after the other, so that a busy machine slows both alike; a ratio is
the median of the ratios of the repeats. The first round of each process is not counted. Then the
peak: how far the memory of a fresh process rises above where it was with the model in it.

    python benchmarks/channel_surgery.py --torch-python /path/to/venv-with-torch/bin/python

torch and Torch-Pruning live in another interpreter, since two tensor libraries in one process fight
for the cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from environment import RESULTS, environment, save
from mask_memory import process_peak
from timing import Cost, both_spreads, cell, cost_of, ratios

REMOVED = 0.5
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""(channels inside a block, blocks, stride of the first), as in He et al. 2016."""


def tfprune_work() -> tuple[Any, Callable[[], Any]]:
    """Return a model, and a function that cuts it."""
    import keras

    import tfprune

    model = keras.applications.ResNet50(weights=None)
    return model, lambda: tfprune.shrink(model, channels=REMOVED)


def torch_resnet50() -> Any:
    """Return ResNet-50; torchvision's cannot always be imported beside a new torch."""
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self, inputs: int, inside: int, stride: int) -> None:
            super().__init__()
            outputs = 4 * inside
            self.body = nn.Sequential(
                *(nn.Conv2d(inputs, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.ReLU()),
                nn.Conv2d(inside, inside, 3, stride, 1, bias=False),
                *(nn.BatchNorm2d(inside), nn.ReLU()),
                *(nn.Conv2d(inside, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
            )
            self.shortcut = nn.Sequential()
            if inputs != outputs:
                projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))
            self.end = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.end(self.body(x) + self.shortcut(x))

    stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    parts = [stem, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for inside, blocks, stride in STAGES:
        for number in range(blocks):
            parts.append(Bottleneck(channels, inside, stride if number == 0 else 1))
            channels = 4 * inside
    ends = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))
    return nn.Sequential(*parts, *ends).eval()


def torch_work() -> tuple[Any, Callable[[], Any]]:
    """Return the same for Torch-Pruning, which changes the model in place."""
    import torch
    import torch_pruning

    model = torch_resnet50()
    images = torch.randn(1, 3, 224, 224)

    def work() -> None:
        pruner = torch_pruning.pruner.MagnitudePruner(
            model,
            images,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            global_pruning=True,
            pruning_ratio=REMOVED,
            ignored_layers=[model[-1]],
        )
        pruner.step()

    return model, work


def torch_params(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def torch_worker() -> None:
    """Answer each line of stdin: "time" with what one cut cost, "memory" with its peak."""
    import torch

    peer = importlib.metadata.version("torch-pruning")
    print(f"{torch.__version__}, Torch-Pruning {peer}", flush=True)
    for line in sys.stdin:
        model, work = torch_work()
        before = torch_params(model)
        if line.strip() == "memory":
            print(process_peak(work), flush=True)
        else:
            cost = cost_of(work)
            print(cost.wall, cost.cpu, before, torch_params(model), flush=True)


class Torch:
    """Torch-Pruning in a process of its own, idle until it is asked; `version` None without it."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, __file__, "--torch-worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.version = self._process.stdout.readline().strip() or None
        self.params: dict[str, int] = {}

    def _ask(self, what: str) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().split()

    def cut(self) -> Cost:
        wall, cpu, before, after = self._ask("time")
        self.params = {"before": int(before), "after": int(after)}
        return Cost(float(wall), float(cpu))

    def peak(self) -> int:
        return int(self._ask("memory")[0])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def tfprune_peak() -> int:
    """Return the peak of the first cut in a process that has loaded all it needs."""
    import keras

    import tfprune

    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(8, 3), keras.layers.Conv2D(2, 3)]
    tfprune.shrink(keras.Sequential(layers), channels=REMOVED)
    model, work = tfprune_work()
    del model
    return process_peak(work)


def measure(torch: Torch, repeats: int) -> tuple[dict[str, list[Cost]], dict[str, Any]]:
    """Return what each cut cost, and the parameters left."""
    costs: dict[str, list[Cost]] = {"tfprune": []}
    if torch.version is not None:
        costs["Torch-Pruning"] = []
    report: Any = None
    _, work = tfprune_work()

    def ours() -> Cost:
        nonlocal report
        results: list[Any] = []
        cost = cost_of(lambda: results.append(work()))
        _, report = results[0]
        return cost

    for repeat in range(repeats + 1):
        for name, turn in (("tfprune", ours), ("Torch-Pruning", torch.cut)):
            if name in costs:
                cost = turn()
                if repeat > 0:
                    costs[name].append(cost)
    params = {
        "tfprune": {"before": report.params_before, "after": report.params_after},
        "Torch-Pruning": torch.params,
    }
    return costs, params


def print_table(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="ResNet-50 to half its channels: median (least-most)")
    for name in ("", "wall", "processor", "parameters left", "peak, of the model"):
        table.add_column(name, justify="right")
    for name, seconds in figures["seconds"].items():
        params, peak = figures["parameters"][name], figures["peak, times the model"].get(name)
        table.add_row(
            name,
            *(cell(seconds[clock], " s", 2) for clock in ("wall", "cpu")),
            f"{params['after']:,}",
            "-" if peak is None else f"{peak:.2f}x",
        )
    for name, ratio in figures["times the time of"].items():
        clocks = (cell(ratio[clock], "x", 2) for clock in ("wall", "cpu"))
        table.add_row(f"tfprune / {name}", *clocks, "", "")
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--torch-worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if options.torch_worker:
        torch_worker()
        return
    if options.peak:
        print(tfprune_peak())
        return
    torch = Torch(options.torch_python)
    costs, params = measure(torch, options.repeats)
    torch.close()

    size = 4 * params["tfprune"]["before"]
    own = subprocess.run(
        [sys.executable, __file__, "--peak"], capture_output=True, text=True, check=True
    )
    peaks = {"tfprune": int(own.stdout.split()[-1]) / size}
    if torch.version is not None:
        fresh = Torch(options.torch_python)
        peaks["Torch-Pruning"] = fresh.peak() / size
        fresh.close()
    figures = {
        "environment": environment() | {"torch": torch.version or "not installed"},
        "repeats": options.repeats,
        "seconds": {name: both_spreads(found) for name, found in costs.items()},
        "times the time of": {
            peer: ratios(costs["tfprune"], found)
            for peer, found in costs.items()
            if peer != "tfprune"
        },
        "parameters": params,
        "peak, times the model": peaks,
    }
    print_table(figures)
    path = RESULTS / "channel_surgery.json"
    save(path, figures)
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
