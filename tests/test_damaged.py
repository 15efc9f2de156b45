"""Damaged, forged and wrong files: a declared error or the very same data, and nothing changed."""

import copy
import json
import string
import time

import numpy as np
import pytest

from tests.resuming import Tagger, Training
from tests.test_saving import HOSTILE, bits, container, damage, exact, signed
from tinygrad_rnn import saving
from tinygrad_rnn.saving import CheckpointError

safetensors = pytest.importorskip("safetensors.numpy")

SECONDS = 5.0  # longer is a hang
COUNT = 300  # files of each kind
VALUES = [None, True, -1, 0, 7, 2**62, 2**70, 1e308, "", "F32", "F64", "é", [], [3], {}, [[]]]
VALUES += [{"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, [0, 2**63], "0" * 64]


def contents(rng):
    """Arrays of any type and shape, and a state."""
    arrays = {}
    for k in range(int(rng.integers(6))):
        dtype = np.dtype(str(rng.choice(sorted(saving.DTYPES))))
        shape = tuple(rng.integers(0, 6, rng.integers(4)))
        raw = rng.integers(0, 2 if dtype.kind == "b" else 256, (*shape, dtype.itemsize), np.uint8)
        arrays[f"layer{k}.weight"] = raw.view(dtype)[..., 0]
    state = {"rng": saving.generator_state(rng), "best": float("inf"), "curve": [[1, 2.5]] * 3}
    return arrays, state | {"step": int(rng.integers(2**40))}


def mutated(value, rng):
    """A JSON value with one thing in it removed, renamed, exchanged, added or replaced."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        return copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
    changed = copy.copy(value)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, kind = keys[int(rng.integers(len(keys)))], int(rng.integers(8))
    if kind == 0:
        del changed[key]
    elif kind == 1 and isinstance(changed, dict):
        changed[str(rng.choice(list(string.ascii_letters)))] = changed.pop(key)
    elif kind == 2:
        twin = keys[int(rng.integers(len(keys)))]
        changed[key], changed[twin] = changed[twin], changed[key]
    elif kind == 3 and isinstance(changed, list):
        changed.append(key)
    else:
        changed[key] = mutated(value[key], rng)
    return changed


def parts(blob):
    """Header and data of a file."""
    end = 8 + int.from_bytes(blob[:8], "little")
    return json.loads(blob[8:end]), blob[end:]


def new_header(blob, rng):
    """Names, types, shapes, offsets, checksums or the state changed, in a header of right form."""
    header, data = parts(blob)
    return container(mutated(header, rng), data)


def forged(blob, rng):
    """The same by somebody who writes right checksums."""
    header, data = parts(blob)
    document = mutated(json.loads(header.pop("__metadata__")[saving.FORMAT]), rng)
    changed = mutated(header, rng) if rng.random() < 0.5 else header
    return signed(document, changed if isinstance(changed, dict) else header, data)


def fault(path, load):
    """What is wrong when a file is loaded: with the data, by `load`'s word, or beside them."""
    before, begin, wrong = path.read_bytes(), time.monotonic(), None
    try:
        wrong = load()
    except CheckpointError:
        pass
    except Exception as error:
        wrong = f"not a declared error but {error!r:.200}"
    if path.read_bytes() != before:
        wrong = "the file was changed"
    if time.monotonic() - begin > SECONDS:
        wrong = f"took {time.monotonic() - begin:.1f} s"
    return wrong and f"{wrong}: {before[:200]!r}"


def loaded(path):
    arrays, state = saving.load(path)
    return bits(arrays), exact(state)


def damaged_faults(path, rng, change, count):
    """What is wrong with each of so many damaged copies of a checkpoint; None where nothing is."""
    saving.save(path, *contents(rng))
    blob, expected = path.read_bytes(), loaded(path)
    for _ in range(count):
        path.write_bytes(change(blob, rng))
        yield fault(path, lambda: None if loaded(path) == expected else "other data")


def forged_faults(path, rng, count):
    saving.save(path, *contents(rng))
    blob = path.read_bytes()
    for _ in range(count):
        path.write_bytes(forged(blob, rng))
        yield fault(path, lambda: None if loaded(path) else "nothing")


def taken(target, state):
    """What is wrong when a part of a training loads a state: it must take all of it or none."""
    before = shown(target)
    try:
        target.load_state_dict(state)
    except ValueError:
        return None if shown(target) == before else "changed in spite of an error"
    return None


def shown(target):
    """What it holds, to the bit: arrays, or the numbers of a schedule and of batches."""
    state = target.state_dict()
    return exact(state) if "last_epoch" in state or "seed" in state else bits(state)


def foreign_faults(path, rng, count):
    """Damaged files without checksums, read into a model."""
    model = Tagger(rng)
    blob = safetensors.save(model.state_dict())
    for k in range(count):
        path.write_bytes((damage if k % 2 else new_header)(blob, rng))
        yield fault(path, lambda: taken(model, saving.load_arrays(path)))


def wrong_state(state, rng):
    """A state with names missing, new or exchanged, or an array of another shape or type."""
    name, kind = str(rng.choice(list(state))), int(rng.integers(4))
    if kind == 0:
        return mutated({n: a.tolist() for n, a in state.items()}, rng)
    array = state[name]
    if kind == 1:
        array = array.astype(str(rng.choice(["complex128", "U8", "bool", "O", "int8"])))
    elif kind == 2:
        array = array.reshape(-1, 1) if rng.random() < 0.5 else array.ravel()[1:]
    else:
        array = VALUES[int(rng.integers(len(VALUES)))]
    return state | {name: array}


def wrong_state_faults(rng, count):
    training = Training(None)
    list(training.losses(3))
    targets = training.model, training.optimizer, training.schedule, training.batches
    for k in range(count):
        target = targets[k % 4]
        change = wrong_state if k % 4 < 2 else mutated
        try:
            yield taken(target, change(target.state_dict(), rng))
        except Exception as error:
            yield f"{type(target).__name__}: not a declared error but {error!r:.200}"
    list(training.losses(200))  # whatever was taken can be gone on from


@pytest.mark.parametrize("change", (damage, new_header))
def test_a_damaged_checkpoint_is_an_error_or_the_same_data(change, tmp_path, rng):
    for _ in range(3):
        assert not any(damaged_faults(tmp_path / "a", rng, change, COUNT // 3))


def test_a_forged_checkpoint_is_a_declared_error_or_data(tmp_path, rng):
    for _ in range(3):
        assert not any(forged_faults(tmp_path / "a", rng, COUNT // 3))


def test_a_model_takes_another_tools_damaged_file_whole_or_stays_what_it_was(tmp_path, rng):
    assert not any(foreign_faults(tmp_path / "a", rng, COUNT))


def test_a_wrong_state_changes_nothing(rng):
    assert not any(wrong_state_faults(rng, COUNT))


@pytest.mark.parametrize("blob", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_of_another_tool_is_a_declared_error_or_arrays(blob, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(blob)
    assert not fault(path, lambda: None if type(saving.load_arrays(path)) is dict else "no arrays")


def test_faults_are_seen(tmp_path):
    """What the tests above go by."""
    path = tmp_path / "a"
    path.write_bytes(b"x")
    assert fault(path, lambda: None) is None
    assert "not a declared error but KeyError" in fault(path, lambda: {}["a"])
    assert "the file was changed" in fault(path, lambda: path.write_bytes(b"") and None)

    class Torn:
        def __init__(self):
            self.state = {"a": np.zeros(2)}

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = dict(state)
            raise ValueError

    assert taken(Torn(), {"a": np.ones(2)}) == "changed in spite of an error"


@pytest.mark.parametrize("name", ("output.weight", "table.weight"))
@pytest.mark.parametrize("kind", ("U8", "O", "complex128"))
def test_a_tied_array_of_another_kind_is_refused_under_either_name(name, kind, rng):
    model = Tagger(rng)
    state = model.state_dict()
    state[name] = state[name].astype(kind)
    before = bits(model.state_dict())
    with pytest.raises(ValueError, match=rf"wrong \[.*'{name}: expected \(7, 6\) float32, got"):
        model.load_state_dict(state)
    assert bits(model.state_dict()) == before
