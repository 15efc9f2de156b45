"""ONNX's operators RNN, GRU and LSTM: the published cases, and random ones beside onnxruntime."""

import contextlib
import importlib
import zlib

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.parity.onnx_equations import equations
from tests.parity.onnx_operator import ACTIVATIONS as KNOWN
from tests.parity.onnx_operator import ALPHA, BETA, GATES, USUAL, layers, operator, run

onnx = pytest.importorskip("onnx")

pytestmark = pytest.mark.parity

SLOTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
OUTPUTS = ["Y", "Y_h", "Y_c"]
COMPILED = 8  # random operators of each kind; the others run by their definitions


def published():
    """The cases that the package onnx brings."""
    cases = importlib.import_module("onnx.backend.test.case.node")
    for name in ("rnn", "gru", "lstm"):
        importlib.import_module(f"onnx.backend.test.case.node.{name}")
    found = {case.name: case for case in cases._NodeTestCases}
    return {n: c for n, c in found.items() if c.model.graph.node[0].op_type in GATES}


def slots(kind):
    return SLOTS if kind == "LSTM" else SLOTS[:6]


def count(kind):
    return 3 if kind == "LSTM" else 2


PUBLISHED = published()


def test_all_published_cases_are_there():
    assert len(PUBLISHED) >= 18
    kinds = [case.model.graph.node[0].op_type for case in PUBLISHED.values()]
    assert all(kinds.count(kind) >= 6 for kind in GATES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_case(name):
    case = PUBLISHED[name]
    node = case.model.graph.node[0]
    kind, attributes = node.op_type, {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        attributes[attribute.name] = value.decode() if isinstance(value, bytes) else value
    for given, wanted in case.data_sets:
        names = [slot for slot, edge in zip(slots(kind), node.input, strict=False) if edge]
        found = operator(kind, dict(zip(names, given, strict=True)), attributes)
        names = [output for output, edge in zip(OUTPUTS, node.output, strict=False) if edge]
        for output, expected in zip(names, wanted, strict=True):
            assert expected.any() and found[output].dtype == expected.dtype == np.float32
            np.testing.assert_allclose(found[output], expected, rtol=1e-5, atol=1e-6)


def drawn(kind, k, dtype="float32", special=True):
    """Inputs and attributes of an operator; `special` ones have cell clip, other activations,
    coupled gates or lengths."""
    rng = np.random.default_rng((zlib.crc32(kind.encode()), k))
    steps, batch, width, units = (int(n) for n in rng.integers(1, (8, 5, 7, 7)))
    attributes = {"direction": str(rng.choice(["forward", "reverse", "bidirectional"]))}
    both, gates = 1 + (attributes["direction"] == "bidirectional"), GATES[kind]
    shapes = {"X": (steps, batch, width), "W": (both, gates * units, width)}
    shapes |= {"R": (both, gates * units, units), "B": (both, 2 * gates * units)}
    shapes |= {"initial_h": (both, batch, units), "initial_c": (both, batch, units)}
    shapes |= {"P": (both, 3 * units)}
    inputs = {n: rng.normal(0, 0.5, shape).astype(dtype) for n, shape in shapes.items()}
    for name in ("B", "initial_h", "initial_c", "P"):
        if rng.random() < 0.4 or name not in slots(kind):
            del inputs[name]
    if kind == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    if not special:
        return inputs, attributes
    if rng.random() < 0.5:
        inputs["sequence_lens"] = rng.integers(1, steps + 1, batch).astype(np.int32)
    if rng.random() < 0.5:
        attributes["clip"] = float(np.float32(rng.uniform(0.05, 1.0)))
    if kind == "LSTM" and rng.random() < 0.5:
        attributes["input_forget"] = 1
    if rng.random() < 0.7:
        names = [str(n) for n in rng.choice(list(KNOWN), both * len(USUAL[kind]))]
        attributes["activations"] = names
        for numbers, takes in (("alpha", ALPHA), ("beta", BETA)):
            values = [float(np.float32(rng.uniform(0.1, 0.9))) for n in names if n in takes]
            if values and (rng.random() < 0.7 or None in map(takes.get, names)):
                attributes[f"activation_{numbers}"] = values
    return inputs, attributes


def model(kind, inputs, attributes):
    """A model of one operator."""
    edges = [slot if slot in inputs else "" for slot in slots(kind)]
    while not edges[-1]:
        edges.pop()
    make, float_type = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype
    node = make.make_node(
        kind, edges, OUTPUTS[: count(kind)], hidden_size=inputs["R"].shape[2], **attributes
    )
    values = [
        make.make_tensor_value_info(n, float_type(a.dtype), a.shape) for n, a in inputs.items()
    ]
    real = float_type(inputs["X"].dtype)
    results = [make.make_tensor_value_info(n, real, None) for n in OUTPUTS[: count(kind)]]
    graph = make.make_graph([node], kind, values, results)
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 14)], ir_version=8)


def turned(inputs, attributes):
    """The same operator with the batch first."""
    states = {n: inputs[n].swapaxes(0, 1) for n in ("X", "initial_h", "initial_c") if n in inputs}
    return inputs | states, attributes | {"layout": 1}


def agree(found, expected, tolerance):
    for name, e in zip(OUTPUTS, expected, strict=False):
        assert found[name].shape == e.shape and found[name].dtype == e.dtype
        scale = max(1.0, np.abs(e).max())
        np.testing.assert_allclose(found[name] / scale, e / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("k", range(40))
@pytest.mark.parametrize("kind", GATES)
def test_random_operator_is_onnxruntimes(kind, k):
    runtime = pytest.importorskip("onnxruntime")
    inputs, attributes = drawn(kind, k)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    text = model(kind, inputs, attributes).SerializeToString()
    session = runtime.InferenceSession(text, options, providers=["CPUExecutionProvider"])
    expected = session.run(None, inputs)
    assert expected[0].any() or attributes.get("activations")
    attributes = attributes | {"unbounded": "h"}  # which onnxruntime's clip leaves alone
    with contextlib.nullcontext() if k < COMPILED else tg.definitions():
        agree(operator(kind, inputs, attributes), expected, 1e-5)


@pytest.mark.parametrize("k", range(40))
@pytest.mark.parametrize("kind", GATES)
def test_random_operator_is_its_equations(kind, k):
    inputs, attributes = drawn(kind, k, "float64")
    expected = equations(kind, inputs, attributes)
    with contextlib.nullcontext() if k < COMPILED else tg.definitions():
        agree(operator(kind, inputs, attributes), expected, 1e-12)
        found = operator(kind, *turned(inputs, attributes))
    found = {n: a.transpose(1, 2, 0, 3) if n == "Y" else a.swapaxes(0, 1) for n, a in found.items()}
    agree(found, expected, 1e-12)


@pytest.mark.parametrize("k", range(40))
@pytest.mark.parametrize("kind", GATES)
def test_random_operator_is_the_references(kind, k):
    """In float64; the reference has no lengths, clip, other activations and coupled gates."""
    reference = importlib.import_module("onnx.reference")
    inputs, attributes = drawn(kind, k, "float64", special=False)
    if k % 2:
        inputs, attributes = turned(inputs, attributes)
    expected = reference.ReferenceEvaluator(model(kind, inputs, attributes)).run(None, inputs)
    agree(operator(kind, inputs, attributes), expected, 1e-12)


@pytest.mark.parametrize("k", range(COMPILED))
@pytest.mark.parametrize("kind", GATES)
def test_gradients_of_an_operator_are_its_definitions(kind, k):
    inputs, attributes = drawn(kind, k, "float64")
    made = layers(kind, inputs, attributes)
    parameters = [p for layer, _ in made for p in layer.parameters()]

    def gradients():
        x = tg.Tensor(inputs["X"], requires_grad=True)
        outputs = list(run(kind, made, inputs, attributes, x).values())
        gs = [np.random.default_rng(0).standard_normal(v.shape) for v in outputs]
        found = tg.grad(outputs, [x, *parameters], gs, allow_unused=True)  # clipped: no slope
        return [np.zeros(1) if d is None else np.array(d) for d in found]

    found = gradients()
    with tg.definitions():
        expected = gradients()
    assert any(e.any() for e in expected)
    for f, e in zip(found, expected, strict=True):
        scale = max(1.0, np.abs(e).max())
        np.testing.assert_allclose(f / scale, e / scale, rtol=0, atol=1e-12)
