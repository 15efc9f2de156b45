"""A training that can be ended anywhere and goes on from its checkpoint, bit for bit.

    python -m tests.resuming FOLDER STEPS EVERY AT CALL

It saves after every EVERY steps and ends after STEPS. If AT is not -1, it ends before: after step
AT it saves and stops (CALL is "stop"), is killed ("kill"), or is killed in its next save, before
the system call of that number. Each loss goes to a file at once, with its step.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, saving

ROOT = Path(__file__).resolve().parents[1]
CALLS = ("fsync", "link", "replace", "replace", "fsync")  # of a save that replaces another
LOSS = np.dtype([("step", "<i8"), ("loss", "<f4")])


class Tagger(nn.Module):
    """A model with everything that has to be kept: a tied weight, a buffer, dropout, a state."""

    def __init__(self, rng):
        self.table = nn.Embedding(7, 6, rng=rng)
        self.layer = nn.GRU(6, 6, rng=rng)
        self.drop = nn.Dropout(0.2, rng=rng)
        self.output = nn.Linear(6, 7, rng=rng)
        self.output.weight = self.table.weight
        self.register_buffer("seen", 0)

    def __call__(self, ids, state):
        self.seen = self.seen + ids.size
        output, state = self.layer(self.table(ids), state)
        return self.output(self.drop(output)), state


class Training:
    """Streams of symbols, some at a time; everything that changes from step to step is saved."""

    def __init__(self, path):
        self.path, self.step = path, 0
        self.rng = np.random.default_rng(1)
        self.model = Tagger(self.rng)
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01)
        self.schedule = optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, patience=40, min_lr=0.002
        )
        streams = np.random.default_rng(2).integers(7, size=(24, 12))  # twelve, of 24 symbols
        self.streams, self.lengths = streams, np.arange(12) % 4 + 21
        self.batches = nn.Batches(self.lengths, 3, rng=self.rng)
        self.rows, self.pieces = None, None  # the streams under way

    def losses(self, last):
        """Goes on to step `last`."""
        while self.step < last:
            if self.rows is None:
                self.rows = next(iter(self.batches), None)
                if self.rows is None:
                    continue
                self.begin()
            for x, y, state in self.pieces:
                yield self.train(x, y, state)
                if self.step == last:
                    return
            self.rows = None

    def begin(self, state=None, position=0):
        steps = slice(0, self.lengths[self.rows].min())
        x = self.streams[steps][:, self.rows]
        self.pieces = nn.TBPTT(x[:-1], x[1:], 5, state, position)

    def train(self, x, y, state):
        logits, self.pieces.state = self.model(x, state)
        loss = nn.cross_entropy(logits, y)
        self.model.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step(loss.item())
        self.step += 1
        return self.step - 1, loss.item()

    def save(self):
        arrays = {f"model.{n}": a for n, a in self.model.state_dict().items()}
        arrays |= {f"optimizer.{n}": a for n, a in self.optimizer.state_dict().items()}
        state = {"step": self.step, "rng": saving.generator_state(self.rng)}
        state |= {"schedule": self.schedule.state_dict(), "batches": self.batches.state_dict()}
        if self.rows is not None:
            arrays |= {"rows": self.rows, "carried": self.pieces.state.numpy()}
            state["position"] = self.pieces.position
        saving.save(self.path, arrays, state)

    def load(self):
        arrays, state = saving.load(self.path)
        for name in ("model", "optimizer"):
            own = {n[len(name) + 1 :]: a for n, a in arrays.items() if n.startswith(f"{name}.")}
            getattr(self, name).load_state_dict(own)
        self.schedule.load_state_dict(state["schedule"])
        self.batches.load_state_dict(state["batches"])
        saving.set_generator_state(self.rng, state["rng"])
        self.step = state["step"]
        if "rows" in arrays:
            self.rows = arrays["rows"]
            self.begin(tg.Tensor(arrays["carried"]), state["position"])
        return self


def dying(call):
    """Kill this process before a system call of the saves from here on."""
    left = call

    def before(real):
        def wrapped(*args):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)

        return wrapped

    for name in dict.fromkeys(CALLS):
        setattr(os, name, before(getattr(os, name)))


def main(folder, last, every, at=-1, call="0"):
    path = Path(folder) / "a.safetensors"
    training = Training(path)
    if path.exists():
        training.load()
    with open(Path(folder) / "losses", "ab", buffering=0) as file:
        for step, loss in training.losses(last):
            file.write(np.array((step, loss), LOSS).tobytes())
            if step == at and call == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if step == at and call == "stop":
                training.save()
                return
            if step == at:
                dying(int(call))
            if training.step % every == 0:
                training.save()
    training.save()


def run(folder, last, every, at=-1, call="0"):
    """A process that trains; how it ended."""
    args = [str(a) for a in (folder, last, every, at, call)]
    command = [sys.executable, "-m", "tests.resuming", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def losses(folder):
    """The steps and losses that processes in a folder have written, in order."""
    return np.fromfile(Path(folder) / "losses", LOSS)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5])
