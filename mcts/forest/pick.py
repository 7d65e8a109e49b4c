"""Which child a descent goes to, over whole blocks at once: the formulas of `mcts.forest.forest`, as intrinsics for its
kernels.

Blocks are those of `forest_layout`. Arithmetic is float32; the first of equals is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kit.vectors import (
    FLOAT,
    INT,
    WORD,
    Variable,
    Vector,
    each,
    first_lane,
    first_of_highest,
    lanes_below,
    load,
    numbers,
    spread,
    store,
)

NEVER_CHOSEN = -1e30  # total and prior of a lane without a child
NOBODY = np.float32(NEVER_CHOSEN)
_LOW, _HIGH = -3e38, 3e38
_HIGHEST_PRIOR_BITS = 0x71800000  # 2 ** 100: sums and products of priors stay finite


class _Block:
    """The planes of a block, a vector of `width` lanes at a time."""

    def __init__(self, builder, data, block, lanes, width):
        self.builder, self.data, self.block, self.lanes, self.width = builder, data, block, lanes, width

    def chunks(self) -> Iterator[ir.Value]:
        return each(self.builder, self.lanes, self.width)

    def plane(self, number: int, at: ir.Value, element: ir.Type) -> Vector:
        skip = self.builder.mul(self.lanes, WORD(number))
        return load(
            self.builder, self.data, self.builder.add(self.block, self.builder.add(skip, at)), element, self.width
        )

    def put(self, number: int, at: ir.Value, vector: Vector) -> None:
        skip = self.builder.mul(self.lanes, WORD(number))
        store(self.builder, self.data, self.builder.add(self.block, self.builder.add(skip, at)), vector)

    def visits(self, at) -> Vector:
        return self.plane(0, at, INT).floats()

    def totals(self, at) -> Vector:
        return self.plane(1, at, FLOAT)

    def priors(self, at) -> Vector:
        return self.plane(2, at, FLOAT)


class _Best:
    """Running argmax over the vectors of a block; the first of equals."""

    def __init__(self, block: _Block):
        builder, width = block.builder, block.width
        self._builder, self._single = builder, isinstance(block.lanes, ir.Constant)
        self._score = Variable(builder, numbers(builder, [_LOW] * width))
        self._where = Variable(builder, numbers(builder, [0] * width, INT))
        self._lane = Variable(builder, numbers(builder, list(range(width)), INT))

    def offer(self, score: Vector) -> None:
        if self._single:  # a score that is no number equals nothing, and must not lead out of the block
            self._score.set(score.equals(score).choose(score, _LOW))
            return
        better, lane = score.above(self._score.get()), self._lane.get()
        self._score.set(better.choose(score, self._score.get()))
        self._where.set(better.choose(lane, self._where.get()))
        self._lane.set(lane + lane.width)

    def lane(self) -> ir.Value:
        score = self._score.get()
        if self._single:
            return first_lane(self._builder, score.equals(score.highest()))
        return first_of_highest(self._builder, score, self._where.get())


def _puct(block: _Block, explore: ir.Value, mean: ir.Value) -> ir.Value:
    """Q + explore * prior / (1 + visits) over one denominator; a child without a visit has Q = total + mean."""
    best = _Best(block)
    for at in block.chunks():
        visits, totals = block.visits(at), block.totals(at)
        seen, after = visits.maximum(1.0), visits + 1.0
        values = visits.above(0.0).choose(totals, totals + mean)
        best.offer((values * after + block.priors(at) * explore * seen) / (seen * after))
    return best.lane()


def _lay_and_pick(block: _Block, explore: ir.Value, mean: ir.Value, first: ir.Value) -> ir.Value:
    """Write the planes of a block without visits, totals of `first`; `_puct` of that: first + mean + explore * prior."""
    best, zeros = _Best(block), numbers(block.builder, [0] * block.width, INT)
    value = block.builder.fadd(first, mean)
    for at in block.chunks():
        priors = block.priors(at)
        here = priors.above(NEVER_CHOSEN)
        firsts = here.choose(spread(block.builder, first, block.width), NEVER_CHOSEN)
        block.put(0, at, zeros)
        block.put(1, at, firsts)
        block.put(3, at, zeros)
        best.offer(here.choose(priors * explore + value, _LOW))
    return best.lane()


def _completed(block: _Block, raw: ir.Value, scale: ir.Value, visit_offset: ir.Value):
    """What completed Q needs of a block: (mixed value, lowest Q, factor of Q - lowest, highest Q, sum of visits).

    Mixed value, the Q of a child without a visit: (raw + sum N * sum_visited(P Q) / sum_visited(P)) / (1 + sum N).
    Factor: (visit_offset + max N) * scale / (highest - lowest), as in mctx's qtransform_completed_by_mix_value.
    """
    builder, width = block.builder, block.width
    zeros = numbers(builder, [0.0] * width)
    total, most, mass, weighted = (Variable(builder, zeros) for _ in range(4))
    for at in block.chunks():
        visits, priors = block.visits(at), block.priors(at).maximum(0.0)
        seen = visits.above(0.0)
        total.set(total.get() + visits)
        most.set(most.get().maximum(visits))
        mass.set(mass.get() + seen.choose(priors, 0.0))
        weighted.set(weighted.get() + seen.choose(priors * (block.totals(at) / visits.maximum(1.0)), 0.0))
    sum_visits, sum_mass = total.get().sum(), mass.get().sum()
    any_mass = builder.fcmp_ordered(">", sum_mass, FLOAT(0.0))
    divisor = builder.select(any_mass, sum_mass, FLOAT(1.0))
    mean = builder.fdiv(weighted.get().sum(), divisor)
    mixed = builder.fdiv(builder.fadd(raw, builder.fmul(sum_visits, mean)), builder.fadd(sum_visits, FLOAT(1.0)))
    mixed = builder.select(any_mass, mixed, raw)
    low, high = (
        Variable(builder, numbers(builder, [_HIGH] * width)),
        Variable(builder, numbers(builder, [_LOW] * width)),
    )
    for at in block.chunks():
        totals = block.totals(at)
        q, child = _q(block, at, mixed), totals.above(NEVER_CHOSEN)
        lower = child.choose(q, _HIGH)
        low.set(low.get().above(lower).choose(lower, low.get()))
        high.set(high.get().maximum(child.choose(q, _LOW)))
    lowest, highest = low.get().lowest(), high.get().highest()
    spread = builder.fsub(highest, lowest)
    spread = builder.select(builder.fcmp_ordered(">", spread, FLOAT(1e-8)), spread, FLOAT(1e-8))
    factor = builder.fdiv(builder.fmul(builder.fadd(visit_offset, most.get().highest()), scale), spread)
    return mixed, lowest, factor, highest, sum_visits


def _q(block: _Block, at: ir.Value, mixed: ir.Value) -> Vector:
    visits = block.visits(at)
    return visits.above(0.0).choose(block.totals(at) / visits.maximum(1.0), mixed)


def _gumbel_inside(block: _Block, raw, scale, visit_offset) -> ir.Value:
    """argmax pi'(a) - N(a) / (1 + sum N), pi' proportional to P exp(sigma(Q))."""
    builder = block.builder
    mixed, _, factor, highest, sum_visits = _completed(block, raw, scale, visit_offset)
    norm = Variable(builder, numbers(builder, [0.0] * block.width))
    for at in block.chunks():
        norm.set(norm.get() + _improved(block, at, mixed, highest, factor))
    inverse, visits_inverse = (
        builder.fdiv(FLOAT(1.0), value) for value in (norm.get().sum(), builder.fadd(FLOAT(1.0), sum_visits))
    )
    best = _Best(block)
    for at in block.chunks():
        score = _improved(block, at, mixed, highest, factor) * inverse - block.visits(at) * visits_inverse
        best.offer(block.totals(at).above(NEVER_CHOSEN).choose(score, _LOW))
    return best.lane()


def _improved(block: _Block, at, mixed, highest, factor) -> Vector:
    """P exp(factor * (Q - highest))."""
    return block.priors(at).maximum(0.0) * ((_q(block, at, mixed) - highest) * factor).exp()


def _gumbel_root(block: _Block, raw, scale, visit_offset, bases, row, want) -> ir.Value:
    """argmax base(a) + sigma(Q(a)) among the children with `want` visits; base is g + log P, `bases[row + lane]`."""
    mixed, lowest, factor, _, _ = _completed(block, raw, scale, visit_offset)
    best = _Best(block)
    for at in block.chunks():
        base = load(block.builder, bases, block.builder.add(row, at), FLOAT, block.width)
        score = (base + (_q(block, at, mixed) - lowest) * factor).maximum(-1e9)
        considered = block.plane(0, at, INT).equals(want)
        best.offer(considered.choose(block.totals(at).above(NEVER_CHOSEN).choose(score, _LOW), _LOW))
    return best.lane()


def _prefetch(typing_context, pointer, index):
    """Ask for the cache line of pointer[index] before it is read and written."""

    def codegen(context, builder, signature, arguments):
        address = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(hint, [address, flag(1), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(pointer, index), codegen


def _pointer_to(element: types.Type, convert: str):
    """An intrinsic that makes a bare pointer to `element` of an address (int64) or of another pointer."""
    pointer = types.CPointer(element)

    def typed(typing_context, what):
        def codegen(context, builder, signature, arguments):
            return getattr(builder, convert)(arguments[0], context.get_value_type(signature.return_type))

        return pointer(what), codegen

    return intrinsic(typed)


def _by_lanes(builder: ir.IRBuilder, values, block, lanes, pick: Callable[[_Block], ir.Value | None]) -> ir.Value:
    """`pick` for blocks of four and of eight without a loop, of more in vectors of eight; the word of the lane it returns."""
    result = cgutils.alloca_once_value(builder, WORD(0))

    def case(of: _Block) -> None:
        if (lane := pick(of)) is not None:
            builder.store(builder.add(block, lane), result)

    with builder.if_else(builder.icmp_unsigned("==", lanes, WORD(4))) as (four, other):
        with four:
            case(_Block(builder, values, block, WORD(4), 4))
        with other, builder.if_else(builder.icmp_unsigned("==", lanes, WORD(8))) as (eight, many):
            with eight:
                case(_Block(builder, values, block, WORD(8), 8))
            with many:
                case(_Block(builder, values, block, lanes, 8))
    return builder.load(result)


def _puct_word(typing_context, values, block, lanes, explore, mean):
    """Word of the child with the highest `_puct`."""

    def codegen(context, builder, signature, arguments):
        values, block, lanes, explore, mean = arguments
        return _by_lanes(builder, values, block, lanes, lambda of: _puct(of, explore, mean))

    word, number = types.uint64, types.float32
    return word(values, word, word, number, number), codegen


def _lay_word(typing_context, values, block, lanes, explore, mean, first):
    """Word of the child that `_lay_and_pick` picks."""

    def codegen(context, builder, signature, arguments):
        values, block, lanes, explore, mean, first = arguments
        return _by_lanes(builder, values, block, lanes, lambda of: _lay_and_pick(of, explore, mean, first))

    word, number = types.uint64, types.float32
    return word(values, word, word, number, number, number), codegen


def _lay_priors(typing_context, values, to, answers, at, count, lanes):
    """Copy `count` priors of a row of answers into the plane at word `to`; lanes beyond are marked as nobody's."""

    def codegen(context, builder, signature, arguments):
        values, to, answers, at, count, lanes = arguments

        def copy(of: _Block) -> None:
            for first in of.chunks():
                priors = load(builder, answers, builder.add(at, first), FLOAT, of.width, aligned=False)
                own = lanes_below(builder, first, count, of.width).choose(priors, NEVER_CHOSEN)
                store(builder, values, builder.add(to, first), own)

        _by_lanes(builder, values, to, lanes, copy)
        return context.get_dummy_value()

    word = types.uint64
    return types.void(values, word, answers, word, word, word), codegen


def _are_priors(typing_context, answers, at, count, lanes):
    """Whether `count` numbers are in 0 .. 2 ** 100 and not all 0. As integers, floats keep their order; NaN is above inf."""

    def codegen(context, builder, signature, arguments):
        answers, at, count, lanes = arguments

        def check(of: _Block) -> ir.Value:
            zeros = numbers(builder, [0] * of.width, INT)
            high, low = Variable(builder, zeros), Variable(builder, zeros)
            for first in of.chunks():
                bits = load(builder, answers, builder.add(at, first), INT, of.width, aligned=False)
                bits = bits.equals(-(2**31)).choose(zeros, bits)  # -0.0
                bits = lanes_below(builder, first, count, of.width).choose(bits, 0)
                high.set(bits.maximum(high.get()))
                low.set(low.get().above(bits).choose(bits, low.get()))
            highest, lowest = high.get().highest(), low.get().lowest()
            some = builder.icmp_signed(">", highest, INT(0))
            finite = builder.icmp_signed("<=", highest, INT(_HIGHEST_PRIOR_BITS))
            positive = builder.icmp_signed(">=", lowest, INT(0))
            return builder.zext(builder.and_(builder.and_(some, finite), positive), WORD)

        return builder.icmp_unsigned("!=", _by_lanes(builder, answers, WORD(0), lanes, check), WORD(0))

    word = types.uint64
    return types.boolean(answers, word, word, word), codegen


def _gumbel_intrinsic(root: bool):
    def typed(typing_context, values, block, lanes, raw, scale, visit_offset, bases, row, want):
        def codegen(context, builder, signature, arguments):
            values, block, lanes, raw, scale, visit_offset, bases, row, want = arguments

            def pick(of: _Block) -> ir.Value:
                if not root:
                    return _gumbel_inside(of, raw, scale, visit_offset)
                return _gumbel_root(of, raw, scale, visit_offset, bases, row, want)

            return _by_lanes(builder, values, block, lanes, pick)

        word, number = types.uint64, types.float32
        return word(values, word, word, number, number, number, bases, word, types.int32), codegen

    return intrinsic(typed)


# What numba calls them with is not what they are defined with: `Any`.
ints_at: Any = _pointer_to(types.int32, "inttoptr")
ints_of: Any = _pointer_to(types.int32, "bitcast")
floats_of: Any = _pointer_to(types.float32, "bitcast")
longs_of: Any = _pointer_to(types.int64, "bitcast")
prefetch: Any = intrinsic(_prefetch)
lay_priors: Any = intrinsic(_lay_priors)
are_priors: Any = intrinsic(_are_priors)
lay_and_pick: Any = intrinsic(_lay_word)
pick_by_puct: Any = intrinsic(_puct_word)
pick_by_gumbel: Any = _gumbel_intrinsic(False)
pick_by_gumbel_at_root: Any = _gumbel_intrinsic(True)
