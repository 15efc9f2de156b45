"""The chain rule, a weight that appears at every step, and backpropagation through time by hand.

    python -m zoo.lab.chain_rule
    python -m zoo.lab.chain_rule --steps 12 --seed 3 --dot network.dot --picture network.png
    python -m zoo.lab.chain_rule --out runs/chain_rule       # also write result.json there

(a) d/dt f(x(t), y(t)) = ∂f/∂x dx/dt + ∂f/∂y dy/dt, number by number.

(b) Let both roads carry the same weight, x(t) = y(t) = t, and the rule says: the gradient of a
    weight is the sum over its appearances. In a recurrent network W_hh appears at every step,

        ∂J⁽ᵀ⁾/∂W_hh = Σ_i ∂J⁽ᵀ⁾/∂W_hh |₍ᵢ₎        i = 1..T

    and each summand is had from the engine by giving step i a copy of W_hh of its own.

(c) The network of the lecture, h_0 a parameter too,

        u_t = W_hv x_t + W_hh h_{t-1} + b_h;  h_t = tanh(u_t);  o_t = W_oh h_t + b_o;
        y_t = softmax(o_t);  L(y_t, z_t) = -log y_t[z_t]

    and its gradients by hand in NumPy, for the sum L = Σ L(y_t, z_t) and the mean J = L/T: all
    gradients of L are T times those of J. Each is compared with the engine's.

Expect differences of about 1e-16; the script fails if one exceeds 1e-12 (float64).

Rumelhart, Hinton & Williams (1986), Learning Representations by Back-propagating Errors; Elman
(1990), Finding Structure in Time; Werbos (1990), Backpropagation Through Time: What It Does and How
to Do It.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tg
from zoo.running.arguments import a_seed, between, png, typed
from zoo.running.runs import new_folder, write_result

INPUTS, HIDDEN, CLASSES = 3, 2, 4  # I, H, V
TOLERANCE = 1e-12  # of each |hand - engine|

Differences = dict[str, dict[str, float]]  # comparison -> parameter -> the largest difference

# (a) Two roads from t to f


class Roads(NamedTuple):
    """f = x y with x = t² and y = 3t, and its derivatives."""

    f: float
    df_dx: float
    dx_dt: float
    df_dy: float
    dy_dt: float
    df_dt: float


def roads_by_engine(t_value: float) -> tuple[Roads, str]:
    """The derivatives at t, and the recorded graph as DOT text."""
    t = tg.Tensor(np.float64(t_value), requires_grad=True)
    x, y = tg.square(t), 3.0 * t
    f = x * y
    dot = tg.to_dot(f, {"t": t, "x = t²": x, "y = 3 t": y, "f = x y": f})
    df_dx, df_dy, df_dt = tg.grad(f, [x, y, t], retain_graph=True)
    ((dx_dt,), (dy_dt,)) = tg.grad(x, t), tg.grad(y, t)
    values = (v.item() for v in (f, df_dx, dx_dt, df_dy, dy_dt, df_dt))
    return Roads(*values), dot


def roads_by_hand(t: float) -> Roads:
    x, y, dx_dt, dy_dt = t**2, 3 * t, 2 * t, 3.0
    return Roads(x * y, y, dx_dt, x, dy_dt, y * dx_dt + x * dy_dt)


def report_roads(engine: Roads, hand: Roads, dot: str) -> None:
    print("(a) d/dt f(x(t), y(t)) = ∂f/∂x dx/dt + ∂f/∂y dy/dt")
    print("    f = x y, x = t², y = 3 t, at t = 2\n")
    print(f"    {'':16}{'engine':>8}{'hand':>8}")
    names = ("f", "∂f/∂x = y", "dx/dt = 2 t", "∂f/∂y = x", "dy/dt = 3", "df/dt")
    for name, a, b in zip(names, engine, hand, strict=True):
        print(f"    {name:16}{a:8g}{b:8g}")
    left, right = engine.df_dx * engine.dx_dt, engine.df_dy * engine.dy_dt
    print(f"    the two roads: {left:g} + {right:g} = {left + right:g}; f = 3 t³, so 9 t² = 36\n")
    print("    Its recorded graph (DOT):")
    print("    " + dot.replace("\n", "\n    "), end="\n\n")


# (b) A weight at every step


class Theta(NamedTuple):
    """The parameters, or their gradients: Tensors for the engine, arrays for the hand."""

    W_hv: tg.Array  # (H, I)
    W_hh: tg.Array  # (H, H)
    W_oh: tg.Array  # (V, H)
    b_h: tg.Array  # (H,)
    b_o: tg.Array  # (V,)
    h_0: tg.Array  # (H,)


class Example(NamedTuple):
    """One sequence to read, with its targets."""

    xs: np.ndarray  # (T, I)
    zs: np.ndarray  # integers in 0..V-1 (T,)


def draw(steps: int, rng: np.random.Generator) -> tuple[Theta, Example]:
    """Parameters as arrays and an example, independent normal draws (deviation 1/2, 1)."""
    i, h, v = INPUTS, HIDDEN, CLASSES
    shapes = [(h, i), (h, h), (v, h), (h,), (v,), (h,)]
    theta = Theta(*(rng.standard_normal(shape) / 2 for shape in shapes))
    return theta, Example(rng.standard_normal((steps, i)), rng.integers(v, size=steps))


def asking(theta: Theta) -> Theta:
    """The parameters as Tensors that want a gradient."""
    return Theta(*(tg.Tensor(p, requires_grad=True) for p in theta))


def unrolled(
    theta: Theta, W_hh: Sequence[tg.Array], example: Example
) -> tuple[list[tg.Array], list[tg.Array]]:
    """h_t and L(y_t, z_t) of every step; `W_hh` names the matrix of every step."""
    h, states, losses = theta.h_0, [], []  # (H,)
    for W, x, z in zip(W_hh, *example, strict=True):
        h = tg.tanh(theta.W_hv @ x + W @ h + theta.b_h)  # (H,)
        o = theta.W_oh @ h + theta.b_o  # (V,)
        states.append(h)
        losses.append(-tg.log_softmax(o)[z])
    return states, losses


def contributions(theta: Theta, example: Example) -> np.ndarray:
    """∂J⁽ᵀ⁾/∂W_hh |₍ᵢ₎ for i = 1..T, every step having its own copy of W_hh."""
    copies = [tg.Tensor(theta.W_hh, requires_grad=True) for _ in example.zs]
    _, losses = unrolled(theta, copies, example)
    return np.stack([d.numpy() for d in tg.grad(losses[-1], copies)])  # (T, H, H)


def shared_gradient(theta: Theta, example: Example) -> np.ndarray:
    """∂J⁽ᵀ⁾/∂W_hh of the one W_hh that all steps share."""
    shared = asking(theta)
    _, losses = unrolled(shared, [shared.W_hh] * len(example.zs), example)
    (d,) = tg.grad(losses[-1], shared.W_hh)
    return np.array(d)  # (H, H)


def network_dot(theta: Theta, example: Example) -> str:
    """The recorded graph of the mean loss J as DOT text."""
    shared = asking(theta)
    states, losses = unrolled(shared, [shared.W_hh] * len(example.zs), example)
    mean = tg.stack(losses).mean()
    names = shared._asdict() | {"J": mean}
    for t, (h, loss) in enumerate(zip(states, losses, strict=True), 1):
        names |= {f"h_{t}": h, f"L_{t}": loss}
    return tg.to_dot(mean, names)


def report_appearances(parts: np.ndarray, shared: np.ndarray) -> None:
    last = len(parts)
    print(f"(b) W_hh appears {last} times: ∂J⁽ᵀ⁾/∂W_hh = Σ_i ∂J⁽ᵀ⁾/∂W_hh |₍ᵢ₎, T = {last}\n")
    places = "".join(f"{f'[{j},{k}]':>12}" for j, k in np.ndindex(shared.shape))
    print(f"    {'':16}{places}")
    rows = {f"i = {i}": part for i, part in enumerate(parts, 1)}
    rows |= {"sum": parts.sum(axis=0), "shared W_hh": shared}
    for name, matrix in rows.items():
        print(f"    {name:16}" + "".join(f"{value:12.6f}" for value in matrix.ravel()))
    print(f"    largest |sum - shared|: {np.abs(parts.sum(axis=0) - shared).max():.1e}\n")


# (c) Backpropagation through time, by hand


def by_hand(theta: Theta, example: Example, share: float) -> Theta:
    """The gradients of `share` Σ L(y_t, z_t), t from T to 1, line by line as in the lecture.

    The notes print g_h'(y_t) in the line of du_t, an erratum: it is g_h'(u_t), for h_t = g_h(u_t).
    """
    W_hv, W_hh, W_oh, b_h, b_o, h_0 = theta
    xs, zs = example
    u, h, y = [], [h_0], []  # h[t] is h_t; u[t - 1] and y[t - 1] are u_t and y_t
    for x in xs:
        u.append(W_hv @ x + W_hh @ h[-1] + b_h)  # (H,)
        h.append(np.tanh(u[-1]))  # (H,)
        e = np.exp(W_oh @ h[-1] + b_o)
        y.append(e / e.sum())  # (V,)

    dW_hv, dW_hh, dW_oh, db_h, db_o, dh_t = (np.zeros_like(p) for p in theta)
    for t in range(len(xs), 0, -1):
        x_t, y_t, u_t = xs[t - 1], y[t - 1], u[t - 1]
        z_t = np.eye(CLASSES)[zs[t - 1]]  # one-hot (V,)
        dL_dy_t = share * -z_t / y_t  # (V,)
        do_t = (
            np.diag(y_t) - np.outer(y_t, y_t)
        ) @ dL_dy_t  # g_y'(o_t) dL/dy_t = share (y_t - z_t)
        db_o += do_t
        dW_oh += np.outer(do_t, h[t])
        dh_t = dh_t + W_oh.T @ do_t
        du_t = (1 - np.tanh(u_t) ** 2) * dh_t  # g_h'(u_t) dh_t
        dW_hv += np.outer(du_t, x_t)
        db_h += du_t
        dW_hh += np.outer(du_t, h[t - 1])
        dh_t = W_hh.T @ du_t  # dh_{t-1}; in the end dh_0
    return Theta(dW_hv, dW_hh, dW_oh, db_h, db_o, dh_t)


def by_engine(theta: Theta, example: Example, loss_of: Callable[[tg.Array], tg.Array]) -> Theta:
    """The gradients of `loss_of` the losses of all steps (T,)."""
    shared = asking(theta)
    _, losses = unrolled(shared, [shared.W_hh] * len(example.zs), example)
    return Theta(*(d.numpy() for d in tg.grad(loss_of(tg.stack(losses)), shared)))


def differences(a: Theta, b: Theta) -> dict[str, float]:
    """Each parameter's largest |a - b|."""
    pairs = zip(Theta._fields, a, b, strict=True)
    return {name: float(np.abs(p - q).max()) for name, p, q in pairs}


def report_hand(total: Theta, mean: Theta, steps: int, apart: Differences) -> None:
    print("(c) Backpropagation through time by hand: largest |hand - engine|\n")
    print(f"    {'':16}{'L = Σ L_t':>12}{'J = L / T':>12}")
    for name in Theta._fields:
        print(f"    {name:16}{apart['sum'][name]:12.1e}{apart['mean'][name]:12.1e}")
    l_first, j_first, t = total.W_hh[0, 0], mean.W_hh[0, 0], steps
    print(f"\n    ∂L/∂W_hh[0,0] = {l_first:.6f} = T × {j_first:.6f}, T = {t}; ", end="")
    print(f"largest |∂L - T ∂J|: {max(apart['T'].values()):.1e}")
    print(f"    The notes' g_h'(y_t) for g_h'(u_t) cannot be: y_t has {CLASSES} entries, ", end="")
    print(f"dh_t has {HIDDEN}.")


# The picture


def read_dot(text: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Nodes (name -> label) and edges of what tg.to_dot writes."""
    nodes = re.findall(r'^ *(n\d+) \[.*label="(.*)"\];$', text, re.MULTILINE)
    edges = re.findall(r"^ *(n\d+) -> (n\d+);$", text, re.MULTILINE)
    return {name: label.replace("\\n", "\n") for name, label in nodes}, edges


def layout(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, tuple[int, float]]:
    """A column and a row for each node, data flowing to the right; `nodes` are oldest first."""
    parents = {n: [a for a, b in edges if b == n] for n in nodes}
    children = {n: [b for a, b in edges if a == n] for n in nodes}
    column: dict[str, int] = {}
    for n in nodes:
        column[n] = 1 + max((column[a] for a in parents[n]), default=-1)
    for n in reversed(nodes):  # leaves, and what only needs leaves, stand beside their first use
        if children[n] and not any(parents[a] for a in parents[n]):
            column[n] = min(column[b] for b in children[n]) - 1
    places: dict[str, tuple[int, float]] = {}
    for k in sorted(set(column.values())):
        here = [n for n in nodes if column[n] == k]
        here.sort(key=lambda n: np.mean([places[a][1] for a in parents[n]] or [-9.0]))
        for row, n in enumerate(here):
            places[n] = (k, row - (len(here) - 1) / 2)
    return places


def picture(text: str, path: Path) -> None:
    """Draw DOT text as a PNG: each leaf's arrows have its colour."""
    from matplotlib.figure import Figure  # imported here only: the rest needs no matplotlib

    nodes, edges = read_dot(text)
    places = layout(list(nodes), edges)
    columns, rows = np.array(list(places.values())).T
    figure = Figure(figsize=(0.95 * np.ptp(columns) + 1, 1.2 * np.ptp(rows) + 1), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(columns.min() - 0.6, columns.max() + 0.6)
    axes.set_ylim(rows.max() + 0.6, rows.min() - 0.6)
    leaves = [n for n in nodes if n not in {b for _, b in edges}]
    colours = {n: f"C{k}" for k, n in enumerate(leaves)}
    for a, b in edges:
        far = places[b][0] - places[a][0] > 1
        axes.annotate(
            "",
            places[b],
            places[a],
            arrowprops={
                "arrowstyle": "->",
                "color": colours.get(a, "0.4"),
                "connectionstyle": "arc3,rad=-0.12" if far else "arc3",
                "shrinkA": 18,
                "shrinkB": 18,
            },
        )
    for n, label in nodes.items():
        shape = "square" if n in leaves else "round"
        box = {"boxstyle": shape, "facecolor": "white", "edgecolor": colours.get(n, "0.4")}
        axes.text(*places[n], label, ha="center", va="center", fontsize=8, bbox=box)
    figure.savefig(path)


# The command


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m zoo.lab.chain_rule",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--steps", type=between(int, 1, 100), default=3, metavar="T", help="steps (%(default)s)")
    add("--seed", type=a_seed, default=0, help="of weights and data (%(default)s)")
    add("--dot", type=Path, metavar="FILE", help="write the graph of (b)'s mean loss as DOT text")
    add("--picture", type=png, metavar="FILE.png", help="draw that graph (needs matplotlib)")
    add("--out", type=Path, metavar="DIR", help="write all differences to DIR/result.json")
    args = parser.parse_args(argv)
    args.command = typed("zoo.lab.chain_rule", argv)
    return args, parser


def write_graph(text: str, args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Write what --dot and --picture ask for, or end the program with what is in the way."""
    try:
        if args.dot:
            args.dot.write_text(text + "\n", encoding="utf-8")
        if args.picture:
            picture(text, args.picture)
    except OSError as error:
        parser.error(f"cannot write {error.filename}: {error.strerror}; name another file")
    except ImportError:
        parser.error(
            "argument --picture: expected matplotlib, which is not installed; "
            "pip install matplotlib, or use --dot FILE and run: dot -Tpng -O FILE"
        )
    for path in filter(None, (args.dot, args.picture)):
        print(f"wrote {path}")


def keep(apart: Differences, args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Write result.json to a new folder, or end the program with what is in the way."""
    try:
        folder = new_folder(args.out, "", "*.json*")
        folder.mkdir(parents=True, exist_ok=True)
        recipe = {"steps": args.steps, "seed": args.seed}
        write_result(folder, command=args.command, recipe=recipe, differences=apart)
    except (OSError, ValueError) as error:
        parser.error(f"argument --out: {error}")


def check(apart: Differences) -> None:
    """End the program with a message unless every difference is within the tolerance."""
    for what, each in apart.items():
        for name, difference in each.items():
            if not difference <= TOLERANCE:
                sys.exit(
                    f"chain_rule: {what}: expected |hand - engine| of {name} at most "
                    f"{TOLERANCE:g}, got {difference:.1e}; a rule of the engine or a line of "
                    "the hand-written pass is wrong"
                )


class Metrics(NamedTuple):
    roads: Roads
    contributions: np.ndarray  # of every appearance of W_hh (T, H, H)
    shared: np.ndarray  # the gradient of the one W_hh (H, H)
    apart: Differences  # comparison -> parameter -> largest difference


def main(argv: Sequence[str] | None = None) -> Metrics:
    args, parser = parse(argv)
    theta, example = draw(args.steps, np.random.default_rng(args.seed))

    (roads, dot), hand = roads_by_engine(2.0), roads_by_hand(2.0)
    report_roads(roads, hand, dot)

    parts, shared = contributions(theta, example), shared_gradient(theta, example)
    report_appearances(parts, shared)

    total, mean = by_hand(theta, example, 1.0), by_hand(theta, example, 1 / args.steps)
    apart = {
        "sum": differences(total, by_engine(theta, example, tg.sum)),
        "mean": differences(mean, by_engine(theta, example, tg.mean)),
        "T": differences(total, Theta(*(args.steps * d for d in mean))),
    }
    report_hand(total, mean, args.steps, apart)
    if args.dot or args.picture:
        write_graph(network_dot(theta, example), args, parser)
    roads_apart = zip(Roads._fields, roads, hand, strict=True)
    apart["roads"] = {name: abs(a - b) for name, a, b in roads_apart}
    apart["appearances"] = {"W_hh": float(np.abs(parts.sum(axis=0) - shared).max())}
    if args.out:
        keep(apart, args, parser)
    check(apart)
    return Metrics(roads, parts, shared, apart)


if __name__ == "__main__":
    main()
