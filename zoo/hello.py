"""Four letters: a recurrent network reads "hell" and writes "ello".

    python -m zoo.hello
    python -m zoo.hello --hidden 4 --steps 500 --seed 1

The vocabulary is h, e, l, o, each letter a one-hot x_t. The first l must give l, the second must
give o, so the letter alone does not tell: the hidden state has to. At every step t = 1..T

    u_t = W_hv x_t + W_hh h_{t-1} + b_h
    h_t = tanh(u_t)
    o_t = W_oh h_t + b_o
    y_t = softmax(o_t)                    the confidences
    J   = 1/T sum_t -log y_t[z_t]         z_t is the target, T = 4

and W_hv, W_hh, W_oh, b_h, b_o, h_0 learn by plain gradient descent. Beside it learns the same
network with its recurrence cut: W_hh and h_0 are 0 and stay 0.

Expect the second l to give o with a confidence above 0.9. The cut network sees the same l twice and
answers the same twice, at best l and o with 0.5 each, so its loss cannot fall below
2/4 log 2 = 0.3466; guessing among four letters costs log 4 = 1.3863.

Elman (1990), Finding Structure in Time (the network); Karpathy (2015), The Unreasonable
Effectiveness of Recurrent Neural Networks (the example).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tg
from zoo.running.arguments import a_seed, between

LETTERS = "helo"
INPUT, TARGET = "hell", "ello"
ROWS = ("h", "e", "l (1st)", "l (2nd)")
FIRST_L, SECOND_L = 2, 3  # their places in INPUT
FLOOR = math.log(2) / 2  # the least mean loss without recurrence: two of four letters are a coin's

# The network


class Theta(NamedTuple):
    """The parameters, float64; I = V = 4 letters."""

    W_hv: tg.Tensor  # (H, I)
    W_hh: tg.Tensor  # (H, H)
    W_oh: tg.Tensor  # (V, H)
    b_h: tg.Tensor  # (H,)
    b_o: tg.Tensor  # (V,)
    h_0: tg.Tensor  # (H,)


def initial(hidden: int, rng: np.random.Generator) -> Theta:
    """Independent draws, uniform between ±1/√H."""
    bound = 1 / math.sqrt(hidden)

    def draw(*shape: int) -> tg.Tensor:
        return tg.Tensor(rng.uniform(-bound, bound, shape), requires_grad=True)

    h, v = hidden, len(LETTERS)
    return Theta(draw(h, v), draw(h, h), draw(v, h), draw(h), draw(v), draw(h))


def without_recurrence(theta: Theta) -> Theta:
    """The same network with W_hh = 0 and h_0 = 0, which want no gradient and so stay 0."""
    return theta._replace(W_hh=tg.zeros_like(theta.W_hh), h_0=tg.zeros_like(theta.h_0))


def numbers(text: str) -> np.ndarray:
    return np.array([LETTERS.index(letter) for letter in text])  # (T,)


def outputs(theta: Theta, xs: np.ndarray) -> tg.Array:
    """o_t of every step, from x_t of every step, (T, I)."""
    h, os = theta.h_0, []  # (H,)
    for x in xs:  # (I,)
        h = tg.tanh(theta.W_hv @ x + theta.W_hh @ h + theta.b_h)  # (H,)
        os.append(theta.W_oh @ h + theta.b_o)  # (V,)
    return tg.stack(os)  # (T, V)


def mean_loss(theta: Theta, xs: np.ndarray, zs: np.ndarray) -> tg.Array:
    steps = np.arange(len(zs))
    return -tg.log_softmax(outputs(theta, xs))[steps, zs].mean()


def confidences(theta: Theta, xs: np.ndarray) -> np.ndarray:
    with tg.no_grad():
        y: np.ndarray = tg.softmax(outputs(theta, xs)).numpy()  # (T, V)
    return y


# Training


class Result(NamedTuple):
    """What one network has learnt."""

    before: np.ndarray  # confidences before training (T, V)
    after: np.ndarray  # and after it (T, V)
    losses: list[float]  # the mean loss before each step, and after the last


class Metrics(NamedTuple):
    recurrent: Result
    cut: Result


def moved(p: tg.Tensor, lr: float) -> tg.Tensor:
    """W - lr ∂J/∂W, or W itself where it does not learn."""
    if p.grad is None:
        return p
    return tg.Tensor(p.numpy() - lr * p.grad.numpy(), requires_grad=True)


def train(theta: Theta, steps: int, lr: float) -> Result:
    xs, zs = np.eye(len(LETTERS))[numbers(INPUT)], numbers(TARGET)  # (T, I), (T,)
    before, losses = confidences(theta, xs), []
    for _ in range(steps):
        loss = mean_loss(theta, xs, zs)
        losses.append(loss.item())
        loss.backward()
        theta = Theta(*(moved(p, lr) for p in theta))
    losses.append(mean_loss(theta, xs, zs).item())
    return Result(before, confidences(theta, xs), losses)


# The report


def row(confidence: np.ndarray, target: int) -> str:
    """The confidences of one step, the target's in brackets."""
    cells = (f"[{c:.3f}]" if v == target else f" {c:.3f} " for v, c in enumerate(confidence))
    return " ".join(cells).rstrip()


def table(title: str, recurrent: np.ndarray, cut: np.ndarray) -> str:
    """Two networks' confidences (T, V) side by side."""
    letters = "".join(f"{letter:^8}" for letter in LETTERS)
    heading = f"{title:9}{'recurrent':<34}recurrence cut"
    lines = [heading, f"{'input':9}{letters:<34}{letters}".rstrip()]
    for name, target, left, right in zip(ROWS, numbers(TARGET), recurrent, cut, strict=True):
        lines.append(f"{name:9}{row(left, target):<34}{row(right, target)}")
    return "\n".join(lines)


def verdict(name: str, y: np.ndarray, loss: float) -> str:
    el, o = LETTERS.index("l"), LETTERS.index("o")
    return (
        f"{name + ':':16}first l -> l {y[FIRST_L, el]:.3f}, second l -> o {y[SECOND_L, o]:.3f}; "
        f"mean loss {loss:z.4f}"
    )


def report(metrics: Metrics, steps: int) -> None:
    recurrent, cut = metrics
    print(table("before", recurrent.before, cut.before), end="\n\n")
    for step in sorted({k * steps // 5 for k in range(6)}):
        a, b = recurrent.losses[step], cut.losses[step]
        print(f"step {step:5} | loss {a:z.4f} | loss of the cut network {b:z.4f}")
    print("\n" + table("after", recurrent.after, cut.after), end="\n\n")
    apart = np.abs(cut.after[FIRST_L] - cut.after[SECOND_L]).max()
    print(verdict("recurrent", recurrent.after, recurrent.losses[-1]))
    print(verdict("recurrence cut", cut.after, cut.losses[-1]), f"(at best {FLOOR:.4f})")
    print(f"{'':16}its two rows for l differ by {apart:g}")


# The command


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m zoo.hello",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole = between(int, 1, 10_000)
    parser.add_argument(
        "--hidden", type=between(int, 1, 512), default=8, help="units H (%(default)s)"
    )
    parser.add_argument("--steps", type=whole, default=300, help="updates (%(default)s)")
    parser.add_argument(
        "--lr", type=between(float, 1e-6, 10), default=0.5, help="learning rate (%(default)s)"
    )
    parser.add_argument("--seed", type=a_seed, default=0, help="of the weights (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> Metrics:
    args = parse(argv)
    theta = initial(args.hidden, np.random.default_rng(args.seed))
    print(
        f'Read "{INPUT}", write "{TARGET}": H = {args.hidden}, gradient descent, lr {args.lr:g}, '
        f"seed {args.seed}.\nConfidence in each next letter; [ ] is the target.\n"
    )
    recurrent = train(theta, args.steps, args.lr)
    cut = train(without_recurrence(theta), args.steps, args.lr)
    metrics = Metrics(recurrent, cut)
    report(metrics, args.steps)
    return metrics


if __name__ == "__main__":
    main()
