"""The three layers as ONNX operators, run by onnxruntime: inference only."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from benchmarks.peers.process import Missing, Task
from benchmarks.peers.rows import GATES, Arrays, Row

# ONNX's order of gates, as places in torch's: z r h of r z n, and i o f c of i f g o.
ORDER = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}


def _ordered(cell: str, array: np.ndarray) -> np.ndarray:
    gates = np.split(array, GATES[cell])
    return np.concatenate([gates[k] for k in ORDER[cell]])


def model(row: Row) -> bytes:
    """A graph of one operator, its weights inside: x (T, B, I) -> output (T, 1, B, H)."""
    from onnx import TensorProto, helper, numpy_helper

    T, B, inputs, H = row.size
    arrays = {name: _ordered(row.cell, a) for name, a in row.weights().items()}
    bias = np.concatenate([arrays["bias_ih_l0"], arrays["bias_hh_l0"]])
    constants = {"W": arrays["weight_ih_l0"], "R": arrays["weight_hh_l0"], "B": bias}
    options: dict[str, Any] = {"linear_before_reset": 1} if row.cell == "GRU" else {}
    node = helper.make_node(row.cell, ["x", *constants], ["output"], hidden_size=H, **options)
    graph = helper.make_graph(
        [node],
        row.cell,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [T, B, inputs])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [T, 1, B, H])],
        [numpy_helper.from_array(a[None], name) for name, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(made.SerializeToString())


def prepare(library: str, row: Row, threads: int) -> Task:
    """A row by onnxruntime."""
    if row.mode != "infer" or row.layers > 1:
        raise Missing("inference of one layer only")
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(model(row), options, providers=["CPUExecutionProvider"])
    inputs = {"x": row.inputs()[0]}

    def run() -> Any:
        return session.run(None, inputs)[0]

    def results() -> Arrays:
        return {"output": run()[:, 0]}  # (T, B, H)

    return Task(run, results, row.flops)
