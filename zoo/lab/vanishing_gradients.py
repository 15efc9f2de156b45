"""How far back a gradient reaches: ‖∂L_T/∂h_t‖ against T - t, in six recurrent networks.

    python -m zoo.lab.vanishing_gradients
    python -m zoo.lab.vanishing_gradients --picture reach.png --forget 1

The loss L_T of the last step is reached from the state of step t through all states between them,
and the chain rule multiplies as many Jacobians:

    ∂L_T/∂h_t = ∂L_T/∂h_T · ∂h_T/∂h_{T-1} ··· ∂h_{t+1}/∂h_t

of the tanh RNN ∂h_k/∂h_{k-1} = diag(1 - h_k²) W_hh. They are nearly the same matrix, so the product
goes as ρ^(T-t), ρ the largest |eigenvalue| of one: the gradient vanishes where ρ < 1, and explodes
where ρ > 1.

    predicted   ρ, from the weights alone: of the step's Jacobian where the network comes to rest
                without input (from a state of ones, 1000 steps)
    measured    the slope of log ‖∂L_T/∂h_t‖, in inputs of standard normal numbers, over
                T - t = T/10 ... T/2; the state of an LSTM is h and c, side by side
    reach       the T - t from which the norm stays below 1 % of that at T
    learns from the last steps that give 99 % of Σ_t ‖∂L_T/∂W_hh |₍ₜ₎‖, what each appearance of
                W_hh adds to its gradient: with a vanishing gradient W_hh learns from these alone

None is trained. The first weights are PyTorch's, uniform between ±1/√H; of the identity network
W_hh = I, b = 0, and W_ih is small (Le, Jaitly & Hinton, 2015, §3); in the sixth --forget is added
to the bias of an LSTM's forget gate (Gers, Schmidhuber & Cummins, 2000, §3.3).

Expect the tanh RNN to lose nearly half of the gradient at every step, and 99 % within 9, and the
LSTM to be hardly better at first: its forget gates are half open. With open ones, and in the
identity network, gradients reach 100 steps. The script fails if a factor is not within 25 % of the
predicted one, or if contributions do not add up to the gradient.

Hochreiter & Schmidhuber (1997), Long Short-Term Memory, §3.1; Pascanu, Mikolov & Bengio (2013), On
the Difficulty of Training Recurrent Neural Networks, §2.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import inspection
from zoo.running.arguments import between, png, typed
from zoo.running.progress import progress
from zoo.running.recipes import add_options, given
from zoo.running.runs import ending_well, new_folder, write_result

NAME = "vanishing_gradients"
CLASSES = 10
NEAR = 1.25  # measured / predicted at most, or at least its inverse
EXACT = 1e-10  # of the gradient: how far contributions may be from it
REST = 1000  # steps without input


@dataclass(frozen=True)
class Recipe:
    """What decides the result."""

    hidden: Annotated[int, "units, H"] = 64
    inputs: Annotated[int, "features of a step, I"] = 8
    steps: Annotated[int, "steps, T"] = 100
    batch: Annotated[int, "sequences, B"] = 16
    seeds: Annotated[int, "how often everything is drawn anew"] = 5
    gain: Annotated[float, "factor of W_hh, but of the identity"] = 1.0
    forget: Annotated[float, "added to the forget gate's bias in the sixth network"] = 4.0
    seed: Annotated[int, "the first of the seeds"] = 0


QUICK = {"hidden": 24, "steps": 40, "batch": 8, "seeds": 2}

# Networks


def make_tanh(recipe: Recipe, **options: Any) -> nn.Recurrent:
    return nn.RNN(recipe.inputs, recipe.hidden, **options)


def make_relu(recipe: Recipe, **options: Any) -> nn.Recurrent:
    return nn.RNN(recipe.inputs, recipe.hidden, nonlinearity="relu", **options)


def make_identity(recipe: Recipe, **options: Any) -> nn.Recurrent:
    layer, rng = make_relu(recipe, bias=False, **options), options["rng"]
    w_ih = 0.001 * rng.standard_normal((recipe.hidden, recipe.inputs))
    layer.load_state_dict({"weight_ih_l0": w_ih, "weight_hh_l0": np.eye(recipe.hidden)})
    return layer


def make_lstm(recipe: Recipe, **options: Any) -> nn.Recurrent:
    return nn.LSTM(recipe.inputs, recipe.hidden, **options)


def make_open_lstm(recipe: Recipe, **options: Any) -> nn.Recurrent:
    layer, h = make_lstm(recipe, **options), recipe.hidden
    weights = layer.state_dict()
    weights["bias_ih_l0"][h : 2 * h] += recipe.forget
    layer.load_state_dict(weights)
    return layer


def make_gru(recipe: Recipe, **options: Any) -> nn.Recurrent:
    return nn.GRU(recipe.inputs, recipe.hidden, **options)


NETWORKS: dict[str, Callable[..., nn.Recurrent]] = {
    "tanh RNN": make_tanh,
    "ReLU RNN": make_relu,
    "identity ReLU RNN": make_identity,
    "LSTM": make_lstm,
    "GRU": make_gru,
    "LSTM, open forget gate": make_open_lstm,
}


def network(name: str, recipe: Recipe, rng: np.random.Generator) -> nn.Recurrent:
    """A network with its first weights, float64."""
    layer = NETWORKS[name](recipe, dtype="float64", rng=rng)
    weights = layer.state_dict()
    if NETWORKS[name] is not make_identity:
        weights["weight_hh_l0"] *= recipe.gain
        layer.load_state_dict(weights)
    return layer


# What is seen


def predicted(layer: nn.Recurrent) -> float:
    """The largest |eigenvalue| of the step's Jacobian at rest."""
    size = (1, layer.hidden_size)
    ones = [tg.ones(1, *size, dtype="float64") for _ in layer.state_sizes]
    silence = tg.zeros(REST, 1, layer.input_size, dtype="float64")
    with tg.no_grad():
        _, rest = layer(silence, tuple(ones) if len(ones) > 1 else ones[0])
    (jacobian,) = inspection.state_jacobians(lambda: layer(silence[:1], rest))
    return float(np.abs(np.linalg.eigvals(jacobian[0, 0])).max())


def seen(layer: nn.Recurrent, recipe: Recipe, rng: np.random.Generator) -> dict[str, Any]:
    """‖∂L_T/∂h_t‖ and ‖∂L_T/∂W_hh |₍ₜ₎‖ by T - t; how far the latter's sum is from ∂L_T/∂W_hh."""
    x = tg.Tensor(rng.standard_normal((recipe.steps, recipe.batch, recipe.inputs)))
    readout = nn.Linear(recipe.hidden, CLASSES, dtype="float64", rng=rng)
    targets = rng.integers(CLASSES, size=recipe.batch)
    weight = layer.weight_hh_l0  # type: ignore[attr-defined]

    def loss() -> tg.Array:
        output, _ = layer(x)
        return nn.cross_entropy(readout(output[-1]), targets)

    (found,) = inspection.state_gradients(loss)
    joined = np.concatenate(found if isinstance(found, tuple) else (found,), -1)  # (T, B, n)
    (parts,) = inspection.contributions(loss, [weight])
    whole = tg.grad(loss(), weight)[0].numpy()
    return {
        "norms": np.linalg.norm(joined, axis=(1, 2))[::-1].tolist(),
        "contributions": np.linalg.norm(parts, axis=(1, 2))[::-1].tolist(),
        "apart": float(np.abs(parts.sum(0) - whole).max() / np.abs(whole).max()),
    }


def rate(norms: Sequence[float]) -> float:
    """The factor per step, by least squares on the logarithms; nan if a norm is 0."""
    at = list(range(max(1, len(norms) // 10), len(norms) // 2 + 1))
    if min(norms[k] for k in at) <= 0:
        return float("nan")
    slope, _ = np.polyfit(at, np.log(np.take(norms, at)), 1)
    return float(np.exp(slope))


def reach(norms: Sequence[float]) -> int | None:
    """From which T - t on the norm is below 1 % of the first; None if it is not in the end."""
    above = np.flatnonzero(np.divide(norms, norms[0]) >= 0.01)
    return int(above[-1]) + 1 if above[-1] + 1 < len(norms) else None


def last_steps(contributions: Sequence[float]) -> int:
    """How many last steps give 99 % of the sum of norms."""
    return int(np.searchsorted(np.cumsum(contributions), 0.99 * np.sum(contributions))) + 1


def measure(recipe: Recipe) -> list[dict[str, Any]]:
    """Every network with every seed."""
    rows = []
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    total = len(NETWORKS) * len(seeds)
    with progress(total=total, unit="network", logged=False) as bar:
        for name in NETWORKS:
            for seed in seeds:
                rng = np.random.default_rng((seed, list(NETWORKS).index(name)))
                layer = network(name, recipe, rng)
                found = seen(layer, recipe, rng)
                rates = {"predicted": predicted(layer), "measured": rate(found["norms"])}
                rows.append({"network": name, "seed": seed, **rates, **found})
                bar.set_postfix_str(name, refresh=False)
                bar.update()
    return rows


def summarised(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each network: means of its seeds' factors, medians of what they reach."""
    found = []
    for name in NETWORKS:
        mine = [row for row in rows if row["network"] == name]
        rates = [row["measured"] for row in mine]
        with np.errstate(divide="ignore"):
            logs = np.mean([np.log10(row["norms"]) for row in mine], 0)
        reaches = sorted(reach(row["norms"]) or len(row["norms"]) for row in mine)
        middle = reaches[len(reaches) // 2]
        found.append(
            {
                "network": name,
                "predicted": float(np.mean([row["predicted"] for row in mine])),
                "measured": float(np.mean(rates)),
                "least": min(rates),
                "most": max(rates),
                "reach": middle if middle < len(mine[0]["norms"]) else None,
                "last steps": int(np.median([last_steps(r["contributions"]) for r in mine])),
                "log10 by T - t": np.round(logs - logs[0], 2).tolist(),
            }
        )
    return found


# The report


def table(rows: Sequence[dict[str, Any]], recipe: Recipe) -> str:
    """A line for each network."""
    heads = ["predicted", "measured", "from", "to", "reach", "learns from"]
    lines = [f"{'factor per step':24}" + "".join(f"{head:>12}" for head in heads)]
    for row in rows:
        cells = [f"{row[n]:12.3f}" for n in ("predicted", "measured", "least", "most")]
        far = f"{row['reach']}" if row["reach"] is not None else f"> {recipe.steps - 1}"
        lines.append(f"{row['network']:24}{''.join(cells)}{far:>12}{row['last steps']:>12}")
    return "\n".join(lines)


def picture(rows: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], path: Path) -> None:
    """Every seed's norms, and beside them the predicted line of each network."""
    from matplotlib.figure import Figure  # imported here only: the rest needs no matplotlib

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for k, line in enumerate(found):
        mine = [np.array(row["norms"]) for row in rows if row["network"] == line["network"]]
        label = f"{line['network']}: {line['measured']:.3f} ({line['predicted']:.3f})"
        for n, norms in enumerate(mine):
            shown = np.maximum(norms / norms[0], 1e-30)
            axes.plot(shown, color=f"C{k}", lw=1, alpha=0.7, label=None if n else label)
        axes.plot(line["predicted"] ** np.arange(len(mine[0])), ":", color=f"C{k}", lw=2)
    axes.axhline(0.01, color="0.6", lw=0.8)
    axes.set(yscale="log", ylim=(1e-12, 1e3), xlabel="T - t", ylabel="‖∂L_T/∂h_t‖ / ‖∂L_T/∂h_T‖")
    axes.set_title("factor per step: measured (predicted, dotted); 1 % is the gray line")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def check(rows: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> None:
    """End the program with a message unless predictions hold and contributions add up."""
    for row in rows:
        if not row["apart"] <= EXACT:
            sys.exit(
                f"{NAME}: {row['network']}, seed {row['seed']}: expected contributions that add up "
                f"to ∂L/∂W_hh, got a relative difference of {row['apart']:.1e}"
            )
    for line in found:
        if not 1 / NEAR <= line["measured"] / line["predicted"] <= NEAR:
            sys.exit(
                f"{NAME}: {line['network']}: expected a factor within {NEAR - 1:.0%} of the "
                f"predicted {line['predicted']:.3f}, got {line['measured']:.3f}; with few units or "
                "a large --gain activations are far from rest"
            )


# The command


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        f"python -m zoo.lab.{NAME}",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small networks, short sequences, two seeds")
    add("--picture", type=png, metavar="PNG", help="draw the curves (needs matplotlib)")
    add("--out", type=Path, metavar="DIR", help=f"its folder (default: runs/{NAME}, -2, ...)")
    kinds = {
        "hidden": between(int, 2, 1024),
        "steps": between(int, 20, 1000),
        "batch": between(int, 1, 1024),
        "inputs": between(int, 1, 1024),
        "seeds": between(int, 1, 100),
        "gain": between(float, 0.01, 100),
        "forget": between(float, -20, 20),
    }
    add_options(parser, Recipe, {}, kinds, {})
    options = parser.parse_args(argv)
    if options.picture and not options.picture.parent.is_dir():
        parser.error(f"--picture: expected a name in an existing folder, got {options.picture}")
    options.command = typed(f"zoo.lab.{NAME}", argv)
    options.recipe = Recipe(**(QUICK if options.quick else {}) | given(options, Recipe()))
    return options


def run_script(options: argparse.Namespace) -> dict[str, Any]:
    folder, start = new_folder(options.out, NAME, "result.json"), time.monotonic()
    rows = measure(options.recipe)
    found = summarised(rows)
    print(table(found, options.recipe))
    if options.picture:
        picture(rows, found, options.picture)
        print(f"wrote {options.picture}")
    folder.mkdir(parents=True, exist_ok=True)
    each = [{n: row[n] for n in ("network", "seed", "predicted", "measured")} for row in rows]
    whole = {"command": options.command, "recipe": asdict(options.recipe), "networks": found}
    minutes = (time.monotonic() - start) / 60
    result = write_result(folder, **whole, seeds=each, minutes=minutes)
    print(f"wrote {folder / 'result.json'}")
    check(rows, found)
    return result


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(argv)
    return ending_well(NAME, lambda: run_script(options), resumes=False)


if __name__ == "__main__":
    main()
