"""Character language model: the distribution of the next character, given all before it.

    python -m zoo.char_lm                                  # on Python's own standard library
    python -m zoo.char_lm --data tiny-shakespeare          # a named set; any other text by path
    python -m zoo.char_lm --resume                         # go on where Ctrl-C stopped it
    python -m zoo.char_lm --sample 500 --temperature 0.7   # write from the checkpoint

    e_t = E[x_t];  h_t, c_t = LSTM(e_t, h_{t-1}, c_{t-1});  ŷ_t = softmax(U h_t + b)
    J = (1/T) Σ_t -log ŷ_t[x_{t+1}]                        in nats per character

Trained by truncated backpropagation through time: the text is cut into B streams, each update
reads T characters of every stream, and the state is carried to the next update without its
gradient. Adam, clipped gradients, a learning rate that falls along a cosine. With dropout, the
output layer misses some units of h. The layers are one cell: compiled together, on all threads.

Expect at most 1.50 nats/char on the standard library, and on Tiny Shakespeare (bigrams get 2.4 and
2.5), in 4 minutes at most.

Mikolov, Karafiát, Burget, Černocký & Khudanpur (2010), Recurrent neural network based language
model, §2; with the LSTM of Gers, Schmidhuber & Cummins (2000), Learning to Forget.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, saving
from tinygrad_rnn.nn import cells
from zoo import datasets
from zoo.arguments import a_seed, between, png, typed
from zoo.interrupt import Interrupt

State = tuple[tg.Tensor, ...]  # h and c of each layer, (B, H)
GLANCE = 50_000  # characters of the validation split that the curve looks at
SAVE_SECONDS = 30.0
DIVERGED = 100.0  # nats per character; guessing costs log V, about 5


@dataclass(frozen=True)
class Recipe:
    """What decides the result, with the text."""

    hidden: Annotated[int, "units of each layer, H"] = 256
    layers: Annotated[int, "LSTM layers, L"] = 1
    embedding: Annotated[int, "features of a character, E"] = 48
    batch: Annotated[int, "streams read side by side, B"] = 32
    length: Annotated[int, "characters of each stream in an update, T"] = 64
    updates: Annotated[int, "steps of Adam"] = 6000
    lr: Annotated[float, "learning rate at its highest"] = 4e-3
    clip: Annotated[float, "largest norm of the gradient"] = 1.0
    dropout: Annotated[float, "share of h that the output layer misses in training"] = 0.0
    seed: Annotated[int, "of the first weights and of what is drawn"] = 0


RECIPES = {"tiny-shakespeare": {"dropout": 0.25}}  # others: as above


@tg.cell
def network(xs: Any, state: Any, *weights: Any) -> tuple[Any, Any]:
    """LSTM layers and the output layer, of x (B, E), or of x and a mask (B, H) for the last h."""
    h, *masks = xs if isinstance(xs, tuple) else (xs,)
    *lstm, u, b = weights
    new: State = ()
    for k in range(0, len(state), 2):
        h, carried = cells.lstm(h, state[k : k + 2], *lstm[2 * k : 2 * k + 4])
        new += carried
    for mask in masks:
        h = h * mask
    return tg.linear(h, u, b), new


class CharLM(nn.Module):
    """Embedding, LSTM, linear."""

    def __init__(self, vocabulary: int, recipe: Recipe, rng: np.random.Generator) -> None:
        self.embedding = nn.Embedding(vocabulary, recipe.embedding, rng=rng)
        self.lstm = nn.LSTM(recipe.embedding, recipe.hidden, recipe.layers, rng=rng)
        self.output = nn.Linear(recipe.hidden, vocabulary, rng=rng)
        self.width, self.parts = recipe.hidden, 2 * recipe.layers

    def __call__(
        self, ids: np.ndarray, state: State | None, mask: np.ndarray | None = None
    ) -> tuple[tg.Tensor, State]:
        x = self.embedding(ids)  # ids (T, B)
        state = state or (tg.zeros(ids.shape[1], self.width),) * self.parts
        weights = [*self.lstm.parameters(), *self.output.parameters()]
        xs = x if mask is None else (x, tg.from_numpy(mask))
        logits, state = tg.scan(network, xs, state, weights)
        return logits, state  # (T, B, V)


# Training


@dataclass
class Run:
    """Everything that a resumed training needs: numbers and names here, arrays below."""

    recipe: Recipe
    command: str  # that began it
    data: str  # the text's name
    digest: str  # and its SHA-256
    characters: str  # its vocabulary
    update: int = 0
    read: int = 0  # characters
    seconds: float = 0.0  # spent training

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.recipe.seed)
        self.vocabulary = datasets.Vocabulary(self.characters)
        self.model = CharLM(len(self.vocabulary), self.recipe, rng)
        self.optimizer = optim.Adam(self.model.parameters(), lr=self.recipe.lr)
        self.state: State | None = None  # carried to the next update
        self.recent: list[float] = []  # losses since the last point of the curve
        self.curve: list[list[float]] = []  # update, nats/char, validation


class Stopped(Exception):
    """Somebody asked to stop."""


def streams(ids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The text as `count` streams side by side, inputs and the characters that follow; the last
    streams are filled up with targets that do not count."""
    steps = math.ceil((len(ids) - 1) / count)
    inputs, targets = np.zeros(steps * count, np.int64), np.full(steps * count, -100)
    inputs[: len(ids) - 1], targets[: len(ids) - 1] = ids[:-1], ids[1:]
    return inputs.reshape(count, steps).T, targets.reshape(count, steps).T  # (steps, B) each


def learning_rate(recipe: Recipe, update: int) -> float:
    """Rises over the first 50 updates, then falls along a cosine to 2 %."""
    fall = 0.5 * (1 + math.cos(math.pi * update / recipe.updates))
    return recipe.lr * min(1.0, (update + 1) / 50) * (0.02 + 0.98 * fall)


def mask(recipe: Recipe, update: int, steps: int, columns: int) -> np.ndarray | None:
    """What h is multiplied by in an update, (T, B, H): the same in a resumed run. The share that is
    dropped is rounded to a multiple of 1/256, for a byte of chance each."""
    if not (dropped := round(256 * recipe.dropout)):
        return None
    shape = steps, columns, recipe.hidden
    chance = np.random.default_rng((recipe.seed, update)).bytes(math.prod(shape))
    kept = np.frombuffer(chance, np.uint8).reshape(shape) >= dropped
    return kept * np.float32(256 / (256 - dropped))


def train_step(run: Run, inputs: np.ndarray, targets: np.ndarray) -> float:
    """One update on (T, B) characters; the mean loss before it, in nats."""
    start = time.monotonic()
    logits, state = run.model(inputs, run.state, mask(run.recipe, run.update, *inputs.shape))
    loss = nn.cross_entropy(logits, targets)
    run.model.zero_grad()
    loss.backward()
    norm = optim.clip_grad_norm_(run.model.parameters(), run.recipe.clip)
    refuse_divergence(run.update + 1, float(loss.item()), norm)
    run.optimizer.lr = learning_rate(run.recipe, run.update)
    run.optimizer.step()
    run.state = tuple(part.detach() for part in state)
    run.update += 1
    run.read += int((targets >= 0).sum())
    run.seconds += time.monotonic() - start
    return float(loss.item())


def refuse_divergence(update: int, loss: float, norm: float = 0.0) -> None:
    if not (loss < DIVERGED and math.isfinite(norm)):
        got = f"a gradient of norm {norm}" if loss < DIVERGED else f"a loss of {loss:g}"
        raise ValueError(
            f"update {update}: expected a finite gradient and a loss below {DIVERGED:g} nats/char, "
            f"got {got}; start anew with a lower --lr and another --out (what was saved stays)"
        )


def evaluate(model: CharLM, ids: np.ndarray, interrupt: Interrupt, count: int = 64) -> float:
    """Mean loss over all of `ids`, in nats per character, the state carried along each stream."""
    inputs, targets = streams(ids, min(count, len(ids) - 1))
    total, state = 0.0, None
    with tg.no_grad():
        for t in range(0, len(inputs), 128):
            if interrupt.requested:
                raise Stopped
            logits, state = model(inputs[t : t + 128], state)
            total += nn.cross_entropy(logits, targets[t : t + 128], reduction="sum").item()
    return total / (len(ids) - 1)


def train(
    run: Run, train_ids: np.ndarray, valid_ids: np.ndarray, path: Path, interrupt: Interrupt
) -> None:
    """Update until the recipe is done; look at the validation split and save now and then."""
    recipe, saved = run.recipe, time.monotonic()
    inputs, targets = streams(train_ids, recipe.batch)
    steps, pieces = len(inputs), math.ceil(len(inputs) / recipe.length)
    every = max(1, recipe.updates // 20)
    with tqdm(total=recipe.updates, initial=run.update, unit="update", dynamic_ncols=True) as bar:
        bar.mininterval = 0.1 if sys.stderr.isatty() else 10.0
        while True:
            if run.recent and (run.update % every == 0 or run.update == recipe.updates):
                glance = evaluate(run.model, valid_ids[:GLANCE], interrupt)
                refuse_divergence(run.update, glance)
                nats = float(np.mean(run.recent))
                log(path, update=run.update, training=nats, validation=glance)
                run.curve.append([run.update, nats, glance])
                run.recent.clear()
            if run.update == recipe.updates:
                return
            piece = run.update % pieces
            if piece == 0:
                run.state = None  # the streams begin again
            here = slice(steps * piece // pieces, steps * (piece + 1) // pieces)
            run.recent.append(train_step(run, inputs[here], targets[here]))
            bar.set_postfix_str(progress(run), refresh=False)
            bar.update()
            if interrupt.requested:
                raise Stopped
            if time.monotonic() - saved > SAVE_SECONDS:
                save(run, path)
                saved = time.monotonic()


def progress(run: Run) -> str:
    loss, mean, rate = run.recent[-1], np.mean(run.recent), run.read / run.seconds
    return f"loss {loss:.3f}, {mean:.3f} nats/char, {rate:,.0f} chars/s"


# Checkpoints


def save(run: Run, path: Path) -> None:
    arrays = {f"model.{n}": a for n, a in run.model.state_dict().items()}
    arrays |= {f"optimizer.{n}": a for n, a in run.optimizer.state_dict().items()}
    if run.state is not None:
        arrays |= {f"carried.{k}": part.numpy() for k, part in enumerate(run.state)}
    arrays |= {"curve": np.reshape(run.curve, (-1, 3)), "recent": np.array(run.recent)}
    saving.save(path, arrays, {"script": "char_lm", **asdict(run)})


def restore(path: Path) -> Run:
    arrays, state = saving.load(path)

    def group(name: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(name): a for n, a in arrays.items() if n.startswith(name)}

    try:
        if (script := state.pop("script", None)) != "char_lm":
            raise ValueError(f"one of {script}")
        run = Run(**state | {"recipe": Recipe(**state["recipe"])})
        run.model.load_state_dict(group("model."))
        run.optimizer.load_state_dict(group("optimizer."))
        run.curve, run.recent = arrays["curve"].tolist(), arrays["recent"].tolist()
        if carried := group("carried."):
            run.state = tuple(tg.Tensor(carried[str(k)]) for k in range(len(carried)))
    except (KeyError, TypeError, ValueError) as error:
        raise saving.CheckpointError(
            f"{path}: expected a checkpoint of this version of char_lm, got {error}; "
            "name another folder with --out"
        ) from None
    return run


# Results


def sample(run: Run, count: int, temperature: float, prompt: str, seed: int) -> str:
    """The prompt and `count` characters more, each drawn from the model's distribution sharpened
    by 1/temperature, and read as the next input."""
    rng, state, text = np.random.default_rng(seed), None, prompt
    ids = run.vocabulary.encode(prompt)
    with tg.no_grad():
        for _ in range(count):
            logits, state = run.model(ids[:, None], state)
            p = tg.softmax(logits[-1, 0].astype("float64") / temperature).numpy()
            ids = rng.choice(len(p), size=1, p=p)
            text += run.vocabulary.decode(ids)
    return text


def draw_curve(run: Run, losses: dict[str, float], path: Path) -> None:
    """The loss against the updates, as a picture."""
    from matplotlib.figure import Figure

    update, nats, valid = np.array(run.curve).T
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(update, nats, ".-", label="training (mean since the last point)")
    axes.plot(update, valid, ".-", label=f"validation (at most {GLANCE:,} characters)")
    axes.axhline(losses["bigrams"], color="gray", ls="--", label="bigrams")
    title = f"char_lm on {Path(run.data).name}: {losses['validation']:z.4f} nats/char"
    axes.set(xlabel="update", ylabel="nats per character", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def log(path: Path, **line: Any) -> None:
    with open(path.with_name("log.jsonl"), "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def report(run: Run, losses: dict[str, float], path: Path) -> dict[str, Any]:
    """Writes down what a table of results needs to know of a run."""
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    name, size = Path(run.data).name, len(run.characters)
    found = {
        "command": run.command,
        "recipe": asdict(run.recipe),
        "text": {"name": name, "sha256": run.digest, "vocabulary": size},
        "nats per character": losses,
        "minutes of training": run.seconds / 60,
        "characters per second": run.read / run.seconds,
        "versions": versions | {"tinygrad_rnn": tg.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    log(path, **found)
    path.with_name("result.json").write_text(json.dumps(found, indent=1) + "\n")
    return found


# Command line


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m zoo.char_lm", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add, mode = parser.add_argument, parser.add_mutually_exclusive_group()
    whole, real = between(int, 1, 10**9), between(float, 1e-9, 1e9)
    kinds = {"seed": a_seed, "dropout": between(float, 0, 0.99)}
    add("--data", metavar="NAME", help="stdlib (default), tiny-shakespeare, or a text file's path")
    add("--out", type=Path, metavar="DIR", help="its folder (default: runs/char_lm-NAME, -2, ...)")
    mode.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    mode.add_argument("--sample", type=whole, metavar="N", help="only write N characters from it")
    add("--temperature", type=real, metavar="X", default=0.7, help="of the text (default: 0.7)")
    add("--prompt", metavar="TEXT", help="what the text goes on from (default: a new line)")
    add("--curve", type=png, metavar="PNG", help="draw the loss against the updates")
    recipe = parser.add_argument_group("recipe", f"for a data set of its own: {RECIPES}")
    for name, hint in get_type_hints(Recipe, include_extras=True).items():
        kind, about = get_args(hint)
        number = kinds.get(name, whole if kind is int else real)
        about += f" (default: {getattr(Recipe, name)})"
        recipe.add_argument(f"--{name}", type=number, metavar="NX"[kind is float], help=about)
    options = parser.parse_args(argv)
    if options.curve and not options.curve.parent.is_dir():
        parser.error(f"--curve: expected a name in an existing folder, got {options.curve}")
    options.command = typed("zoo.char_lm", argv)
    options.recipe = {n: v for n in asdict(Recipe()) if (v := getattr(options, n)) is not None}
    return options


def place(options: argparse.Namespace) -> Path:
    """Where the checkpoint is, or will be: never where another run's stands."""
    first: Path = options.out or Path("runs") / f"char_lm-{Path(options.data or 'stdlib').stem}"
    numbers = range(2, 2 if options.out else 1000)
    folders = [first, *(first.with_name(f"{first.name}-{k}") for k in numbers)]
    saved = {f: [c.stat().st_mtime for c in f.glob("checkpoint*.safetensors")] for f in folders}
    if not (options.resume or options.sample):
        folder = next((f for f in folders if not saved[f]), None)
        wrong = "without a checkpoint, it has one; pass --resume to go on, or name another folder"
    else:
        folder = max((f for f in folders if saved[f]), key=lambda f: max(saved[f]), default=None)
        wrong = "with a checkpoint, it has none; train one first, or name its folder with --out"
    if folder is None:
        raise ValueError(f"{first}: expected a folder {wrong}")
    return folder / "checkpoint.safetensors"


def prepare(options: argparse.Namespace, path: Path) -> tuple[Run, np.ndarray, np.ndarray]:
    """A new run, or the one in the checkpoint, and the text's two parts."""
    run = restore(path) if options.resume else None
    text = datasets.load_text(options.data or (run.data if run else "stdlib"))
    train_text, valid_text = datasets.split(text.text)
    if min(len(train_text), len(valid_text)) < 2:
        raise ValueError(
            f"{text.name}: expected at least 11 characters, got {len(text.text)}; choose a longer "
            "text: a tenth of it is for validation, and must have a character to predict"
        )
    digest = hashlib.sha256(text.text.encode()).hexdigest()
    if run is None:
        characters = datasets.Vocabulary(text.text).characters
        chosen = Recipe(**RECIPES.get(text.name, {}) | options.recipe)
        run = Run(chosen, options.command, text.name, digest, characters)
    recipe = asdict(run.recipe)
    wrong = [f"--{n} {recipe[n]}" for n, v in options.recipe.items() if recipe[n] != v]
    if run.digest != digest:
        wrong.insert(0, f"the same text as before in --data {run.data}")
    if wrong:
        raise ValueError(
            f"--resume: {path}: expected {' and '.join(wrong)}, got something else; "
            "leave that option out, or start anew with another --out"
        )
    print(f"text: {text.source}; {len(text.text):,} characters, {len(run.characters)} distinct")
    print("recipe:", *(f"--{n} {v}" for n, v in recipe.items()), flush=True)
    return run, run.vocabulary.encode(train_text), run.vocabulary.encode(valid_text)


def opening(options: argparse.Namespace, run: Run) -> str:
    """What the model's own text goes on from."""
    prompt: str = options.prompt or ("\n" if "\n" in run.characters else run.characters[0])
    if strange := sorted(set(prompt) - set(run.characters)):
        raise ValueError(f"--prompt: expected characters of the text, got {strange}; drop them")
    return prompt


def run_training(options: argparse.Namespace, path: Path) -> dict[str, Any]:
    run, train_ids, valid_ids = prepare(options, path)
    prompt, size = opening(options, run), len(run.characters)
    path.parent.mkdir(parents=True, exist_ok=True)
    log(path, command=options.command, recipe=asdict(run.recipe), update=run.update)
    if not options.resume:
        save(run, path)
    with Interrupt() as interrupt, threadpool_limits(1, "blas"):  # more wait for each other
        try:
            train(run, train_ids, valid_ids, path, interrupt)
            save(run, path)
            losses = {
                "unigrams": datasets.unigram_loss(train_ids, valid_ids, size),
                "bigrams": datasets.bigram_loss(train_ids, valid_ids, size),
                "validation": evaluate(run.model, valid_ids, interrupt),
            }
        except Stopped:
            save(run, path)
            words = shlex.join(["--resume", "--data", run.data, "--out", str(path.parent)])
            print(f"saved after update {run.update}; go on with {words}", file=sys.stderr)
            raise SystemExit(interrupt.exit_code) from None
    found = report(run, losses, path)
    print(sample(run, 600, options.temperature, prompt, run.recipe.seed))
    print(f"\ncheckpoint {path}; {run.seconds / 60:.1f} minutes of training")
    for name, loss in losses.items():
        print(f"{name:10} {loss:z.4f} nats/char", flush=True)
    if options.curve:
        draw_curve(run, losses, options.curve)
    return found


def main(argv: Sequence[str] | None = None) -> Any:
    options = parse(argv)
    try:
        path = place(options)
        if options.sample is None:
            return run_training(options, path)
        run = restore(path)
        seed = options.recipe.get("seed", run.recipe.seed)
        text = sample(run, options.sample, options.temperature, opening(options, run), seed)
        print(f"from {path}, update {run.update} of {run.recipe.updates}", file=sys.stderr)
        print(text)
        return text
    except KeyboardInterrupt:
        print("char_lm: stopped at once; --resume goes on from what was saved", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError, ImportError, MemoryError) as error:
        remedy = "; name another place" if isinstance(error, OSError) else ""
        print(f"char_lm: {error}{remedy}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    main()
