"""Which functions LLVM optimises and turns into machine code: kernels, and not what is only ever a part of them.

numba does both with each function, and again with all of it within each of its callers. The kernels are nested six calls deep,
and nothing calls the inner functions but a kernel.
"""

from __future__ import annotations

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class Text(JITCodeLibrary):
    """The code of a function as numba has written it, to become a part of kernels: it is optimised there."""

    codegen = property(lambda self: self)  # where numba looks for `set_env`

    def _optimize_functions(self, ll_module):
        pass

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        """No address, as there is no machine code."""
        self._ensure_finalized()
        return 0

    def set_env(self, name, env):
        """Nothing: the place of the environment, by which a function finds objects of Python, is in machine code."""


class Inside(Compiler):
    """Compiles a function that becomes a part of kernels."""

    def compile_extra(self, func):
        """Compile a function of Python."""
        self.state.library = Text(self.state.targetctx.codegen(), func.__qualname__)
        return super().compile_extra(func)
