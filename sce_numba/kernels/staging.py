"""From an array of any layout to a contiguous block in its own dtype, and back.

An *operand* is a row of integers: address of the first element, dtype code, bytes an element,
whether its memory can be read as it stands (aligned, native byte order), and the byte strides.
A block is a range of elements in the order of the logical shape, the last axis fastest.  Where
the block lies contiguous in memory it is used in place; else it is gathered into scratch memory
the size of one block.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from .lanes import block_function, loop
from .operand import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, ONE, address_of, at, load, store
from .softplus import OPTIONS
from .streaming import LINE

# Bytes copied at a time.
COPIED = 4 * LINE

# Columns of an operand, in the order in which `layout` fills them; the strides follow.
ADDRESS, CODE, ITEMSIZE, PLAIN, SWAPPED, STRIDES = 0, 1, 2, 3, 4, 5

SIGN_F16, INFINITY_F16 = np.int32(0x8000), np.int32(0x7C00)
SIGN_F32, INFINITY_F32 = np.int32(-0x80000000), np.int32(0x7F800000)
NORMAL_F16, OVERFLOW_F16, HALF = np.int32(0x38800000), np.int32(0x47800000), np.int32(0x3F000000)


@register_jitable(**OPTIONS)
def _copy_run(address, stride, size, itemsize, dtype, target):
    """Copy ``size`` elements, ``stride`` bytes apart, to the contiguous memory at ``target``."""
    to = at(target, size, dtype)
    step = stride // itemsize
    if step == 0:
        to[:] = at(address, 1, dtype)[0]
    elif step > 0:
        source = at(address, (size - 1) * step + 1, dtype)
        for i in range(size):
            to[i] = source[i * step]
    else:
        # An index may not be negative: start from the lowest address.
        source = at(address + (size - 1) * stride, (size - 1) * -step + 1, dtype)
        for i in range(size):
            to[i] = source[(size - 1 - i) * -step]


@register_jitable(**OPTIONS)
def _copy_run_bytes(address, stride, size, itemsize, swapped, target):
    to = at(target, size * itemsize, np.uint8)
    for i in range(size):
        source = at(address + i * stride, itemsize, np.uint8)
        for k in range(itemsize):
            to[i * itemsize + k] = source[itemsize - 1 - k] if swapped else source[k]


@register_jitable(**OPTIONS)
def offset_of(shape, operand, start):
    """Return the distance in bytes of element number ``start`` from the first."""
    offset, rest = 0, start
    for k in range(shape.size - 1, 0, -1):
        offset += (rest % shape[k]) * operand[STRIDES + k]
        rest //= shape[k]
    return offset + rest * operand[STRIDES]


@register_jitable(**OPTIONS)
def _gather(shape, operand, start, size, target):
    """Copy elements ``start`` to ``start + size`` to the contiguous memory at ``target``."""
    last = shape.size - 1
    stride, itemsize = operand[STRIDES + last], operand[ITEMSIZE]
    columns = shape[last]
    rows = shape[last - 1] if last > 0 else 1
    next_row = operand[STRIDES + last - 1] if last > 0 else 0
    row, position = start // columns, start % columns
    in_plane = row % rows
    source = operand[ADDRESS] + offset_of(shape, operand, row * columns)
    done = 0
    while done < size:
        run = min(columns - position, size - done)
        own, to = source + position * stride, target + done * itemsize
        if operand[PLAIN] == 0:
            _copy_run_bytes(own, stride, run, itemsize, operand[SWAPPED] != 0, to)
        elif itemsize == 1:
            _copy_run(own, stride, run, 1, np.uint8, to)
        elif itemsize == 2:
            _copy_run(own, stride, run, 2, np.uint16, to)
        elif itemsize == 4:
            _copy_run(own, stride, run, 4, np.uint32, to)
        else:
            _copy_run(own, stride, run, 8, np.uint64, to)
        done += run
        position = 0
        row += 1
        in_plane += 1
        if in_plane < rows:
            source += next_row
        elif done < size:
            in_plane = 0
            source = operand[ADDRESS] + offset_of(shape, operand, row * columns)


@register_jitable(**OPTIONS)
def _scatter(shape, operand, start, size, source):
    """Copy contiguous memory to elements ``start`` to ``start + size`` of an operand."""
    last = shape.size - 1
    stride, itemsize = operand[STRIDES + last], operand[ITEMSIZE]
    done = 0
    while done < size:
        run = min(shape[last] - (start + done) % shape[last], size - done)
        target = operand[ADDRESS] + offset_of(shape, operand, start + done)
        for i in range(run):
            to = at(target + i * stride, itemsize, np.uint8)
            value = at(source + (done + i) * itemsize, itemsize, np.uint8)
            for k in range(itemsize):
                to[k] = value[itemsize - 1 - k] if operand[SWAPPED] else value[k]
        done += run


@register_jitable(**OPTIONS)
def float32_to_float16(value):
    """Return the bits of the float16 nearest to ``value``, ties to even."""
    bits = np.float32(value).view(np.int32)
    magnitude = np.int32(bits & ~SIGN_F32)
    sign = (bits >> 16) & SIGN_F16
    rounded = (magnitude - (112 << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13
    # Adding 0.5 puts the last bit of a subnormal float16 at the last bit of the sum.
    shifted = np.float32(np.int32(magnitude).view(np.float32) + np.float32(0.5))
    rounded = shifted.view(np.int32) - HALF if magnitude < NORMAL_F16 else rounded
    rounded = INFINITY_F16 if magnitude >= OVERFLOW_F16 else rounded
    rounded = np.int32(0x7E00) if magnitude > INFINITY_F32 else rounded
    return np.uint16(rounded | sign)


@register_jitable(**OPTIONS)
def float32_to_bfloat16(value):
    """Return the bits of the bfloat16 nearest to ``value``, ties to even."""
    bits = np.float32(value).view(np.int32)
    rounded = (np.int64(bits) + 0x7FFF + ((bits >> 16) & 1)) >> 16
    rounded = (bits >> 16) | 0x40 if (bits & ~SIGN_F32) > INFINITY_F32 else rounded
    return np.uint16(rounded & 0xFFFF)


@register_jitable(**OPTIONS)
def _cast(source, target):
    for i in range(source.size):
        target[i] = source[i]


@block_function(results=0)
def _copy_lines(dtype, source, target, steps):
    code, itemsize = (FLOAT32, 4) if dtype is np.float32 else (FLOAT64, 8)
    lanes = COPIED // itemsize

    def step(k):
        store(load(dtype, source + k * COPIED, code, lanes), target + k * COPIED, past_caches=True)
        return ()

    loop(steps, (), step)


@register_jitable(**OPTIONS)
def copy_past_caches(source, target):
    """Copy an array to another, whole lines of it past the caches."""
    itemsize = source.itemsize
    head = min(-address_of(target) % LINE // itemsize, source.size)
    steps = (source.size - head) * itemsize // COPIED
    done = head + steps * COPIED // itemsize
    _cast(source[:head], target[:head])
    place = address_of(source) + head * itemsize, address_of(target) + head * itemsize, steps
    _copy_lines(source, place)
    _cast(source[done:], target[done:])


@register_jitable(**OPTIONS)
def _lies_contiguous(shape, operand, start, size):
    axis, itemsize = shape.size - 1, operand[ITEMSIZE]
    if operand[PLAIN] == 0 or operand[STRIDES + axis] != itemsize:
        return False
    # Axes that another operand keeps apart may follow one another without gaps in this one.
    run = shape[axis]
    while axis > 0 and operand[STRIDES + axis - 1] == run * itemsize:
        axis -= 1
        run *= shape[axis]
    return start % run + size <= run


@register_jitable(**OPTIONS)
def address_in_place(shape, operand, code, start, size):
    """Return the address of contiguous elements of the dtype ``code``, 0 if they are not such."""
    if operand[CODE] == code and _lies_contiguous(shape, operand, start, size):
        return operand[ADDRESS] + offset_of(shape, operand, start)
    return 0


@register_jitable(**OPTIONS)
def read(shape, operand, start, size, raw):
    """Return address, dtype code and bytes an element of contiguous elements from ``start`` on.

    They are where they lie, or gathered in ``raw``, scratch of 8 bytes an element.  The code of
    an operand that is not given is ``ONE``.
    """
    if operand[ADDRESS] == 0:
        return 0, ONE, 0
    address = address_of(raw)
    if _lies_contiguous(shape, operand, start, size):
        address = operand[ADDRESS] + offset_of(shape, operand, start)
    else:
        _gather(shape, operand, start, size, address)
    return address, operand[CODE], operand[ITEMSIZE]


@register_jitable(**OPTIONS)
def write(shape, operand, start, values, raw, past_caches):
    """Write a contiguous block to elements ``start`` and following of an operand."""
    size = values.size
    in_place = _lies_contiguous(shape, operand, start, size)
    address = operand[ADDRESS] + offset_of(shape, operand, start) if in_place else address_of(raw)
    if operand[CODE] == FLOAT16:
        halves = at(address, size, np.uint16)
        for i in range(size):
            halves[i] = float32_to_float16(values[i])
    elif operand[CODE] == BFLOAT16:
        halves = at(address, size, np.uint16)
        for i in range(size):
            halves[i] = float32_to_bfloat16(values[i])
    elif in_place and past_caches:
        copy_past_caches(values, at(address, size, values.dtype))
    else:
        _cast(values, at(address, size, values.dtype))
    if not in_place:
        _scatter(shape, operand, start, size, address)
