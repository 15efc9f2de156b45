"""The loss of a whole output layer, whose logits are never all in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.fused import fused
from tinygrad_rnn.autograd.graph import MODE, Array, Value
from tinygrad_rnn.autograd.ops.linalg import linear
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.kernels.rows import chunks
from tinygrad_rnn.kernels.rows.vocabulary import KERNELS
from tinygrad_rnn.nn.losses import Classes, check_floats, classes_of, compiled, softmax_loss


class Head(NamedTuple):
    """A loss of an output layer: what it is, the gradients that may be wanted, a chunk's rows."""

    classes: Classes
    wanted: tuple[bool, bool, bool]
    chunk: int | None

    def run(
        self, arrays: Sequence[Any], g: np.ndarray | None, wanted: Sequence[bool]
    ) -> chunks.Losses:
        """The losses, and what is wanted of the gradients for the cotangent g."""
        x, weight, bias = arrays
        rows, labels = x.reshape(-1, x.shape[-1]), self.classes.labels.reshape(-1)
        worth = None if g is None else self.classes.worth(g, x.dtype)
        given = rows, weight, bias, labels, self.classes.recipe, worth, tuple(wanted)
        return chunks.losses(*given, chunk=self.chunk)


def _head_forward(*arrays: Any, head: Head) -> tuple[np.ndarray, Any]:
    now = head.classes.reduction != "none" and any(head.wanted)
    found = head.run(arrays, np.ones(()) if now else None, head.wanted)
    return head.classes.finished(found.losses), (head, arrays, found[1:] if now else None)


def _head_backward(
    saved: Any, g: np.ndarray, needs: tuple[bool, ...], freeing: bool
) -> list[np.ndarray | None]:
    head, arrays, found = saved
    if found is None:
        found = head.run(arrays, g, needs)[1:]
    elif freeing:
        found = [d if d is None or g == 1 else np.multiply(d, g, out=d) for d in found]
    else:
        found = [None if d is None else d * g for d in found]
    shapes = [None if a is None else a.shape for a in arrays]
    return [None if d is None else d.reshape(s) for d, s in zip(found, shapes, strict=True)]


@fused(_head_forward, _head_backward)
def head_loss(x: Array, weight: Array, bias: Array | None, *, head: Head) -> Array:
    """The cross-entropy of x Wᵀ + b, reduced."""
    return softmax_loss.definition(linear(x, weight, bias), classes=head.classes)


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    targets: Any,
    bias: Tensor | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    chunk: int | None = None,
) -> Tensor:
    """`cross_entropy` of the logits x Wᵀ + b, which are never all in memory: for large V.

    A recorded call computes the gradients as it goes, chunk by chunk of places, and the backward
    pass scales them; for reduction "none" the backward pass computes the logits again.

    Args:
        targets, ignore_index, label_smoothing, reduction: as `cross_entropy`.
        chunk: places whose logits are in memory at once, about; by default some 16 MB, or as many
            as weight has elements. It changes no result.

    Shapes:
        x (..., H), weight (V, H), targets (...) integers, bias (V,)  ->  () or, for "none", (...)

    Raises:
        IndexError, TypeError, ValueError: as `cross_entropy`, and if the weight does not fit x.

    >>> import tinygrad_rnn as tg
    >>> round(tg.nn.linear_cross_entropy(tg.zeros(2, 3), tg.zeros(4, 3), [1, 3]).item(), 4)
    1.3863
    """
    name = "linear_cross_entropy"
    check_floats(name, "x", x, "(..., H)")
    check_floats(name, "weight", weight, "(V, H)")
    fits = weight.ndim == 2 and x.shape[-1] == weight.shape[1]
    if not fits or (bias is not None and bias.shape != weight.shape[:1]):
        raise ValueError(
            f"{name}: expected x (..., H), weight (V, H) and bias (V,), got {x.shape}, "
            f"{weight.shape} and {None if bias is None else bias.shape}"
        )
    if chunk is not None and not chunk >= 1:
        raise ValueError(f"{name}: expected a chunk of 1 place at least, got {chunk}")
    classes = classes_of(
        name, targets, (*x.shape[:-1], len(weight)), ignore_index=ignore_index,
        reduction=reduction, smoothing=label_smoothing,
    )  # fmt: skip
    inputs, recording = (x, weight, bias), MODE.get().recording
    wanted = [recording and isinstance(v, Value) and v._node is not None for v in inputs]
    op = compiled(head_loss, KERNELS, inputs) if weight.size else head_loss.definition
    loss: Tensor = op(*inputs, head=Head(classes, (wanted[0], wanted[1], wanted[2]), chunk))
    return loss
