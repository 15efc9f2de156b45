"""The rooms: who imports whom, how long things are, what is public, how fast it all arrives."""

import ast
import inspect
import io
import os
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import tinygrad_rnn as tg

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tinygrad_rnn"

# Lines of code (no docstrings, comments or blank lines) that a room may have
BUDGETS = {
    "autograd": 1_250,  # without ops and trace
    "autograd/ops": 650,
    "autograd/trace": 1_220,
    "kernels": 3_350,
    "nn": 2_200,
    "optim": 300,
    "testing": 2_050,
}
FUNCTION, FILE = 40, 280  # lines of code in a function, lines in a file
LONGER = {"tinygrad_rnn/nn/cells.py": 500, "tinygrad_rnn/saving.py": 360}

# Room: the rooms it may import from
BELOW = {
    "kernels": set(),
    "autograd": {"kernels"},
    "creation": {"autograd"},
    "debug": {"autograd"},
    "drawing": {"autograd"},
    "func": {"transforms"},
    "cell": {"autograd", "kernels"},
    "scan": {"autograd", "cell"},
    "transforms": {"autograd"},
    "nn": {"autograd", "kernels", "cell", "scan"},
    "optim": {"autograd", "kernels"},
    "testing": {"autograd", "creation"},
    "saving": set(),
    "elements": {"autograd", "kernels"},
    "pointwise": {"autograd", "kernels", "elements"},
    "large": {"autograd", "kernels", "elements"},
}
LATE = {  # may be imported inside functions: heavy, or optional
    *("numba", "llvmlite", "safetensors", "pooch", "tqdm", "matplotlib", "IPython", "hypothesis"),
}
FORBIDDEN = {"utils", "util", "helpers", "helper", "base", "misc", "functional", "common"}

# What outside code is written against
CONTRACT = """Tensor no_grad manual_seed set_num_threads get_num_threads grad func primitive fused
    definitions from_numpy checkpoint zeros ones full arange eye randn cell scan pointwise nn optim
    testing detect_anomaly detect_mutation to_dot exp concatenate where split einsum sigmoid relu
    softmax logsumexp""".split()
LATER: set[str] = set()
SIGNATURES = {
    "Tensor": "(array, requires_grad=False, dtype=None)",
    "Tensor.backward": "(self, gradient=None, retain_graph=False)",
    "grad": "(outputs, inputs, grad_outputs=None, create_graph=False, retain_graph=None, "
    "allow_unused=False)",
    "func.grad": "(fn, argnums=0, has_aux=False)",
    "func.value_and_grad": "(fn, argnums=0, has_aux=False)",
    "func.vjp": "(fn, *primals)",
    "func.jvp": "(fn, primals, tangents)",
    "func.jacobian": "(fn, argnums=0)",
    "func.hessian": "(fn, argnums=0)",
    "func.hvp": "(fn, primals, tangents)",
    "fused": "(forward, backward)",
    "checkpoint": "(fn, *inputs)",
    "scan": "(step, xs, state, params=(), *, each=(), lengths=None, reset=None, reverse=False)",
    "nn.RNN": "(input_size, hidden_size, num_layers=1, nonlinearity='tanh', bias=True, "
    "batch_first=False, dropout=0.0, bidirectional=False, *, dtype=<class 'numpy.float32'>, "
    "rng=None, **options)",
    "nn.LSTM": "(input_size, hidden_size, num_layers=1, bias=True, batch_first=False, "
    "dropout=0.0, bidirectional=False, proj_size=0, *, dtype=<class 'numpy.float32'>, rng=None, "
    "**options)",
    "nn.GRU": "(input_size, hidden_size, num_layers=1, bias=True, batch_first=False, "
    "dropout=0.0, bidirectional=False, reset_after=True, *, dtype=<class 'numpy.float32'>, "
    "rng=None, **options)",
    "nn.LSTM.__call__": "(self, x, state=None, lengths=None, *, reset=None, return_states=False, "
    "return_gates=False)",
    "nn.Recurrent": "(step, input_size, hidden_size, shapes=None, *, states=None, num_layers=1, "
    "bias=True, batch_first=False, dropout=0.0, bidirectional=False, locked_dropout=False, "
    "recurrent_dropout=0.0, zoneout=0.0, weight_drop=0.0, learned_state=False, "
    "dtype=<class 'numpy.float32'>, rng=None)",
    "nn.RNNCell": "(input_size, hidden_size, bias=True, nonlinearity='tanh', *, "
    "dtype=<class 'numpy.float32'>, rng=None)",
    **dict.fromkeys(
        ("nn.LSTMCell", "nn.GRUCell"),
        "(input_size, hidden_size, bias=True, *, dtype=<class 'numpy.float32'>, rng=None)",
    ),
    "randn": "(*shape, rng=None, dtype=<class 'numpy.float32'>, requires_grad=False)",
}


def sources(*folders):
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def shown(path):
    return path.relative_to(ROOT).as_posix()


def code_lines(text):
    """Lines that hold code: not only a docstring, a comment or nothing."""
    documented = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                documented.update(range(body[0].lineno, body[0].end_lineno + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    silent |= {tokenize.ENDMARKER, tokenize.ENCODING}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - documented


def imports(tree):
    """(line, module, name or None, whether inside a function) of each import."""
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None, node in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                yield node.lineno, node.module, alias.name, node in inside


def room_of(path):
    """The room of a file of the package; None for the package's own __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return None if parts == ("__init__",) else parts[0]


def module_at(name):
    """The file of a dotted module name, if there is one."""
    place = ROOT.joinpath(*name.split("."))
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.exists()), None)


def test_imports_point_down():
    wrong = []
    for path in sources("tinygrad_rnn"):
        room = room_of(path)
        for line, module, name, _ in imports(ast.parse(path.read_text("utf-8"))):
            top, *rest = module.split(".")
            if top == "zoo" or top == "tests":
                wrong.append(f"{shown(path)}:{line} imports {module}")
            if top != "tinygrad_rnn" or room is None:
                continue
            target = rest[0] if rest else name
            if target != room and target not in BELOW[room]:
                wrong.append(f"{shown(path)}:{line} ({room}) imports {target}")
    assert not wrong, "\n".join(wrong)


def test_kernels_know_no_tensors():
    for path in sources("tinygrad_rnn/kernels"):
        for line, module, _, _ in imports(ast.parse(path.read_text("utf-8"))):
            top = module.split(".")[0]
            known = {*sys.stdlib_module_names, "numpy", "numba", "llvmlite", "tinygrad_rnn"}
            assert top in known, f"{shown(path)}:{line} imports {module}"


def test_imports_make_no_circle():
    needs = {}
    for path in sources("tinygrad_rnn"):
        needs[path] = set()
        for _, module, name, inside in imports(ast.parse(path.read_text("utf-8"))):
            if module.startswith("tinygrad_rnn") and not inside:
                target = (name and module_at(f"{module}.{name}")) or module_at(module)
                needs[path].add(target)
    while needs:
        free = [p for p, others in needs.items() if not others & set(needs)]
        assert free, "these import each other: " + ", ".join(map(shown, needs))
        for p in free:
            del needs[p]


def test_nothing_is_imported_inside_functions_but_the_heavy_and_optional():
    wrong = []
    for path in sources("tinygrad_rnn", "zoo"):
        for line, module, _, inside in imports(ast.parse(path.read_text("utf-8"))):
            if inside and module.split(".")[0] not in LATE:
                wrong.append(f"{shown(path)}:{line} imports {module} inside a function")
    assert not wrong, "\n".join(wrong)


def test_file_names_say_something():
    for path in sources("tinygrad_rnn", "zoo", "tests"):
        stems = {part.removesuffix(".py").strip("_") for part in path.relative_to(ROOT).parts}
        assert not stems & FORBIDDEN, shown(path)


def test_functions_are_short():
    long = []
    for path in sources("tinygrad_rnn", "zoo"):
        text = path.read_text("utf-8")
        lines = code_lines(text)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                size = len(lines & set(range(node.lineno, node.end_lineno + 1)))
                if size > FUNCTION:
                    long.append(f"{shown(path)}:{node.lineno} {node.name}: {size} lines of code")
    assert not long, "\n".join(long)


def test_files_are_short():
    long = []
    for path in sources("tinygrad_rnn"):
        size = len(path.read_text("utf-8").splitlines())
        if size > LONGER.get(shown(path), FILE):
            long.append(f"{shown(path)}: {size} lines")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("room", BUDGETS)
def test_rooms_keep_to_their_budget(room):
    files = [
        p
        for p in sources(f"tinygrad_rnn/{room}")
        if room.count("/") or p.parent.name not in ("ops", "trace")  # counted by themselves
    ]
    sizes = {shown(p): len(code_lines(p.read_text("utf-8"))) for p in files}
    total = sum(sizes.values())
    table = "\n".join(f"{n:5} {p}" for p, n in sorted(sizes.items(), key=lambda item: -item[1]))
    assert total <= BUDGETS[room], (
        f"{room}: {total} lines of code, {BUDGETS[room]} allowed\n{table}"
    )


@pytest.mark.parametrize("room", BUDGETS)
def test_contributors_are_told_the_budget(room):
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()
    (row,) = (line for line in page if line.startswith(f"| `tinygrad_rnn/{room}/` |"))
    assert row.endswith(f"| {BUDGETS[room]:,} |")


def test_lines_of_code_are_counted_right():
    text = '"""Doc."""\n\n# comment\nx = 1  # one\n\n\n'
    text += 'def f():\n    """Doc\n    more."""\n    return (\n        x\n    )\n'
    assert code_lines(text) == {4, 7, 10, 11, 12}


# Public names


def test_all_is_what_is_public():
    assert inspect.ismodule(tg.testing)  # which is imported now, if it was not
    public = {
        name
        for name, value in vars(tg).items()
        if not name.startswith("_") and (name in tg.__all__ or not inspect.ismodule(value))
    }
    assert sorted(public) == sorted(tg.__all__) and len(set(tg.__all__)) == len(tg.__all__)
    assert list(tg.func.__all__) == sorted(tg.func.__all__)
    assert set(tg.func.__all__) == {n for n, v in vars(tg.func).items() if inspect.isfunction(v)}


def test_contract_is_kept():
    missing = [name for name in CONTRACT if name not in tg.__all__ and name not in LATER]
    assert not missing
    hidden = [name for name in LATER if hasattr(tg, name) and name not in tg.__all__]
    assert not hidden
    for name in "numpy item shape dtype ndim grad backward detach T".split():
        assert hasattr(tg.Tensor, name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_kept(name):
    value = tg
    for part in name.split("."):
        value = getattr(value, part)
    signature = inspect.signature(value)
    empty = inspect.Parameter.empty
    bare = [p.replace(annotation=empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == SIGNATURES[name]


def test_public_functions_are_documented_and_the_package_is_typed():
    for name in tg.__all__:
        value = getattr(tg, name)
        if callable(value) and not str(value).startswith("typing."):
            assert inspect.getdoc(value), name
    assert (PACKAGE / "py.typed").exists()
    assert tg.__version__


# Arrival


def python(code, **variables):
    """What a fresh interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return result.stdout.split()


def test_import_brings_nothing_heavy():
    loaded = python("import sys, tinygrad_rnn; print(*{m.split('.')[0] for m in sys.modules})")
    assert "numpy" in loaded
    heavy = {"numba", "llvmlite", "torch", "matplotlib", "scipy", "hypothesis", "pytest"}
    assert not set(loaded) & (heavy | LATE)


def test_import_is_quick(tmp_path):
    """With compiled modules, as an installed package has them."""
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    code = (
        "from time import perf_counter as now; a = now(); import numpy; b = now(); "
        "import tinygrad_rnn; c = now(); print(b - a, c - b)"
    )
    runs = []
    for _ in range(7):
        runs.append(tuple(map(float, python(code, **kept))))
        if sum(runs[-1]) <= 0.20:
            return
    numpy, ours = (min(times) for times in zip(*runs, strict=True))
    # on a machine where NumPy alone is slow, the comparison with it decides
    assert ours <= 2.0 * numpy, f"import tinygrad_rnn: {ours:.3f} s above NumPy's {numpy:.3f} s"
