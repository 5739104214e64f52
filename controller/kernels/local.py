"""Arrays on the stack, for kernels that need work space: they live until the function that asked for them returns.

An array on the heap is counted by references, and so is then every array read from a tuple of arrays near it: two
atomic operations each, which made a fifth of a simulated day. So kernels are compiled without that counting, own no
memory, and take small arrays from here. Never return one, and never ask for one within a loop of the same function,
where each round would take more of the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.core.cgutils
import numba.core.types
import numba.np.arrayobj
from numba.extending import intrinsic

from controller.arrays import F64, I64, Bool

# What numba publishes of these is hardly typed.
_types: Any = numba.core.types
_build: Any = numba.core.cgutils
_arrays: Any = numba.np.arrayobj

Shape = int | tuple[int, ...]


def _on_stack(dtype: Any) -> Callable[[Shape], Any]:
    """A function of kernels, shape to a zero array of `dtype`."""

    def declare(_typing_context: Any, shape: Any) -> Any:
        kinds = [shape] if isinstance(shape, _types.Integer) else list(shape)
        array_type = _types.Array(dtype, len(kinds), "C")

        def build(context: Any, builder: Any, _signature: Any, given: Any) -> Any:
            values = given if kinds == [shape] else _build.unpack_tuple(builder, given[0])
            lengths = [
                context.cast(builder, value, kind, _types.intp) for value, kind in zip(values, kinds, strict=True)
            ]
            element = context.get_data_type(dtype)
            item_bytes = context.get_constant(_types.intp, context.get_abi_sizeof(element))
            strides: list[Any] = []
            num_bytes = item_bytes
            for length in reversed(lengths):
                strides.insert(0, num_bytes)
                num_bytes = builder.mul(num_bytes, length)
            data = builder.alloca(element, size=builder.udiv(num_bytes, item_bytes))
            _build.memset(builder, data, num_bytes, 0)
            array = _arrays.make_array(array_type)(context, builder)
            _arrays.populate_array(array, data, lengths, strides, item_bytes, meminfo=None)
            return array._getvalue()  # noqa: SLF001 - what numba has every builder of arrays return

        return array_type(shape), build

    declared: Any = intrinsic(declare)
    made: Callable[[Shape], Any] = declared
    return made


floats: Callable[[Shape], F64] = _on_stack(_types.float64)
integers: Callable[[Shape], I64] = _on_stack(_types.int64)
flags: Callable[[Shape], Bool] = _on_stack(_types.boolean)
