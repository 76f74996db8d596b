"""Decide for a whole file: which weights get the sparse encoding, and whether that may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tfprune.export.graph import read_graphs
from tfprune.export.sparse import Storage, decide, left_dense
from tfprune.export.xnnpack.verdict import DENSE, WRONG, Verdict, judge

SPARSE = ("auto", True, False)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to encode.

    Attributes:
        storage: one entry for each weight.
        verdict: what sparse kernels make of the file, encoded so.
    """

    storage: list[Storage]
    verdict: Verdict

    @property
    def encodes(self) -> bool:
        """Whether any weight is encoded."""
        return any(one.encoded for one in self.storage)


def check_sparse(sparse: object) -> None:
    """Raise if `sparse` is none of `SPARSE`."""
    if not isinstance(sparse, (str, bool)) or sparse not in SPARSE:
        raise ValueError(f"`sparse` must be 'auto', True or False. Received: sparse={sparse!r}")


def plan(content: bytes, sparse: str | bool, names: Callable[[str], str] = str) -> Plan:
    """Return which weights of a `.tflite` file to encode.

    Args:
        content: of the file, as the converter made it.
        sparse: "auto" encodes what saves bytes unless the file would be wrong somewhere; True does
            the same and raises if nothing can be encoded; False encodes nothing.
        names: what to call a tensor in messages, by its name.

    Raises:
        ValueError: `sparse=True`, and nothing can be encoded, or it would make the file wrong.
    """
    storage = decide(content)
    verdict = Verdict(DENSE, "no weight is in sparse encoding")
    if sparse is False:
        return Plan(left_dense(storage, "sparse=False"), verdict)
    worst = [
        judge(graph, {one.tensor for one in storage if one.graph == number and one.encoded})
        for number, graph in enumerate(read_graphs(content, names))
        if any(one.graph == number and one.encoded for one in storage)
    ]
    if not worst:
        if sparse is True:
            reasons = sorted({one.reason for one in storage}) or ["it has no weights"]
            raise ValueError(
                "sparse=True needs a weight that takes fewer bytes in sparse encoding. Prune the "
                f"model further, or use sparse='auto'. Received: {'; '.join(reasons)}"
            )
        return Plan(storage, verdict)
    wrong = next((one for one in worst if one.kind == WRONG), None)
    if wrong is None:
        return Plan(storage, next((one for one in worst if one.kind != DENSE), worst[0]))
    if sparse is True:
        raise ValueError(
            f"sparse=True would make a file that is wrong on phones: {wrong.reason}. To mend it, "
            f"{wrong.advice}. sparse='auto' leaves the weights dense. Received: sparse=True"
        )
    return Plan(
        left_dense(storage, "sparse it would be wrong on phones"),
        Verdict(DENSE, f"encoding it would make it wrong: {wrong.reason}", wrong.advice),
    )
