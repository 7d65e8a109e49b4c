"""Normalisation, SwiGLU and causal attention of the fast Llama trunk, forward and backward, in numba.

Each kernel makes one pass over memory where torch's autograd makes several; the matrix products stay with torch. All jitted
code is in this one file, because numba's disk cache does not see an edit of a callee in another.

Legend: N = B * L tokens (B rows of L tokens), D hidden size, H heads, E head size (D = H * E), F feed-forward size,
P = L rounded up to a multiple of `LANES`. All arrays are float32 and C-contiguous. Attention takes them flattened, as it
computes offsets itself; the shape is then the one in the name.
"""

from __future__ import annotations

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from kit.jit import jit

LANES = 16  # float32 numbers in one 512-bit register; LLVM splits it where registers are narrower
MASKED = np.float32(-1e30)  # score of a position that may not be seen; its exp is exactly 0

_jit = functools.partial(jit, fastmath={"nsz", "arcp", "contract", "reassoc"})
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_LOG2_E = np.float32(np.log2(np.e))
# 2**f on [-0.5, 0.5]: Taylor coefficients ln(2)**k / k!, relative error below 6e-9, i.e. below float32 rounding.
_C2, _C3, _C4, _C5, _C6, _C7 = (
    np.float32(np.log(2.0) ** k / factorial)
    for k, factorial in ((2, 2), (3, 6), (4, 24), (5, 120), (6, 720), (7, 5040))
)
_C1 = np.float32(np.log(2.0))


# --- Sixteen floats as one value -------------------------------------------------------------------------------------
# LLVM does not vectorise the short inner loops of attention (16 to 48 turns, pointers that may alias) by itself.


class _LanesType(types.Type):
    def __init__(self):
        super().__init__(name="Lanes")


_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)
_lanes = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, front_end_type):
        super().__init__(manager, front_end_type, _VECTOR)


def _address(context, builder, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


def _shuffle(builder, value, order):
    return builder.shuffle_vector(value, _UNDEFINED, ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(order)))


@intrinsic
def _load(typing_context, array, offset):
    """LANES floats of a flat array from `offset` on."""

    def codegen(context, builder, signature, arguments):
        return builder.load(_address(context, builder, signature.args[0], *arguments), align=4)

    return _lanes(array, types.intp), codegen


@intrinsic
def _store(typing_context, array, offset, value):
    def codegen(context, builder, signature, arguments):
        builder.store(arguments[2], _address(context, builder, signature.args[0], *arguments[:2]), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, _lanes), codegen


@intrinsic
def _splat(typing_context, number):
    """One float32 in all lanes."""

    def codegen(context, builder, signature, arguments):
        return _shuffle(builder, builder.insert_element(_UNDEFINED, arguments[0], ir.IntType(32)(0)), [0] * LANES)

    return _lanes(types.float32), codegen


@intrinsic
def _swap_halves(typing_context, value):
    def codegen(context, builder, signature, arguments):
        return _shuffle(builder, arguments[0], [(i + LANES // 2) % LANES for i in range(LANES)])

    return _lanes(_lanes), codegen


def _pairwise(instruction: str):
    @intrinsic
    def operation(typing_context, a, b):
        def codegen(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments, flags=("contract",))

        return _lanes(_lanes, _lanes), codegen

    return operation


def _fold(combine):
    """Combine all lanes into one float32, in a fixed order (halves onto each other)."""

    @intrinsic
    def operation(typing_context, value):
        def codegen(context, builder, signature, arguments):
            folded, step = arguments[0], LANES // 2
            while step:
                folded = combine(builder, folded, _shuffle(builder, folded, [(i + step) % LANES for i in range(LANES)]))
                step //= 2
            return builder.extract_element(folded, ir.IntType(32)(0))

        return types.float32(_lanes), codegen

    return operation


_add, _times = _pairwise("fadd"), _pairwise("fmul")
_sum = _fold(lambda builder, a, b: builder.fadd(a, b))
_peak = _fold(lambda builder, a, b: builder.select(builder.fcmp_unordered("<", a, b), b, a))


@intrinsic
def _as_float(typing_context, bits):
    """The float32 that has the bits of an int32."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), codegen


# --- Token-wise kernels ----------------------------------------------------------------------------------------------


@_jit
def _exp(x):
    """exp(x) in arithmetic that vectorises (numba calls libm number by number). 0 below -88, finite above; keeps NaN."""
    y = x * _LOG2_E
    y = np.float32(-127.0) if y < np.float32(-127.0) else y  # noqa: FURB136 (max and min lose a NaN)
    y = np.float32(127.0) if y > np.float32(127.0) else y  # noqa: FURB136
    whole = np.floor(y + np.float32(0.5))
    f = y - whole
    p = ((((((_C7 * f + _C6) * f + _C5) * f + _C4) * f + _C3) * f + _C2) * f + _C1) * f + _ONE
    return p * _as_float((np.int32(whole) + np.int32(127)) << np.int32(23))


@_jit
def rms_forward(x_ND, epsilon, normed_ND, inverse_N):
    """normed = x * inverse, inverse = 1 / sqrt(mean(x^2) + epsilon) (Zhang and Sennrich 2019, eq. 4, without the gain)."""
    tokens, width = x_ND.shape
    for n in range(tokens):
        total = np.float32(0.0)
        for d in range(width):
            total += x_ND[n, d] * x_ND[n, d]
        inverse = _ONE / np.sqrt(total / np.float32(width) + epsilon)
        inverse_N[n] = inverse
        for d in range(width):
            normed_ND[n, d] = x_ND[n, d] * inverse


@_jit
def rms_backward(d_normed_ND, normed_ND, inverse_N, dx_ND):
    """dx += inverse * (d_normed - normed * mean(d_normed * normed))."""
    tokens, width = normed_ND.shape
    for n in range(tokens):
        total = np.float32(0.0)
        for d in range(width):
            total += d_normed_ND[n, d] * normed_ND[n, d]
        mean = total / np.float32(width)
        for d in range(width):
            dx_ND[n, d] += inverse_N[n] * (d_normed_ND[n, d] - normed_ND[n, d] * mean)


@_jit
def swiglu_forward(gate_up_NF2, act_NF):
    """act = silu(gate) * up, where gate_up is [gate | up] (Shazeer 2020, section 2)."""
    tokens, width = act_NF.shape
    for n in range(tokens):
        for f in range(width):
            gate = gate_up_NF2[n, f]
            act_NF[n, f] = gate / (_ONE + _exp(-gate)) * gate_up_NF2[n, width + f]


@_jit
def swiglu_backward(d_act_NF, gate_up_NF2):
    """Replaces [gate | up] by its gradient."""
    tokens, width = d_act_NF.shape
    for n in range(tokens):
        for f in range(width):
            gate, up, d_act = gate_up_NF2[n, f], gate_up_NF2[n, width + f], d_act_NF[n, f]
            sigmoid = _ONE / (_ONE + _exp(-gate))
            gate_up_NF2[n, f] = d_act * up * sigmoid * (_ONE + gate * (_ONE - sigmoid))
            gate_up_NF2[n, width + f] = d_act * gate * sigmoid


# --- Attention -------------------------------------------------------------------------------------------------------


@_jit
def _rotate(x, at, cos_LE, sin_LE, position, sign, blocks):
    """Rotary embedding of one head at x[at:] in place (RoFormer, section 3.2.2, half-split layout); sign -1 undoes it.

    The first half of each row of `sin_LE` is negated: out = x * cos + sign * swapped halves of x * sin.
    """
    table = position * len(blocks) * LANES
    if len(blocks) == 1:
        value, sin = _load(x, at), _times(_splat(sign), _load(sin_LE, table))
        _store(x, at, _add(_times(value, _load(cos_LE, table)), _times(_swap_halves(value), sin)))
        return
    half = len(blocks) // 2 * LANES
    for block in range(len(blocks) // 2):
        c = block * LANES
        low, high = _load(x, at + c), _load(x, at + half + c)
        cos, sin = _load(cos_LE, table + c), _times(_splat(sign), _load(sin_LE, table + half + c))
        _store(x, at + half + c, _add(_times(high, cos), _times(low, sin)))
        _store(x, at + c, _add(_times(low, cos), _times(_times(high, sin), _splat(-_ONE))))


@_jit
def _mix(weights, at, step, vectors, vectors_at, stride, count):
    """Sum over n < count of weights[at + n * step] * LANES floats of vectors from vectors_at + n * stride on."""
    mixed = _splat(_ZERO)
    for n in range(count):
        mixed = _add(_times(_splat(weights[at + n * step]), _load(vectors, vectors_at + n * stride)), mixed)
    return mixed


@_jit
def _exp_all(x):
    for j in range(len(x)):
        x[j] = _exp(x[j])


@_jit
def attention_forward(qkv_NX, cos_LE, sin_LE, mask, prob_BHLP, mixed_ND, rows, heads, length, blocks):
    """Causal attention over each row; X = [q | k | v].

    q and k are left rotated in place. `mask` [LANES, LANES] is 0 on and below the diagonal, `MASKED` above. Writes the
    attention probabilities (0 where not seen) and their mix of the values. `blocks` is a tuple of E / LANES numbers, of
    which only the length counts: being part of the type, it makes the loops over a head constant.
    """
    size, padded_blocks = len(blocks) * LANES, (length + LANES - 1) // LANES
    padded, width, stride = padded_blocks * LANES, heads * size, 3 * heads * size
    scale = _splat(_ONE / np.sqrt(np.float32(size)))
    key_EP = np.zeros(size * padded, np.float32)
    for b in range(rows):
        for h in range(heads):
            q0 = b * length * stride + h * size
            k0, v0, p0 = q0 + width, q0 + 2 * width, (b * heads + h) * length * padded
            for j in range(length):
                _rotate(qkv_NX, q0 + j * stride, cos_LE, sin_LE, j, _ONE, blocks)
                _rotate(qkv_NX, k0 + j * stride, cos_LE, sin_LE, j, _ONE, blocks)
                for c in range(size):
                    key_EP[c * padded + j] = qkv_NX[k0 + j * stride + c]
            for i in range(length):
                row, diagonal = p0 + i * padded, i // LANES
                top = MASKED
                for block in range(diagonal + 1):
                    score = _times(scale, _mix(qkv_NX, q0 + i * stride, 1, key_EP, block * LANES, padded, size))
                    if block == diagonal:
                        score = _add(score, _load(mask, i % LANES * LANES))
                    top = max(top, _peak(score))
                    _store(prob_BHLP, row + block * LANES, score)
                for block in range(diagonal + 1):
                    j = row + block * LANES
                    _store(prob_BHLP, j, _add(_load(prob_BHLP, j), _splat(-top)))
                for block in range(diagonal + 1, padded_blocks):
                    _store(prob_BHLP, row + block * LANES, _splat(MASKED))
            _exp_all(prob_BHLP[p0 : p0 + length * padded])
            for i in range(length):
                row = p0 + i * padded
                mass = _splat(_ZERO)
                for block in range(i // LANES + 1):
                    mass = _add(mass, _load(prob_BHLP, row + block * LANES))
                share = _splat(_ONE / _sum(mass))
                for block in range(i // LANES + 1):
                    j = row + block * LANES
                    _store(prob_BHLP, j, _times(share, _load(prob_BHLP, j)))
                for block in range(len(blocks)):
                    c = block * LANES
                    mixed = _mix(prob_BHLP, row, 1, qkv_NX, v0 + c, stride, i + 1)
                    _store(mixed_ND, (b * length + i) * width + h * size + c, mixed)


@_jit
def attention_backward(d_mixed_ND, qkv_NX, cos_LE, sin_LE, prob_BHLP, rows, heads, length, blocks):
    """Replaces [q | k | v] by the gradient of its unrotated state; qkv and prob are as `attention_forward` left them."""
    size, padded = len(blocks) * LANES, (length + LANES - 1) // LANES * LANES
    width, stride = heads * size, 3 * heads * size
    scale = _splat(_ONE / np.sqrt(np.float32(size)))
    value_EP = np.zeros(size * padded, np.float32)
    d_score_LP = np.zeros(length * padded, np.float32)
    d_query_LE = np.zeros(length * size, np.float32)  # q itself is needed until every dk is done
    for b in range(rows):
        for h in range(heads):
            q0 = b * length * stride + h * size
            k0, v0, p0 = q0 + width, q0 + 2 * width, (b * heads + h) * length * padded
            m0 = b * length * width + h * size
            for j in range(length):
                for c in range(size):
                    value_EP[c * padded + j] = qkv_NX[v0 + j * stride + c]
            for i in range(length):
                row = i * padded
                mass = _splat(_ZERO)
                for block in range(i // LANES + 1):
                    j = block * LANES
                    d_prob = _mix(d_mixed_ND, m0 + i * width, 1, value_EP, j, padded, size)
                    d_prob = _times(d_prob, _load(prob_BHLP, p0 + row + j))
                    mass = _add(mass, d_prob)
                    _store(d_score_LP, row + j, d_prob)
                mean = _splat(-_sum(mass))
                for block in range(i // LANES + 1):
                    j = row + block * LANES
                    centred = _add(_load(d_score_LP, j), _times(mean, _load(prob_BHLP, p0 + j)))
                    _store(d_score_LP, j, _times(scale, centred))
                for block in range(len(blocks)):
                    c = block * LANES
                    _store(d_query_LE, i * size + c, _mix(d_score_LP, row, 1, qkv_NX, k0 + c, stride, i + 1))
            for j in range(length):
                diagonal, after = j * padded + j, length - j
                for block in range(len(blocks)):
                    c = block * LANES
                    dk = _mix(d_score_LP, diagonal, padded, qkv_NX, q0 + j * stride + c, stride, after)
                    dv = _mix(prob_BHLP, p0 + diagonal, padded, d_mixed_ND, m0 + j * width + c, width, after)
                    _store(qkv_NX, k0 + j * stride + c, dk)
                    _store(qkv_NX, v0 + j * stride + c, dv)
                _rotate(qkv_NX, k0 + j * stride, cos_LE, sin_LE, j, -_ONE, blocks)
            for i in range(length):
                for block in range(len(blocks)):
                    c = block * LANES
                    _store(qkv_NX, q0 + i * stride + c, _load(d_query_LE, i * size + c))
                _rotate(qkv_NX, q0 + i * stride, cos_LE, sin_LE, i, -_ONE, blocks)
