"""Machine instructions that numba does not offer: prefetch, ordered loads and stores, giving up a time slice."""

from __future__ import annotations

import sys

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np import arrayobj


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
def replace_if(typing_context, array, index, old, new):
    """``array[index] = new`` if it is `old`, in one go; whether it was."""

    def generate(context, builder, signature, args):
        pointer = _element_pointer(context, builder, signature, args)
        outcome = builder.cmpxchg(pointer, args[2], args[3], "acq_rel", "acquire")
        return builder.extract_value(outcome, 1)

    return types.boolean(array, types.intp, array.dtype, array.dtype), generate


@intrinsic
def add_release(typing_context, array, index, value):
    """``array[index] += value`` in one go, after everything that this thread stored before."""

    def generate(context, builder, signature, args):
        pointer = _element_pointer(context, builder, signature, args)
        builder.atomic_rmw("add", pointer, args[2], "acq_rel")
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


def _array_at(context, builder, address, dtype, lengths):
    """An array of `lengths`, by rows, over memory that is somebody else's."""
    kind = types.Array(dtype, len(lengths), "C")
    array = context.make_array(kind)(context, builder)
    pointer = builder.inttoptr(address, context.get_value_type(types.CPointer(dtype)))
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(dtype)))
    strides, stride = [], itemsize
    for length in reversed(lengths):
        strides.insert(0, stride)
        stride = builder.mul(stride, length)
    arrayobj.populate_array(array, pointer, lengths, strides, itemsize, None)
    return array._getvalue()


@intrinsic
def vector_at(typing_context, address, number, n):
    """An array (n,) of a type of number at an address."""

    def generate(context, builder, signature, args):
        return _array_at(context, builder, args[0], number.dtype, [args[2]])

    return types.Array(number.dtype, 1, "C")(types.int64, number, types.intp), generate


@intrinsic
def matrix_at(typing_context, address, number, n_rows, n_columns):
    """An array (n_rows, n_columns) of a type of number at an address."""

    def generate(context, builder, signature, args):
        return _array_at(context, builder, args[0], number.dtype, list(args[2:]))

    return types.Array(number.dtype, 2, "C")(types.int64, number, types.intp, types.intp), generate


@intrinsic
def cube_at(typing_context, address, number, n, n_rows, n_columns):
    """An array (n, n_rows, n_columns) of a type of number at an address."""

    def generate(context, builder, signature, args):
        return _array_at(context, builder, args[0], number.dtype, list(args[2:]))

    return types.Array(number.dtype, 3, "C")(types.int64, number, *[types.intp] * 3), generate


@intrinsic
def address_of(typing_context, array):
    """The address of the first number of an array."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), generate


@intrinsic
def matrix_in(typing_context, array, start, n_rows, n_columns):
    """A view (n_rows, n_columns) of a one-dimensional array from the number at `start` on."""

    def generate(context, builder, signature, args):
        pointer = _element_pointer(context, builder, signature, args)
        address = builder.ptrtoint(pointer, ir.IntType(64))
        return _array_at(context, builder, address, array.dtype, list(args[2:]))

    return types.Array(array.dtype, 2, "C")(array, types.intp, types.intp, types.intp), generate


@intrinsic
def call(typing_context, address, arguments):
    """Call a C function of integers and doubles, which returns nothing, by its address."""

    def generate(context, builder, signature, args):
        values = [builder.extract_value(args[1], i) for i in range(len(arguments))]
        pointer = ir.FunctionType(ir.VoidType(), [one.type for one in values]).as_pointer()
        builder.call(builder.inttoptr(args[0], pointer), values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), generate


@intrinsic
def multiply(typing_context, A, B, out, turned, start, stop):
    """The rows from `start` to `stop` of ``out = A B``, by BLAS; with `turned` of 1 it is ``A' B`` and of 2 ``A B'``."""

    def generate(context, builder, signature, args):
        byte, word = ir.IntType(8), ir.IntType(64)
        pointer = byte.as_pointer()
        kinds = [byte] * 3 + [word] * 3 + [pointer, pointer, word, pointer, word, pointer, pointer, word]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), kinds), "numba_xxgemm"
        )
        arrays = zip(signature.args[:3], args[:3], strict=True)
        a, b, c = (context.make_array(kind)(context, builder, array) for kind, array in arrays)
        shapes = [cgutils.unpack_tuple(builder, array.shape, 2) for array in (a, b, c)]
        letter = {flag: ir.Constant(byte, ord(flag)) for flag in "ntsd"}
        first = builder.icmp_signed("==", args[3], word(1))
        second = builder.icmp_signed("==", args[3], word(2))
        # BLAS has matrices by columns, in which ours are transposed: out' = B' A'
        flags = builder.select(second, letter["t"], letter["n"]), builder.select(first, letter["t"], letter["n"])
        inner = builder.select(first, shapes[0][0], shapes[0][1])
        start, count = args[4], builder.sub(args[5], args[4])
        rows = builder.gep(a.data, [builder.select(first, start, builder.mul(start, shapes[0][1]))])
        results = builder.gep(c.data, [builder.mul(start, shapes[2][1])])
        one, zero = (
            cgutils.alloca_once_value(builder, context.get_constant(out.dtype, number)) for number in (1.0, 0.0)
        )
        plain = [builder.bitcast(p, pointer) for p in (one, b.data, rows, zero, results)]
        builder.call(
            function,
            [
                letter["s" if out.dtype == types.float32 else "d"], *flags, shapes[2][1], count, inner,
                plain[0], plain[1], shapes[1][1], plain[2], shapes[0][1], plain[3], plain[4], shapes[2][1],
            ],
        )  # fmt: skip
        return context.get_dummy_value()

    return types.void(A, B, out, types.int64, types.intp, types.intp), generate
