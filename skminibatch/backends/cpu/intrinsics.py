"""Machine instructions that numba does not offer: prefetch, ordered loads and stores, giving up a time slice."""

from __future__ import annotations

import sys

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


def _element_pointer(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@intrinsic
def prefetch(typing_context, array, index):
    """Ask for the cache line of ``array[index]`` of a one-dimensional array; never faults."""

    def generate(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        word = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, word, word, word]), "llvm.prefetch.p0i8"
        )
        pointer = builder.bitcast(_element_pointer(context, builder, signature, args), byte)
        builder.call(function, [pointer, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def select(typing_context, condition, a, b):
    """``a if condition else b`` without a branch: both are evaluated, no jump is guessed, loops can be vectorised."""
    common = typing_context.unify_types(a, b)

    def generate(context, builder, signature, args):
        truth = context.is_true(builder, signature.args[0], args[0])
        first = context.cast(builder, args[1], signature.args[1], common)
        second = context.cast(builder, args[2], signature.args[2], common)
        return builder.select(truth, first, second)

    return common(condition, a, b), generate


@intrinsic
def power_of_two(typing_context, k):
    """``2.0 ** k`` for an int64 from -1022 to 1023, by its bits."""

    def generate(context, builder, signature, args):
        word = ir.IntType(64)
        bits = builder.shl(builder.add(args[0], word(1023)), word(52))
        return builder.bitcast(bits, ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def load_acquire(typing_context, array, index):
    """``array[index]``; what another thread stored before its release is visible after it."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(_element_pointer(context, builder, signature, args), "acquire", 8)

    return array.dtype(array, types.intp), generate


@intrinsic
def store_release(typing_context, array, index, value):
    """``array[index] = value``, after everything that this thread stored before."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[2], _element_pointer(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@intrinsic
def give_way(typing_context):
    """Let another thread run, so that waiting costs little where there are more threads than processors."""
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"

    def generate(context, builder, signature, args):
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), name)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate
