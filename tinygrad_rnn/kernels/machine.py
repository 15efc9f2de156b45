"""From LLVM modules to functions that can be called: the host's features, object code, loading.

llvmlite is imported at the first kernel, never before.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

WIDTHS = (4, 8, 16)  # float32 lanes of a vector: NEON and SSE, AVX2, AVX-512
QUICK = ("loop_rotate", "new_gvn", "instruction_combine", "simplify_cfg")  # passes of LLVM's
LOCK = threading.RLock()  # held while code is made or loaded, so that no `fork` comes between
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release
    )


@functools.cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def host() -> tuple[str, str]:
    """The processor's name and features, as LLVM writes them."""
    llvm = _llvm()
    try:
        return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM does not know them on every system
        return llvm.get_host_cpu_name(), ""


def versions() -> str:
    """llvmlite's version, LLVM's, and the platform, as LLVM writes it."""
    import llvmlite

    return f"{llvmlite.__version__} {_llvm().llvm_version_info} {_llvm().get_process_triple()}"


def float_lanes() -> int:
    """float32 lanes of a vector: the host's own, or TINYGRAD_RNN_VECTOR (4, 8 or 16)."""
    if forced := os.environ.get("TINYGRAD_RNN_VECTOR", ""):
        if forced not in map(str, WIDTHS):
            raise ValueError(f"TINYGRAD_RNN_VECTOR: expected 4, 8 or 16, got {forced!r}")
        return int(forced)
    features = host()[1].split(",")
    return 16 if "+avx512f" in features else 8 if "+avx2" in features else 4


def lanes_of(dtype: np.dtype) -> int:
    """Elements of this dtype in one vector."""
    return float_lanes() * 4 // dtype.itemsize


def object_code(text: str, quick: bool = False) -> bytes:
    """Optimised machine code of a module in LLVM's language.

    LLVM's usual passes take as long as its choice of instructions, the `quick` ones a fifth of it.
    """
    llvm = _llvm()
    module = llvm.parse_assembly(text)
    module.triple = llvm.get_process_triple()
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        *host(), opt=3, reloc="pic", codemodel="default"
    )
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, tuning)
    passes = llvm.create_new_module_pass_manager() if quick else builder.getModulePassManager()
    for name in QUICK if quick else ():
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, builder)
    return bytes(machine.emit_object(module))


class Library:
    """Loaded object code. Each of its functions takes 64-bit integers and returns nothing.

    They are declared as pointers, which ctypes converts fastest; `bytes` stand for their address.
    """

    def __init__(
        self, code: bytes, exports: Sequence[str], symbols: Mapping[str, int] | None = None
    ) -> None:
        with LOCK:
            builder = _llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
            for name in exports:
                builder.export_symbol(name)
            for name, address in (symbols or {}).items():
                builder.import_symbol(name, address)
            self._tracker = builder.link(_jit(), f"tinygrad_rnn.{next(_numbers)}")
        self.addresses = {name: self._tracker[name] for name in exports}

    def function(self, name: str, arguments: int) -> Callable[..., None]:
        """A function to call from Python, which releases the interpreter's lock meanwhile."""
        call: Any = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(self.addresses[name])
        call.library = self  # which is unloaded when nobody refers to it
        return call  # type: ignore[no-any-return]


_numbers = itertools.count()


@functools.cache
def _jit() -> Any:
    return _llvm().create_lljit_compiler()
