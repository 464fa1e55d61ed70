"""The 8 x 8 cosine transform of JPEG and its inverse, in the fixed point of libjpeg-turbo.

Sources: libjpeg-turbo 3 `jfdctint.c` and `jidctint.c`, whose names are used; the algorithm is
C. Loeffler, A. Ligtenberg and G. Moschytz, "Practical Fast 1-D DCT Algorithms with 11
Multiplications", ICASSP 1989.
"""

from typing import Any

from hf_ela.backend import keras

ops = keras.ops
Tensor = Any  # a tensor of any backend, or a symbolic one of Keras

CONST_BITS, PASS1_BITS = 13, 2
ONE = 1 << CONST_BITS


def shifted(values: Tensor, bits: int) -> Tensor:
    """Divide values above -2**30 by a power of two, rounding down.

    Made positive first: the formats that a model is exported to have no shift of a negative number.
    """
    return ops.right_shift(values + (1 << 30), bits) - (1 << (30 - bits))


def _fix(value: float) -> int:
    return int(value * ONE + 0.5)


def _descaled(value: Tensor, bits: int) -> Tensor:
    return shifted(value + (1 << (bits - 1)), bits)


def forward(blocks: Tensor) -> Tensor:
    """Return the transform of blocks of 0..255 (jfdctint.c), int32: rows, then columns."""
    rows = _forward_1d(blocks - 128, 1, CONST_BITS - PASS1_BITS)
    return _forward_1d(rows, 0, CONST_BITS + PASS1_BITS)


def inverse(coefficients: Tensor) -> Tensor:
    """Return the inverse transform (jidctint.c) as 0..255: columns, then rows."""
    columns = _inverse_1d(coefficients, 0, CONST_BITS - PASS1_BITS)
    return ops.clip(_inverse_1d(columns, 1, CONST_BITS + PASS1_BITS + 3) + 128, 0, 255)


def _forward_1d(x: Tensor, axis: int, bits: int) -> Tensor:
    x = ops.unstack(x, 8, axis)
    sums = [x[k] + x[7 - k] for k in range(4)]
    differences = [x[k] - x[7 - k] for k in range(4)]
    tmp10, tmp13 = sums[0] + sums[3], sums[0] - sums[3]
    tmp11, tmp12 = sums[1] + sums[2], sums[1] - sums[2]
    out2, out6 = _even_rotation(tmp13, tmp12)
    out7, out5, out3, out1 = _odd_rotations(*differences[::-1])
    out0, out4 = (tmp10 + tmp11) * ONE, (tmp10 - tmp11) * ONE
    outputs = [out0, out1, out2, out3, out4, out5, out6, out7]
    return ops.stack([_descaled(value, bits) for value in outputs], axis=axis)


def _inverse_1d(x: Tensor, axis: int, bits: int) -> Tensor:
    x = ops.unstack(x, 8, axis)
    tmp3, tmp2 = _even_rotation(x[2], x[6])
    tmp0, tmp1 = (x[0] + x[4]) * ONE, (x[0] - x[4]) * ONE
    even = [tmp0 + tmp3, tmp1 + tmp2, tmp1 - tmp2, tmp0 - tmp3]
    odd = _odd_rotations(x[7], x[5], x[3], x[1])[::-1]
    outputs = [a + b for a, b in zip(even, odd, strict=True)]
    outputs += [a - b for a, b in zip(even[::-1], odd[::-1], strict=True)]
    return ops.stack([_descaled(value, bits) for value in outputs], axis=axis)


def _even_rotation(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    z1 = (a + b) * _fix(0.541196100)
    return z1 + a * _fix(0.765366865), z1 - b * _fix(1.847759065)


def _odd_rotations(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> list[Tensor]:
    z5 = (a + b + c + d) * _fix(1.175875602)
    z1, z2 = (a + d) * -_fix(0.899976223), (b + c) * -_fix(2.562915447)
    z3, z4 = z5 - (a + c) * _fix(1.961570560), z5 - (b + d) * _fix(0.390180644)
    return [
        a * _fix(0.298631336) + z1 + z3,
        b * _fix(2.053119869) + z2 + z4,
        c * _fix(3.072711026) + z2 + z3,
        d * _fix(1.501321110) + z1 + z4,
    ]
