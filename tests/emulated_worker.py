"""The process that `emulation.py` runs under QEMU; it imports little, as everything is slow there.

Its argument is a folder with `files.txt` (number, tab, path) and `<number>.in.npz`, whose keys are
"<sample> <input>"; it leaves `<number>.out.npz` or `<number>.failed.txt`.
"""

import os
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def run(path, inputs):
    interpreter = Interpreter(model_path=path, num_threads=1)
    runner = interpreter.get_signature_runner()
    wanted = runner.get_input_details()
    samples = {}
    for key in inputs:
        number, name = key.split(" ", 1)
        samples.setdefault(number, {})[name] = inputs[key]
    outputs = {}
    for number, sample in samples.items():
        # The converter drops an input that the graph does not use.
        done = runner(**{name: value for name, value in sample.items() if name in wanted})
        outputs |= {f"{number} {name}": value for name, value in done.items()}
    return outputs


def main(folder):
    open(os.path.join(folder, "started"), "w").close()
    with open(os.path.join(folder, "files.txt")) as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    for number, path in lines:
        target = os.path.join(folder, number)
        try:
            with np.load(f"{target}.in.npz") as inputs:
                outputs = run(path, inputs)
        except (RuntimeError, ValueError) as error:
            with open(f"{target}.failed.txt", "w") as file:
                file.write(str(error) or type(error).__name__)
            continue
        # Renamed when whole, so that a crash in between does not count as a result.
        np.savez(f"{target}.part.npz", **outputs)
        os.replace(f"{target}.part.npz", f"{target}.out.npz")


main(sys.argv[1])
