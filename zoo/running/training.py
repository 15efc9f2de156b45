"""What training loops have in common: the learning rate, the progress, when and what to save."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

import tinygrad_rnn as tg
from tinygrad_rnn import saving
from zoo.running.interrupt import Interrupt
from zoo.running.progress import progress
from zoo.running.runs import Stopped, group, last_folder, made_folder, new_folder, plain

SAVE_SECONDS = 30.0


@dataclass
class Begun:
    """What everything that is resumed began with; a script's own has more."""

    recipe: Any
    command: str  # that began it
    data: str  # the text's name
    digest: str  # and its SHA-256


class Run(Protocol):
    """What of a run is shown."""

    update: int  # that were done
    read: int  # tokens
    seconds: float  # spent training
    recent: list[float]  # losses since the last point of the curve, in nats


def learning_rate(highest: float, update: int, updates: int) -> float:
    """Rises over the first 50 updates, then falls along a cosine to 2 %.

    >>> [round(learning_rate(1.0, k, 1000), 2) for k in (0, 49, 500, 1000)]
    [0.02, 0.99, 0.51, 0.02]
    """
    fall = 0.5 * (1 + math.cos(math.pi * update / updates))
    return highest * min(1.0, (update + 1) / 50) * (0.02 + 0.98 * fall)


def updating(
    run: Run, updates: int, unit: str, interrupt: Interrupt, save: Callable[[], None]
) -> Iterator[None]:
    """Comes back before every update that is left and after the last: between them it shows how
    the run is doing, saves every 30 seconds, and raises Stopped if somebody asked for it."""
    saved = time.monotonic()
    with progress(total=updates, initial=run.update, unit="update") as bar:
        while run.update < updates:
            yield
            loss, mean, rate = run.recent[-1], np.mean(run.recent), run.read / run.seconds
            shown = f"loss {loss:.3f}, {mean:.3f} nats/{unit}, {rate:,.0f} {unit}s/s"
            bar.set_postfix_str(shown, refresh=False)
            bar.update()
            if interrupt.requested:
                raise Stopped
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
        yield


def folder_of(options: argparse.Namespace, name: str, data: str, make: bool = False) -> Path:
    """A script's folder for a new run, which may be made, or the one to go on in; `data` is what it
    learns if nobody says."""
    find = made_folder if make else new_folder
    if options.resume or options.sample:
        find = last_folder
    return find(options.out, f"{name}-{Path(options.data or data).stem}", "checkpoint*.safetensors")


@contextmanager
def stopping(run: Any, folder: Path, save: Callable[[], None]) -> Iterator[Interrupt]:
    """Around a training that can be stopped: it is then saved, and after which update, or `place`
    of the run, and how to go on is told. BLAS has one thread, since its threads and ours would
    wait for each other."""
    with Interrupt() as interrupt, threadpool_limits(1, "blas"):
        try:
            yield interrupt
        except Stopped:
            save()
            words = shlex.join(["--resume", "--data", run.data, "--out", str(folder)])
            place = getattr(run, "place", f"update {run.update}")
            print(f"saved after {place}; go on with {words}", file=sys.stderr)
            raise SystemExit(interrupt.exit_code) from None


# Checkpoints


def arrays_of(run: Any) -> dict[str, np.ndarray]:
    """Of a run that trains `model` by `optimizer`: these, its `curve`, and what is `recent`."""
    arrays = {f"model.{n}": a for n, a in run.model.state_dict().items()}
    arrays |= {f"optimizer.{n}": a for n, a in run.optimizer.state_dict().items()}
    return arrays | {"curve": np.array(run.curve), "recent": np.array(run.recent)}


def save(run: Any, path: Path, script: str, more: Mapping[str, np.ndarray] | None = None) -> None:
    """Writes `arrays_of` a run, the `state` that it carries and more arrays; its fields, and the
    state of its `rng`."""
    carried = {f"carried.{k}": a for k, a in enumerate(parts_of(run.state))}
    saved = plain({"script": script, "rng": saving.generator_state(run.rng), **asdict(run)})
    saving.save(path, arrays_of(run) | carried | dict(more or {}), saved)


def fields(state: Mapping[str, Any], recipe: type[Any]) -> dict[str, Any]:
    """What makes the run anew of what `save` wrote; an older version's recipe lacks something."""
    if lacking := sorted(asdict(recipe()).keys() - state["recipe"].keys()):
        raise ValueError(f"one whose recipe lacks {', '.join(lacking)}")
    own = {name: value for name, value in state.items() if name not in ("script", "rng")}
    return own | {"recipe": recipe(**state["recipe"])}


def fill_arrays(run: Any, arrays: Mapping[str, Any]) -> None:
    """Puts back what `arrays_of` gave."""
    run.model.load_state_dict(group(arrays, "model"))
    run.optimizer.load_state_dict(group(arrays, "optimizer"))
    run.curve, run.recent = arrays["curve"].tolist(), arrays["recent"].tolist()


def fill(run: Any, arrays: Mapping[str, Any], rng: Mapping[str, Any], shape: Any) -> None:
    """Puts back what `save` wrote beside the fields: `rng` is that of its state, `shape` a state
    like the one it carried."""
    fill_arrays(run, arrays)
    if carried := group(arrays, "carried"):
        run.state = state_of(shape, iter(carried.values()))
    saving.set_generator_state(run.rng, rng)


def parts_of(state: Any) -> list[np.ndarray]:
    """The arrays of a state, tuples in tuples, in order; none of None."""
    if isinstance(state, tuple):
        return [array for part in state for array in parts_of(part)]
    return [] if state is None else [state.numpy()]


def state_of(shape: Any, parts: Iterator[np.ndarray]) -> Any:
    """The state of these parts, of the shape of another.

    >>> one, two = tg.zeros(1), tg.ones(2)
    >>> state_of((one, (two,)), iter(parts_of((two, (one,)))))
    (Tensor([1., 1.], dtype=float32), (Tensor([0.], dtype=float32),))
    """
    if isinstance(shape, tuple):
        return tuple(state_of(part, parts) for part in shape)
    return tg.Tensor(next(parts))
