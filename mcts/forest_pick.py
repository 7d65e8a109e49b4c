"""Which child a descent goes to, over whole blocks at once: the formulas of `mcts.forest`, as intrinsics for its kernels.

Legend: a block at word `block` holds `lanes` records in four planes, visits | total | prior | link. Lanes without a child have
a total of `NEVER_CHOSEN`, no visits and no prior. Arithmetic is float32; the first of equals is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mcts.vectors import FLOAT, INT, WORD, Variable, Vector, each, first_of_highest, load, numbers

NEVER_CHOSEN = -1e30
_LOW, _HIGH = -3e38, 3e38


class _Block:
    """The planes of a block, a vector of `width` lanes at a time."""

    def __init__(self, builder, data, block, lanes, width):
        self.builder, self.data, self.block, self.lanes, self.width = builder, data, block, lanes, width

    def chunks(self) -> Iterator[ir.Value]:
        with each(self.builder, self.lanes, self.width) as at:
            yield at

    def plane(self, number: int, at: ir.Value, element: ir.Type) -> Vector:
        skip = self.builder.mul(self.lanes, WORD(number))
        return load(
            self.builder, self.data, self.builder.add(self.block, self.builder.add(skip, at)), element, self.width
        )

    def visits(self, at) -> Vector:
        return self.plane(0, at, INT).floats()

    def totals(self, at) -> Vector:
        return self.plane(1, at, FLOAT)

    def priors(self, at) -> Vector:
        return self.plane(2, at, FLOAT)


class _Best:
    """Running argmax over the vectors of a block."""

    def __init__(self, block: _Block):
        builder, width = block.builder, block.width
        self._builder = builder
        self._score = Variable(builder, numbers(builder, [_LOW] * width))
        self._where = Variable(builder, numbers(builder, [0] * width, INT))
        self._lane = Variable(builder, numbers(builder, list(range(width)), INT))

    def offer(self, score: Vector) -> None:
        better, lane = score.above(self._score.get()), self._lane.get()
        self._score.set(better.choose(score, self._score.get()))
        self._where.set(better.choose(lane, self._where.get()))
        self._lane.set(lane + lane.width)

    def lane(self) -> ir.Value:
        return first_of_highest(self._builder, self._score.get(), self._where.get())


def _puct(block: _Block, explore: ir.Value) -> ir.Value:
    """total / max(visits, 1) + explore * prior / (1 + visits)."""
    best = _Best(block)
    for at in block.chunks():
        visits = block.visits(at)
        bonus = (block.priors(at) * explore) / (visits + 1.0)
        best.offer(block.totals(at) / visits.maximum(1.0) + bonus)
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
        visits, priors = block.visits(at), block.priors(at)
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
    return block.priors(at) * ((_q(block, at, mixed) - highest) * factor).exp()


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


def _prefetch(typing_context, array, index):
    """Ask for the cache line of array[index] before it is read and written."""

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, value=arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(hint, [pointer, flag(1), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, index), codegen


def _data(context, builder, kind, array) -> ir.Value:
    return context.make_array(kind)(context, builder, value=array).data


def _puct_of_four(typing_context, lines, block, explore):
    """Word of the child with the highest score, of a block of four."""

    def codegen(context, builder, signature, arguments):
        array, block, explore = arguments
        four = _Block(builder, _data(context, builder, signature.args[0], array), block, WORD(4), 4)
        return builder.add(block, _puct(four, explore))

    return types.uint64(lines, types.uint64, types.float32), codegen


def _puct_of_many(typing_context, lines, block, lanes, explore):
    """Word of the child with the highest score, of a block whose lanes are a multiple of eight."""

    def codegen(context, builder, signature, arguments):
        array, block, lanes, explore = arguments
        many = _Block(builder, _data(context, builder, signature.args[0], array), block, lanes, 8)
        return builder.add(block, _puct(many, explore))

    return types.uint64(lines, types.uint64, types.uint64, types.float32), codegen


def _gumbel_intrinsic(width: int, root: bool):
    def typed(typing_context, lines, block, lanes, raw, scale, visit_offset, bases, row, want):
        def codegen(context, builder, signature, arguments):
            array, block, lanes, raw, scale, visit_offset, bases, row, want = arguments
            lanes = WORD(4) if width == 4 else lanes
            of = _Block(builder, _data(context, builder, signature.args[0], array), block, lanes, width)
            if not root:
                return builder.add(block, _gumbel_inside(of, raw, scale, visit_offset))
            base = _data(context, builder, signature.args[6], bases)
            return builder.add(block, _gumbel_root(of, raw, scale, visit_offset, base, row, want))

        word, number = types.uint64, types.float32
        return word(lines, word, word, number, number, number, bases, word, types.int32), codegen

    return intrinsic(typed)


# What numba calls them with is not what they are defined with: `Any`.
prefetch: Any = intrinsic(_prefetch)
puct_of_four: Any = intrinsic(_puct_of_four)
puct_of_many: Any = intrinsic(_puct_of_many)
gumbel_of_four: Any = _gumbel_intrinsic(4, False)
gumbel_of_many: Any = _gumbel_intrinsic(8, False)
gumbel_root_of_four: Any = _gumbel_intrinsic(4, True)
gumbel_root_of_many: Any = _gumbel_intrinsic(8, True)
