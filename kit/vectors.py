"""Short vectors inside compiled kernels: numba's vectoriser gives up on an argmax, and on loops of four.

`Vector` wraps an LLVM value of 4 or 8 lanes of float32 or int32, or of their comparisons, so that an intrinsic reads like the
formula it computes. Only code generation happens here; nothing of it runs in a search.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba.core import cgutils

FLOAT, INT, WORD = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FUSED = ("contract",)  # a * b + c may be rounded once
_LN2_INVERSE = 1.4426950408889634
_EXP2 = (1.535336188319500e-4, 1.339887440266574e-3, 9.618437357674640e-3, 5.550332471162809e-2, 2.402264791363012e-1,
         6.931472028550421e-1, 1.0)  # fmt: skip


class Vector:
    """Lanes of float32, int32 or bool; numbers on the right of an operator are spread over all lanes."""

    def __init__(self, builder: ir.IRBuilder, value: Any):
        self.builder, self.value = builder, value

    @property
    def width(self) -> int:
        return self.value.type.count

    @property
    def _floats(self) -> bool:
        return isinstance(self.value.type.element, ir.FloatType)

    def _of(self, other) -> ir.Value:
        if isinstance(other, Vector):
            return other.value
        if isinstance(other, ir.Value):
            return spread(self.builder, other, self.width).value
        return ir.Constant(self.value.type, [other] * self.width)

    def __add__(self, other) -> Vector:
        add = self.builder.fadd if self._floats else self.builder.add
        return Vector(self.builder, add(self.value, self._of(other)))

    def __sub__(self, other) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.value, self._of(other)))

    def __mul__(self, other) -> Vector:
        return Vector(self.builder, self.builder.fmul(self.value, self._of(other)))

    def __truediv__(self, other) -> Vector:
        return Vector(self.builder, self.builder.fdiv(self.value, self._of(other)))

    def above(self, other) -> Vector:
        compare = self.builder.fcmp_ordered if self._floats else self.builder.icmp_signed
        return Vector(self.builder, compare(">", self.value, self._of(other)))

    def equals(self, other) -> Vector:
        compare = self.builder.fcmp_ordered if self._floats else self.builder.icmp_signed
        return Vector(self.builder, compare("==", self.value, self._of(other)))

    def choose(self, yes: Vector, no) -> Vector:
        """Lane by lane, `yes` where this vector of bools is true."""
        return Vector(self.builder, self.builder.select(self.value, yes.value, yes._of(no)))

    def maximum(self, other) -> Vector:
        return self.above(other).choose(self, other)

    def floats(self) -> Vector:
        """int32 lanes as float32."""
        return Vector(self.builder, self.builder.sitofp(self.value, ir.VectorType(FLOAT, self.width)))

    def exp(self) -> Vector:
        """float32 exp of lanes <= 0, about 1e-7 relative (Cephes' exp2f polynomial)."""
        builder, kind = self.builder, self.value.type
        scaled = self.maximum(-87.0) * _LN2_INVERSE + 0.5
        floor = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind]), f"llvm.floor.v{self.width}f32"
        )
        whole = Vector(builder, builder.call(floor, [scaled.value]))
        part = scaled - 0.5 - whole
        result = Vector(builder, ir.Constant(kind, [_EXP2[0]] * self.width))
        for factor in _EXP2[1:]:
            result = Vector(builder, builder.fmul(result.value, part.value, flags=FUSED))
            result = Vector(builder, builder.fadd(result.value, part._of(factor), flags=FUSED))
        ints = ir.VectorType(INT, self.width)
        power = Vector(builder, builder.fptosi(whole.value, ints)) + 127
        power = builder.shl(power.value, ir.Constant(ints, [23] * self.width))
        return result * Vector(builder, builder.bitcast(power, kind))

    def _reduce(self, name: str, *first: Any, flags: tuple[str, ...] = ()) -> ir.Value:
        element = self.value.type.element
        suffix = f"v{self.width}{'f32' if self._floats else 'i32'}"
        kind = ir.FunctionType(element, [*(value.type for value in first), self.value.type])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.vector.reduce.{name}.{suffix}")
        return self.builder.call(function, [*first, self.value], fastmath=flags)

    def sum(self) -> ir.Value:
        """Sum of float32 lanes, in an order of the compiler's."""
        return self._reduce("fadd", ir.Constant(FLOAT, 0.0), flags=("reassoc",))

    def highest(self) -> ir.Value:
        """The highest lane; no lane is NaN."""
        return self._reduce("fmax", flags=("nnan",)) if self._floats else self._reduce("smax")

    def lowest(self) -> ir.Value:
        """The lowest lane; no lane is NaN."""
        return self._reduce("fmin", flags=("nnan",)) if self._floats else self._reduce("smin")


def spread(builder: ir.IRBuilder, value: Any, width: int) -> Vector:
    """One scalar on every lane."""
    kind = ir.VectorType(value.type, width)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, INT(0))
    zeros = ir.Constant(ir.VectorType(INT, width), [0] * width)
    return Vector(builder, builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), zeros))


def numbers(builder: ir.IRBuilder, values: list, element: ir.Type = FLOAT) -> Vector:
    """Constant lanes."""
    return Vector(builder, ir.Constant(ir.VectorType(element, len(values)), values))


def _at(builder: ir.IRBuilder, data: ir.Value, index: ir.Value, element: ir.Type, width: int) -> ir.Value:
    return builder.bitcast(builder.gep(data, [index]), ir.VectorType(element, width).as_pointer())


def load(
    builder: ir.IRBuilder, data: ir.Value, index: ir.Value, element: ir.Type, width: int, *, aligned: bool = True
) -> Vector:
    """data[index : index + width], words of 4 bytes, 16-byte aligned unless told otherwise, read as `element`."""
    value = builder.load(_at(builder, data, index, element, width))
    value.align = 16 if aligned else 4
    return Vector(builder, value)


def store(builder: ir.IRBuilder, data: ir.Value, index: ir.Value, vector: Vector) -> None:
    """data[index : index + width] = vector, 16-byte aligned."""
    builder.store(vector.value, _at(builder, data, index, vector.value.type.element, vector.width)).align = 16


def lanes_below(builder: ir.IRBuilder, first: ir.Value, count: ir.Value, width: int) -> Vector:
    """Bools of the lanes first, first + 1, ... (uint64) that are below `count`."""
    left = spread(builder, builder.trunc(builder.sub(count, first), INT), width)
    return left.above(numbers(builder, list(range(width)), INT))


class Variable:
    """A vector or scalar that changes in a loop; a register, once optimised."""

    def __init__(self, builder: ir.IRBuilder, value: Vector | ir.Value):
        self._builder = builder
        self._is_vector = isinstance(value, Vector)
        self._at = cgutils.alloca_once_value(builder, value.value if isinstance(value, Vector) else value)

    def get(self):
        value = self._builder.load(self._at)
        return Vector(self._builder, value) if self._is_vector else value

    def set(self, value) -> None:
        self._builder.store(value.value if isinstance(value, Vector) else value, self._at)


def each(builder: ir.IRBuilder, lanes: ir.Value, width: int) -> Iterator[ir.Value]:
    """First lanes of the vectors of a block; one vector of constant length needs no loop."""
    if isinstance(lanes, ir.Constant):
        yield WORD(0)
        return
    with cgutils.for_range_slice(builder, WORD(0), lanes, WORD(width), intp=WORD) as (at, _):
        yield at


def first_of_highest(builder: ir.IRBuilder, best: Vector, where: Vector) -> ir.Value:
    """uint64: the lowest of the int32 lanes `where` whose `best` is highest."""
    mask = best.equals(best.highest())
    return builder.zext(mask.choose(where, 2**31 - 1).lowest(), WORD)


def first_lane(builder: ir.IRBuilder, mask: Vector) -> ir.Value:
    """uint64: the first lane of a vector of bools that is true; at least one is."""
    bits = builder.zext(builder.bitcast(mask.value, ir.IntType(mask.width)), WORD)
    return builder.cttz(bits, ir.IntType(1)(1))
