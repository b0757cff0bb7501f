"""Products of 16-bit inputs with weights of 4 or 8 bits, unpacked in registers.

Knows one tile of outputs and one share of the columns; does not know how many there are of either
(the host's `w4a16` does) or checkpoints.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product_kernel(
    x_ptr, words_ptr, scales_ptr, zeros_ptr, bias_ptr, out_ptr, parts_ptr,
    num_rows, num_cols, num_outputs, num_biased, num_blocks, num_shares, factor,
    BITS: tl.constexpr, GROUP: tl.constexpr, PLANE: tl.constexpr, PACKED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """A tile of x · Wᵀ + b over one share of the blocks of columns.

    A block is 16 // BITS planes of PLANE columns; a word of 16 bits holds one code of each plane,
    the first plane's lowest, so that unpacking is one shift of the whole tile and x is read as it
    lies. A group's scale is multiplied with its sum, not with its weights. Of several shares each
    writes its own part, and `sum_kernel` ends it: the same sum every time, as atomics are not.
    """
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    outputs = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row, is_output = (rows < num_rows)[:, None], (outputs < num_outputs)
    share = tl.program_id(2)
    first, last = num_blocks * share // num_shares, num_blocks * (share + 1) // num_shares
    steps, line = tl.arange(0, PLANE), num_outputs.to(tl.int64)
    PLANES: tl.constexpr = 16 // BITS
    GROUPS: tl.constexpr = PLANE * PLANES // GROUP
    IN_GROUP: tl.constexpr = GROUP // PLANE
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for block in range(first, last):
        places = (block * PLANE + steps)[:, None] * line + outputs[None, :]
        words = tl.load(words_ptr + places, mask=is_output[None, :], other=0)
        for group in tl.static_range(GROUPS):
            spots = (block * GROUPS + group) * line + outputs
            scales = tl.load(scales_ptr + spots, mask=is_output, other=0.0).to(tl.float32)
            zeros = tl.load(zeros_ptr + spots, mask=is_output, other=0)
            part = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
            for plane in tl.static_range(group * IN_GROUP, (group + 1) * IN_GROUP):
                cols = (block * PLANES + plane) * PLANE + steps
                spots = rows[:, None].to(tl.int64) * num_cols + cols[None, :]
                x = tl.load(x_ptr + spots, mask=is_row & (cols < num_cols)[None, :], other=0.0)
                codes = unpack(words, zeros[None, :], plane, BITS, PACKED, x.dtype)
                part = tl.dot(x, codes, part, input_precision="ieee")
            acc += part * scales[None, :]
    acc *= factor
    spots = rows[:, None].to(tl.int64) * num_outputs + outputs[None, :]
    if num_shares == 1:
        bias = tl.load(bias_ptr + outputs, mask=outputs < num_biased, other=0.0).to(tl.float32)
        out = (acc + bias[None, :]).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + spots, out, mask=is_row & is_output[None, :])
    else:
        spots += share.to(tl.int64) * num_rows * num_outputs
        tl.store(parts_ptr + spots, acc, mask=is_row & is_output[None, :])


@triton.jit
def unpack(
    words, zeros, PLACE: tl.constexpr, BITS: tl.constexpr, PACKED: tl.constexpr, T: tl.constexpr
):
    """code - zero of the codes at one place of each word, exactly, as T.

    PACKED does the same for two words at once, as floats: 4 bits plus a base whose last bits they
    are, and 8 bits as 16 · the upper 4 + the lower 4, because bfloat16 has 8 bits in all.
    """
    if not PACKED:
        codes = (words.to(tl.int32) >> (PLACE * BITS)) & ((1 << BITS) - 1)
        return (codes - zeros.to(tl.int32)).to(tl.float32).to(T)
    base = tl.full((), 128.0 if tl.bfloat16 == T else 1024.0, T)
    if BITS == 4:
        return _nibbles(words, PLACE * 4, T) - (zeros.to(T) + base)
    low = _nibbles(words, PLACE * 8, T) - base
    high = _nibbles(words, PLACE * 8 + 4, T) - base
    return high * 16 + low - zeros.to(T)


@triton.jit
def _nibbles(words, SHIFT: tl.constexpr, T: tl.constexpr):
    """128 (of bfloat16) or 1024 (of float16) plus 4 bits of each word.

    0x4300 is 128 and has room for 4 bits at the end, 0x4305 is 133: two instructions for two words
    where conversions take slow ones (Kim, Henry, Fahim, Awadalla 2022, arXiv 2211.10017). 0xea is
    (a and b) or c.
    """
    MOVE: tl.constexpr = (
        "mov.b32 t, $1; "
        if SHIFT == 0
        else "shr.u32 t, $1, 4; "
        if SHIFT == 4
        else "shr.u32 t, $1, 8; "
        if SHIFT == 8
        else "shr.u32 t, $1, 12; "
    )
    ASM: tl.constexpr = "{ .reg .b32 t; " + MOVE + "lop3.b32 $0, t, 0x000f000f, $2, 0xea; }"
    magic = tl.full((), 0x4300 if tl.bfloat16 == T else 0x6400, tl.int16)
    pairs = tl.inline_asm_elementwise(
        ASM, "=r,r,r", [words, magic], dtype=tl.int16, is_pure=True, pack=2
    )
    return pairs.to(T, bitcast=True)


@triton.jit
def sum_kernel(
    parts_ptr, bias_ptr, out_ptr, num_shares, num_rows, num_cols, num_biased, BLOCK: tl.constexpr
):
    """out = Σ of the shares + bias, BLOCK columns of one row a program."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.load(bias_ptr + cols, mask=cols < num_biased, other=0.0).to(tl.float32)
    for share in range(num_shares):
        spots = (share * num_rows + row) * num_cols + cols
        acc += tl.load(parts_ptr + spots, mask=cols < num_cols, other=0.0)
    out = acc.to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * num_cols + cols, out, mask=cols < num_cols)


@triton.jit
def restore_kernel(
    words_ptr, scales_ptr, zeros_ptr, out_ptr, num_cols, num_outputs, num_kept, factor,
    BITS: tl.constexpr, GROUP: tl.constexpr, PLANE: tl.constexpr, PACKED: tl.constexpr,
    BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The weight itself, Wᵀ [num_cols, num_kept], one block of columns a program.

    Of words with num_outputs outputs the first num_kept, counted from words_ptr, are restored.
    """
    block = tl.program_id(1)
    outputs = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_output = outputs < num_kept
    steps, line = tl.arange(0, PLANE), num_outputs.to(tl.int64)
    PLANES: tl.constexpr = 16 // BITS
    GROUPS: tl.constexpr = PLANE * PLANES // GROUP
    T: tl.constexpr = out_ptr.dtype.element_ty
    places = (block * PLANE + steps)[:, None] * line + outputs[None, :]
    words = tl.load(words_ptr + places, mask=is_output[None, :], other=0)
    for plane in tl.static_range(PLANES):
        group = (block * GROUPS + plane * PLANE // GROUP) * line + outputs
        scales = tl.load(scales_ptr + group, mask=is_output, other=0.0).to(tl.float32) * factor
        zeros = tl.load(zeros_ptr + group, mask=is_output, other=0)
        codes = unpack(words, zeros[None, :], plane, BITS, PACKED, T).to(tl.float32)
        cols = (block * PLANES + plane) * PLANE + steps
        spots = cols[:, None].to(tl.int64) * num_kept + outputs[None, :]
        is_in = (cols < num_cols)[:, None] & is_output[None, :]
        tl.store(out_ptr + spots, (codes * scales[None, :]).to(T), mask=is_in)
