"""Masks on PyTorch, applied in place.

A masked copy takes six times as long: PyTorch gets the memory for it from the system anew at each
step. It is bits that are masked, not numbers: what is cut is zero even if it was not finite.

On processors PyTorch widens a mask of bytes to the width of the weight before it multiplies. In
parts of a weight this happens in the cache, and takes half as long. (A mask kept that wide would be
faster by another third, but as large as the weight.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a weight
_PART = 1 << 18  # weights; fewer are not worth the call


def cut(variable: Any, mask: Any) -> None:
    """Set a variable of Keras to zero where a boolean one of its shape is False."""
    with torch.no_grad():
        _cut(variable.value, mask.value)


def cut_on_arrival(weight: Any, mask: Any) -> Callable[[], None]:
    """Mask each gradient of a weight that `backward` brings, and return what ends that.

    Elsewhere a gradient is not the weight's own yet, and must not be written to.

    Args:
        weight: a trainable variable of Keras.
        mask: a boolean one of its shape, False where the gradient is to be zero.
    """

    @torch.compiler.disable  # there is nothing to gain, and its guards know no loop over parts
    def masked(parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            _cut(parameter.grad, mask.value)

    return weight.value.register_post_accumulate_grad_hook(masked).remove


def _cut(tensor: torch.Tensor, mask: torch.Tensor) -> None:
    bits, kept = tensor.view(_BITS[tensor.element_size()]), mask.view(torch.uint8)
    if tensor.device.type != "cpu" or not tensor.is_contiguous():
        bits.mul_(kept)
        return
    parts = zip(bits.view(-1).split(_PART), kept.view(-1).split(_PART), strict=True)
    for part, kept_part in parts:
        part.mul_(kept_part)
