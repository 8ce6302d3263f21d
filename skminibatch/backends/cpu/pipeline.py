"""When LLVM optimises and emits code: once, in the kernel that a function is a part of.

numba optimises each function by itself and turns it into machine code, then all of it again within each of its callers. The
kernels are nested six calls deep, and nothing calls the inner functions but a kernel: that takes twice as long as compiling
the whole does.
"""

from __future__ import annotations

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class Code(JITCodeLibrary):
    """The code of a kernel, which the passes of LLVM see once and as a whole.

    numba's own first round would only inline so much that counting references can be left out; kernels count none.
    """

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


class Text(Code):
    """The code of a function that is called by kernels alone, as numba has written it: there is no machine code of it."""

    codegen = property(lambda self: self)  # asked for the place of the environment, see below

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        """No address."""
        self._ensure_finalized()
        return 0

    def set_env(self, name, env):
        """Without machine code, there is no place for the environment, which would hold the objects of Python in use."""


class Whole(Compiler):
    """Compiles what has an address of its own."""

    library = Code

    def compile_extra(self, func):
        """Compile a function of Python."""
        self.state.library = self.library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class Inside(Whole):
    """Compiles what becomes a part of kernels."""

    library = Text
