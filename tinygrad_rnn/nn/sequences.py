"""Sequences of several lengths: padding, masks, batches of similar lengths, and truncated
backpropagation through time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.generator import default_rng
from tinygrad_rnn.autograd.graph import Array, Value, shape_of, unwrap, wrap
from tinygrad_rnn.autograd.ops.elementwise import where
from tinygrad_rnn.autograd.ops.shape import pad, stack, swapaxes


def sequence_mask(lengths: Any, steps: int) -> np.ndarray:
    """Which steps lie within the lengths.

    Shapes:
        lengths (B,) integers in 0..T  ->  (T, B) bool

    Raises:
        ValueError: if the lengths are something else.

    >>> sequence_mask([2, 0], 3).tolist()
    [[True, False], [True, False], [False, False]]
    """
    array = np.asarray(lengths)
    whole = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
    if not whole or (array < 0).any() or (array > steps).any():
        raise ValueError(
            f"sequence_mask: expected lengths as integers (B,) in 0..T={steps}, got {array!r}"
        )
    return np.arange(steps)[:, None] < array


def within(x: Array, lengths: Any, batch_first: bool = False) -> Any:
    """x (T, B, n), or (T, n) of one sequence, and 0 beyond the lengths."""
    alone = len(shape_of(x)) == 2
    turned = batch_first and not alone
    mask = sequence_mask(lengths, shape_of(x)[turned])  # (T, B)
    mask = mask.T if turned else mask
    return where(mask if alone else mask[..., None], x, 0.0)


def pad_sequence(
    sequences: Sequence[Array], batch_first: bool = False, padding_value: float = 0.0
) -> Any:
    """Sequences of several lengths as one array, filled up at their ends.

    Args:
        sequences: arrays or Tensors (T_b, ...), of one shape but for T_b; arrays give an array.
        padding_value: what fills them up.

    Shapes:
        B sequences (T_b, ...)  ->  (T, B, ...), T the largest T_b; or (B, T, ...) if batch_first

    Raises:
        ValueError: if there is none, or their shapes do not fit.

    Name and meaning as in PyTorch.

    >>> pad_sequence([np.array([1, 2, 3]), np.array([4])]).tolist()
    [[1, 4], [2, 0], [3, 0]]
    """
    items = [s if isinstance(s, Value) else np.asarray(s) for s in sequences]
    shapes = [shape_of(s) for s in items]
    if not items or not all(shapes) or len({s[1:] for s in shapes}) > 1:
        raise ValueError(
            "pad_sequence: expected sequences (T_b, ...) of one shape but for their lengths, "
            f"got {shapes}"
        )
    steps = max(s[0] for s in shapes)
    around = [[(0, steps - s[0]), *[(0, 0)] * (len(s) - 1)] for s in shapes]
    padded = [pad(s, w, constant_values=padding_value) for s, w in zip(items, around, strict=True)]
    rows = stack(padded)
    return rows if batch_first else swapaxes(rows, 0, 1)


class Batches:
    """Iterates over the numbers of sequences, batch by batch, those of one batch of similar length.

    Every epoch is shuffled, cut into pools, each pool sorted by length and cut into batches, and
    the batches are shuffled. One loop over it is an epoch, or what is left of it; its order depends
    on one draw from rng.

    Args:
        lengths: the sequences' lengths, N.
        size: sequences in a batch, B; one batch of an epoch may be smaller.
        pool: batches in a pool: more waste less on padding, 1 shuffles freely.
        rng: draws each epoch's order; None for the default generator.

    Raises:
        ValueError: if a size is below 1, the lengths are no integers, or a loaded state is of
            other sequences or damaged; nothing is changed then.

    >>> batches = Batches([5, 1, 5, 1], 2, rng=np.random.default_rng(0))
    >>> sorted(sorted(rows.tolist()) for rows in batches)
    [[0, 2], [1, 3]]
    """

    def __init__(
        self, lengths: Any, size: int, *, pool: int = 100, rng: np.random.Generator | None = None
    ) -> None:
        self.lengths, self.size, self.pool, self.rng = np.asarray(lengths), size, pool, rng
        if self.lengths.ndim != 1 or self.lengths.dtype.kind not in "iu" or min(size, pool) < 1:
            raise ValueError(
                "Batches: expected lengths as integers (N,), and size and pool of at least 1, got "
                f"{self.lengths.dtype} of shape {self.lengths.shape}, {size} and {pool}"
            )
        self._seed: int | None = None  # of the epoch under way
        self._done = 0  # its batches that were handed out

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.lengths.size // self.size)

    def _order(self, seed: int) -> list[np.ndarray]:
        """The batches of an epoch."""
        rng, most, batches = np.random.Generator(np.random.PCG64(seed)), self.size * self.pool, []
        rows = rng.permutation(self.lengths.size)
        for k in range(0, rows.size, most):
            part = rows[k : k + most]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[j : j + self.size] for j in range(0, part.size, self.size)]
        return [batches[k] for k in rng.permutation(len(batches))]

    def __iter__(self) -> Iterator[np.ndarray]:
        """The rest of the epoch under way, or a new one."""
        if self._seed is None:
            self._seed, self._done = int(default_rng(self.rng).integers(2**63)), 0
        order = self._order(self._seed)
        while self._done < len(order):
            self._done += 1
            yield order[self._done - 1]
        self._seed = None

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as plain JSON values: the batch in hand counts as done. The generator is
        not part of it."""
        return {"seed": self._seed, "done": self._done, **self._kind()}

    def _kind(self) -> dict[str, int]:
        return {"sequences": int(self.lengths.size), "size": self.size, "pool": self.pool}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another one stood, with the same batches."""
        ranges = {n: range(v, v + 1) for n, v in self._kind().items()}
        ranges |= {"seed": range(2**63), "done": range(len(self) + 1)}
        if not (isinstance(state, Mapping) and state.keys() == ranges.keys()) or not all(
            (type(v) is int and v in ranges[n]) or (n == "seed" and v is None)
            for n, v in state.items()
        ):
            raise ValueError(
                f"Batches: expected a state of {self._kind()}, got {state}; "
                "it is damaged, of other sequences, or of another size"
            )
        self._seed, self._done = state["seed"], state["done"]


def detached(state: Any) -> Any:
    """A state off the graph; tuples and lists stay what they are, None too.

    Raises:
        TypeError: for parts of other kinds.

    >>> import tinygrad_rnn as tg
    >>> output, state = tg.nn.LSTM(3, 4)(tg.zeros(5, 2, 3))
    >>> [part.requires_grad for part in detached(state)]
    [False, False]
    """
    return mapped(lambda part: wrap(unwrap(part)), state)


def restarted(state: Any, rows: Any) -> Any:
    """A state that is 0 where `rows` says that a new sequence begins; None stays None.

    Shapes:
        state: parts (..., B, H), rows (B,) bool  ->  the same

    >>> import tinygrad_rnn as tg
    >>> restarted(tg.ones(1, 2, 1), [True, False]).tolist()
    [[[0.0], [1.0]]]
    """
    fresh = np.asarray(rows, dtype=bool)[:, None]
    return mapped(lambda part: where(fresh, 0.0, part), state)


def mapped(fn: Callable[[Any], Any], state: Any) -> Any:
    """A state of other parts."""
    if isinstance(state, (tuple, list)):
        parts = [mapped(fn, part) for part in state]
        return parts if isinstance(state, list) else getattr(type(state), "_make", tuple)(parts)
    if not (state is None or hasattr(state, "dtype")):
        raise TypeError(f"expected a state of tensors, tuples and lists, got {state!r}")
    return None if state is None else fn(state)


class TBPTT:
    """Truncated backpropagation through time: long streams, some steps at a time.

    Gives (inputs, targets, state) of each piece; the state is what the loop last set as `state`,
    without its graph. So the state is carried from piece to piece, and gradients stop between them.
    To start afresh set it to None, or some rows with `restarted`.

    Args:
        inputs, targets: arrays or Tensors of one length, N steps, along their first axis.
        steps: of a piece, T; the last may be shorter.
        state: for the first piece; None for zeros.
        position: the step to begin at; as an attribute, the one behind the piece in hand. To resume
            exactly, save it and the state.

    Shapes:
        inputs (N, B, ...), targets (N, B, ...)  ->  (T, B, ...), (T, B, ...) and the state

    Raises:
        ValueError: if the lengths differ, or a number does not fit.
        RuntimeError: if the loop did not set `state`.

    Williams & Peng (1990), An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent
    Network Trajectories, §3, with as many steps back as forth.

    >>> import tinygrad_rnn as tg
    >>> layer, stream = tg.nn.GRU(3, 4), tg.zeros(10, 2, 3)
    >>> pieces = TBPTT(stream, stream, 4)
    >>> for x, y, state in pieces:
    ...     output, pieces.state = layer(x, state)
    ...     print(x.shape, pieces.position)
    (4, 2, 3) 4
    (4, 2, 3) 8
    (2, 2, 3) 10
    """

    def __init__(
        self, inputs: Any, targets: Any, steps: int, state: Any = None, position: int = 0
    ) -> None:
        sizes = [len(inputs), len(targets)]
        if sizes[0] != sizes[1] or steps < 1 or not 0 <= position <= sizes[0]:
            raise ValueError(
                "TBPTT: expected as many inputs as targets, steps of at least 1 and a position in "
                f"0..{sizes[0]}, got {sizes[0]} and {sizes[1]}, {steps} and {position}; "
                "time is the first axis"
            )
        self.inputs, self.targets, self.steps = inputs, targets, steps
        self.state, self.position = state, position

    def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
        while self.position < len(self.inputs):
            if self.state is ...:
                raise RuntimeError(
                    "TBPTT: expected the loop to set .state to what the model returned, "
                    "got nothing; set it to None to start from zeros"
                )
            piece = slice(self.position, self.position + self.steps)
            self.position = min(piece.stop, len(self.inputs))
            state, self.state = detached(self.state), ...  # until the loop sets it
            yield self.inputs[piece], self.targets[piece], state
