"""A training that is stopped or killed anywhere goes on as if it had not been, bit for bit."""

import os

import numpy as np
import pytest

from tests.resuming import CALLS, LOSS, Training, losses, run
from tinygrad_rnn import saving

pytest.importorskip("safetensors")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes")

STEPS, EVERY = 160, 10
ENDS = [(13, "stop"), (27, "kill"), *((45 + 14 * k, str(k)) for k in range(len(CALLS)))]


def plain(steps):
    """The losses of a training that nobody ends, and what it is in the end."""
    training = Training(None)
    return np.array(list(training.losses(steps)), LOSS)["loss"], training


def test_a_training_that_is_ended_again_and_again_has_the_same_losses(tmp_path):
    for at, call in ENDS:
        process = run(tmp_path, STEPS, EVERY, at, call)
        assert process.returncode == (0 if call == "stop" else -9), process.stderr
    process = run(tmp_path, STEPS, EVERY)
    assert process.returncode == 0, process.stderr
    found, (expected, training) = losses(tmp_path), plain(STEPS)
    assert len(found) > STEPS  # some steps were taken again
    assert set(found["step"]) == set(range(STEPS)) and len(set(expected)) > STEPS // 2
    np.testing.assert_array_equal(found["loss"], expected[found["step"]])
    arrays, _ = saving.load(tmp_path / "a.safetensors")
    for name, array in training.model.state_dict().items():
        np.testing.assert_array_equal(arrays[f"model.{name}"], array)


@pytest.mark.parametrize("step", range(1, 24))
def test_a_training_goes_on_from_any_step(tmp_path, step):
    """Between batches and within them, and across the end of an epoch."""
    first = Training(tmp_path / "a.safetensors")
    begun = list(first.losses(step))
    first.save()
    rest = list(Training(first.path).load().losses(40))
    expected, training = plain(40)
    np.testing.assert_array_equal(np.array(begun + rest, LOSS)["loss"], expected)
    assert [k for k, _ in begun + rest] == list(range(40))
    assert training.model.output.weight is training.model.table.weight


SPOILED = {
    "optimizer.exp_avg.0": np.zeros_like,
    "optimizer.steps": np.zeros_like,
    "carried": np.zeros_like,
    "rng": lambda _: saving.generator_state(np.random.default_rng(9)),
    "schedule": lambda state: state | {"best": 0.0},
    "batches": lambda state: state | {"done": 0},
    "position": lambda _: 0,
}


@pytest.mark.parametrize("part", SPOILED)
def test_every_part_of_the_checkpoint_counts(tmp_path, part):
    """With a part of another moment the losses differ: so the tests above can fail."""
    first = Training(tmp_path / "a.safetensors")
    begun = list(first.losses(25))  # within a batch, and an epoch
    first.save()
    arrays, state = saving.load(first.path)
    for parts in (arrays, state):
        if part in parts:
            parts[part] = SPOILED[part](parts[part])
    saving.save(first.path, arrays, state)
    rest = list(Training(first.path).load().losses(150))
    expected, _ = plain(150)
    assert (np.array(begun + rest, LOSS)["loss"] != expected).any()
