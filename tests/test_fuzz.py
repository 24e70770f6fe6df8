"""Any call gives the right answer, or an error that names the argument; and changes nothing else.

Hypothesis draws calls of every public function: dtypes, shapes, layouts and kinds of objects that
are accepted, and now and then some that are not.  An answer is compared with the formula in
longdouble, within what the library promises.  The bytes of all memory that was handed over are
compared before and after: but for the elements of ``out``, ``grad_out`` and ``hess_out`` they stay,
and where a call is refused those stay as well.  Some operands end, or begin, where memory does.

SCE_FUZZ_EXAMPLES tells how many calls are drawn, then by a seed that changes:

    SCE_FUZZ_EXAMPLES=100000 python -m pytest tests/test_fuzz.py -s
"""

import atexit
import collections
import ctypes
import mmap
import os
import sys
import tempfile

import ml_dtypes
import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_calls import LABELS_DTYPES, LAYOUTS, LOGITS_DTYPES, WEIGHTS_DTYPES, laid_out
from reference import MEAN, NONE, REDUCTIONS, SUM, SUM_BY_NONZERO_WEIGHTS, as_given, ulp

import sce_numba as sce

EXAMPLES = int(os.environ.get("SCE_FUZZ_EXAMPLES", "500"))
# The arguments of each function beside labels and logits, and what its labels are called.
FUNCTIONS = {
    "sigmoid_cross_entropy": (
        "multi_class_labels",
        ("weights", "label_smoothing", "reduction", "pos_weight", "where", "out"),
    ),
    "sigmoid_cross_entropy_with_logits": ("labels", ("out",)),
    "weighted_cross_entropy_with_logits": ("labels", ("pos_weight", "out")),
    "compute_weighted_loss": (None, ("weights", "reduction")),
    "sigmoid_cross_entropy_value_and_grad": (
        "multi_class_labels",
        ("weights", "label_smoothing", "reduction", "pos_weight", "where", "out", "grad_out"),
    ),
    "sigmoid_cross_entropy_gradient_hessian": (
        "multi_class_labels",
        ("weights", "label_smoothing", "pos_weight", "where", "grad_out", "hess_out"),
    ),
}
OUTS = ("out", "grad_out", "hess_out")
LENGTHS = [15, 16, 17, 63, 64, 65, 127, 129, 255, 256, 257, 1023, 1024, 1025, 4095, 4097, 8193]
EDGES = [0.0, -0.0, 1e-45, 1e-38, 17.4, -88.0, 104.0, -745.0, 1e4, np.inf, -np.inf, np.nan]
SLOT = 1 << 20


class Edges:
    """Memory between two pages that can't be touched, some of it for each argument."""

    def __init__(self, slots):
        page = mmap.PAGESIZE
        self.stride = SLOT + page
        self.memory = mmap.mmap(-1, slots * self.stride + page)
        self.bytes = np.frombuffer(self.memory, np.uint8)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for k in range(slots + 1):
            address = self.bytes.ctypes.data + k * self.stride
            assert protect(ctypes.c_void_p(address), ctypes.c_size_t(page), 0) == 0
        self.page = page

    def __call__(self, array, slot, at_end):
        start = slot * self.stride + self.page
        if at_end:
            start += SLOT - array.nbytes
        view = np.ndarray(array.shape, array.dtype, self.bytes[start : start + array.nbytes])
        view[...] = array
        return view


EDGES_OF_MEMORY = Edges(8) if sys.platform.startswith("linux") else None
FILE = tempfile.TemporaryFile()  # noqa: SIM115
atexit.register(FILE.close)
FILE.truncate(8 * SLOT)


class Own(np.ndarray):
    """A subclass that says nothing true of itself."""

    shape = strides = size = ndim = property(lambda self: 7)

    def __getitem__(self, key):
        raise RuntimeError("not to be asked")

    __setitem__ = __len__ = __iter__ = __getitem__


class Once:
    """Hands out its array once, and afterwards something else each time."""

    def __init__(self, array):
        self.array, self.asked = array, 0

    def __array__(self, dtype=None, copy=None):
        self.asked += 1
        return self.array if self.asked == 1 else np.zeros(self.asked)


class Interface:
    def __init__(self, array):
        self.array = array
        self.__array_interface__ = array.__array_interface__


def handing_out(result):
    class Liar:
        def __array__(self, dtype=None, copy=None):
            if isinstance(result, Exception):
                raise result
            return result

    return Liar()


def with_attribute(name, value):
    return type("Liar", (), {name: value})()


def raising(*_, **__):
    raise RuntimeError("not today")


def recursive():
    found = []
    found.append(found)
    return found


class Unhashable(str):
    __hash__ = None


class Unshown:
    __repr__ = __float__ = raising


NO_ARRAYS = [
    lambda: "much",
    lambda: b"0.5",
    lambda: 1j,
    lambda: object(),
    lambda: {"a": 1},
    lambda: {1.0, 2.0},
    lambda: (x for x in (1.0, 2.0)),
    lambda: [10**400],
    lambda: [[1.0], [1.0, 2.0]],
    lambda: [1.0, None],
    lambda: ["a", "b"],
    recursive,
    lambda: handing_out(RuntimeError("not today")),
    lambda: handing_out(TypeError("not today")),
    lambda: handing_out(OverflowError("not today")),
    lambda: handing_out([1.0, 2.0]),
    lambda: handing_out(None),
    lambda: handing_out(np.array([None, 1.0], object)),
    lambda: handing_out(np.ma.masked_array([1.0, 2.0], mask=[True, False])),
    lambda: with_attribute("__array__", property(raising)),
    lambda: with_attribute("__array_interface__", 3),
    lambda: with_attribute("__array_interface__", {"version": 3}),
    lambda: with_attribute(
        "__array_interface__", {"version": 3, "shape": (2,), "typestr": "?!", "data": (0, False)}
    ),
    lambda: with_attribute("__array_interface__", property(raising)),
    lambda: with_attribute("__array_struct__", 3),
    lambda: type("Liar", (), {"__len__": lambda self: 5, "__getitem__": raising})(),
    lambda: type("Liar", (), {"__len__": lambda self: -1, "__getitem__": lambda self, k: 1.0})(),
]
# Dtypes that no argument may have; where and logits refuse more.
NO_DTYPES = [np.complex64, object, "U3", "S2", "datetime64[s]", "timedelta64[s]", "V4", "f4,i4"]
NO_DTYPES += [ml_dtypes.float8_e3m4, ml_dtypes.int4]
NO_DTYPES += [np.longdouble] if np.dtype(np.longdouble).itemsize > 8 else []
NO_SMOOTHING = [-0.1, 1.5, float("nan"), float("inf"), "0.5", b"1", None, [0.1], 10**400, 10**5000]
NO_SMOOTHING += [1j, np.zeros(3), Unshown(), -(10**400), {}]
NO_REDUCTION = [None, "mean", "", "SUM", 3, ["none"], b"none", 10**5000, Unshown(), {}]
NO_REDUCTION += [Unhashable("sum"), np.array(["none"]), np.nan, "x" * 10**5]

counts = collections.Counter()


def root_of(array):
    # Pages that can't be touched lie beside what may be looked at.
    stop = EDGES_OF_MEMORY.bytes if EDGES_OF_MEMORY else None
    while isinstance(array.base, np.ndarray) and array.base is not stop:
        array = array.base
    return np.asarray(array)


class Call:
    """A call: its arguments, where they are wrong, and what it has to answer."""

    def __init__(self, rng):
        self.rng = rng
        self.values = np.random.default_rng(rng.getrandbits(32))
        self.function = rng.choice(list(FUNCTIONS))
        self.labels_name, self.others = FUNCTIONS[self.function]
        self.logits_name = "logits" if self.labels_name else "losses"
        self.dtype = rng.choice(LOGITS_DTYPES)
        self.shape = self.draw_shape()
        self.reduction = NONE
        self.smoothing = 0
        self.operands, self.arguments, self.kinds, self.faults = {}, {}, {}, []
        self.memory = {}
        self.draw_operands()
        self.draw_scalars()
        self.operands = {name: np.array(array) for name, array in self.operands.items()}
        for name, array in self.operands.items():
            self.arguments[name] = self.handed_over(name, array.copy())
        self.draw_outs()
        if rng.random() < 0.35:
            self.spoil()

    def __repr__(self):
        return (
            f"{self.function}, {self.dtype.name} {self.shape}, {self.reduction}, "
            f"smoothing {self.smoothing}, {self.kinds}, faults {self.faults}"
        )

    def draw_shape(self):
        rng, ndim = self.rng, self.rng.randrange(6)
        if rng.random() < 0.02:
            return rng.choice([(70_001,), (257, 260), (3, 30_000)])
        shape = [rng.choice([1, 2, 3, 4, 5, 7]) for _ in range(ndim)]
        if ndim == 1:
            shape = [rng.choice([1, 2, 9, *LENGTHS])]
        elif ndim and rng.random() < 0.3:
            shape = [min(n, 3) for n in shape] if ndim < 4 else [min(n, 2) for n in shape]
            shape[rng.randrange(ndim)] = rng.choice(LENGTHS[:-3])
        if ndim and rng.random() < 0.1:
            shape[rng.randrange(ndim)] = 0
        return tuple(shape)

    def drawn(self, shape, dtype, choices):
        with np.errstate(all="ignore"):
            return np.asarray(self.values.choice(choices, shape)).astype(dtype)

    def draw_operands(self):
        rng, shape = self.rng, self.shape
        nonfinite = rng.random() < 0.05
        with np.errstate(all="ignore"):
            logits = self.values.normal(0, rng.choice([1, 8, 100]), shape)
            if rng.random() < 0.3:
                edge = self.values.random(shape) < 0.2
                logits = np.where(edge, self.values.choice(EDGES, shape), logits)
            if nonfinite:  # where a loss is 0 only after rounding, inf times it is something else
                logits = np.clip(logits, -40, 40)
            self.operands[self.logits_name] = np.asarray(logits).astype(self.dtype)
        if self.labels_name:
            dtype = rng.choice(LABELS_DTYPES)
            kind = "hard" if nonfinite else rng.choice(["hard", "soft", "soft", "outside"])
            choices = [0, 1]
            if kind == "soft" and dtype in LOGITS_DTYPES:
                choices = np.append(self.values.random(50), [0.0, 1.0, 1e-30])
            elif kind == "outside" and dtype.kind != "b":
                choices = [0, 1, 2] + ([] if dtype.kind == "u" else [-1])
                if dtype.kind in "iu":
                    # Beside a weight of positives 1 - z + q z must not be lost in rounding.
                    most = 120 if "pos_weight" in self.others else np.iinfo(dtype).max
                    choices = np.array([*choices, most], dtype)
                else:
                    choices += [1.5, -3.25, np.nan]
            self.operands[self.labels_name] = self.drawn(shape, dtype, choices)
        if "weights" in self.others and rng.random() < 0.7:
            own = tuple(n if rng.random() < 0.6 else 1 for n in shape)
            own = () if rng.random() < 0.1 else own
            # Eighths, of which sums are exact in any dtype.
            dtype = rng.choice(WEIGHTS_DTYPES)
            choices = rng.choice([[0, 1], [0.125, 2.5, 3], [1, -1], [-0.0, 1, 3, -1.5], [0]])
            if nonfinite and dtype in LOGITS_DTYPES:
                choices = [1, 2, np.inf, -np.inf, np.nan]
            self.operands["weights"] = self.drawn(own, dtype, choices)
        needed = self.function == "weighted_cross_entropy_with_logits"
        if "pos_weight" in self.others and not nonfinite and (needed or rng.random() < 0.3):
            own = tuple(
                n if rng.random() < 0.7 else 1 for n in shape[rng.randrange(len(shape) + 1) :]
            )
            self.operands["pos_weight"] = self.drawn(
                own, rng.choice(WEIGHTS_DTYPES), [0.25, 1, 2, 5.5, 0]
            )
        elif needed:
            self.operands["pos_weight"] = np.ones(())
        if "where" in self.others and rng.random() < 0.3:
            own = tuple(
                n if rng.random() < 0.7 else 1 for n in shape[rng.randrange(len(shape) + 1) :]
            )
            self.operands["where"] = self.values.random(own) < rng.choice([0, 0.5, 0.9, 1])
        self.nonfinite = nonfinite

    def draw_scalars(self):
        rng = self.rng
        if "reduction" in self.others:
            self.reduction = rng.choice(REDUCTIONS)
            form = rng.choice([str, sce.Reduction, np.str_, Unhashable])
            self.arguments["reduction"] = form(self.reduction)
        if "label_smoothing" in self.others and rng.random() < 0.5:
            self.smoothing = rng.choice([0, 0.1, 0.5, 1, True, np.float32(0.25), np.array(0.75)])
            self.arguments["label_smoothing"] = self.smoothing
        if "weights" in self.others and "weights" not in self.operands and rng.random() < 0.5:
            weights = rng.choice([0, 1, 2.5, -1.0, True, np.float32(3), 10**12, -0.0])
            self.arguments["weights"] = weights
            self.operands["weights"] = np.asarray(weights)
            self.kinds["weights"] = "scalar"

    def handed_over(self, name, array):
        """Return an operand as some object in some layout, and remember its values."""
        if name in self.arguments:
            return self.arguments[name]
        kinds = [*LAYOUTS, "C", "C", "C", "broadcast", "subclass", "sliced", "once"]
        if array.dtype.name != "bfloat16":  # which has no name in the interface
            kinds.append("interface")
        if 0 < array.nbytes <= SLOT:
            kinds += ["memmap"] + ["last bytes", "first bytes"] * (EDGES_OF_MEMORY is not None)
        if array.size and array.size < 300 and array.dtype.name in ("float64", "int64", "bool"):
            kinds += ["list", "list"]
        if array.ndim == 2:
            kinds += ["matrix"]
        kind = self.kinds[name] = self.rng.choice(kinds)
        slot = list(self.operands).index(name)
        if kind == "broadcast" and array.ndim and array.size:
            axis = self.rng.randrange(array.ndim)
            array = np.broadcast_to(array.take([0], axis), array.shape)
            self.operands[name] = array.copy()
        elif kind == "sliced" and array.ndim:
            wide = np.zeros(tuple(n + 3 for n in array.shape), array.dtype)
            place = wide[tuple(slice(1, n + 1) for n in array.shape)]
            place[...] = array
            array = place
        elif kind == "memmap":
            place = np.memmap(FILE, array.dtype, "r+", slot * SLOT, array.shape)
            place[...] = array
            array = place
        elif kind in ("last bytes", "first bytes"):
            array = EDGES_OF_MEMORY(array, slot, kind == "last bytes")
        elif kind in LAYOUTS:
            array = laid_out(array, kind)
        self.remember(array)
        if kind == "subclass":
            return array.view(Own)
        if kind == "matrix":
            return array.view(np.matrix)
        if kind == "list":
            return array.tolist()
        return {"once": Once, "interface": Interface}.get(kind, lambda same: same)(array)

    def remember(self, array):
        root = root_of(array)
        self.memory[id(root)] = root, root.tobytes()

    def draw_outs(self):
        rng, self.outs = self.rng, {}
        logits = self.arguments[self.logits_name]
        self.stored_dtype = logits.dtype if isinstance(logits, np.ndarray) else self.dtype
        for name in OUTS:
            if name not in self.others or rng.random() < 0.6:
                continue
            if name == "out" and "reduction" in self.others and self.reduction != NONE:
                continue
            self.arguments[name] = self.out_of(name, logits, rng)
            self.kinds[name] = type(self.arguments[name]).__name__
            self.outs[name] = np.asarray(self.arguments[name])
            self.remember(self.outs[name])

    def out_of(self, name, logits, rng):
        plain = type(logits) is np.ndarray and logits.flags.writeable
        if plain and 0 not in logits.strides and not self.outs and rng.random() < 0.4:
            return logits
        labels = self.arguments.get(self.labels_name)
        if not self.outs and rng.random() < 0.1 and self.nonfinite is False:
            out = np.zeros(self.shape, self.stored_dtype)
            out[...] = self.values.integers(0, 2, self.shape)
            same = {2: np.int16, 4: np.int32, 8: np.int64}[out.itemsize]
            # Bits of floats are huge integers, which are not drawn beside a weight of positives.
            other = out.dtype if "pos_weight" in self.operands else rng.choice([out.dtype, same])
            labels = out.view(other)
            if labels.dtype.name != "bfloat16" or labels.dtype == out.dtype:
                self.arguments[self.labels_name] = labels
                self.operands[self.labels_name] = labels.copy()
                return out
        empty = np.full(self.shape, 7, self.stored_dtype)
        kind = rng.choice(
            [
                *(k for k in LAYOUTS if k != "read-only"),
                "memmap",
                "last",
                Own,
            ]
        )
        if kind is Own:
            return empty.view(Own)
        if kind == "memmap" and 0 < empty.nbytes <= SLOT:
            return np.memmap(FILE, empty.dtype, "r+", (5 + OUTS.index(name)) * SLOT, empty.shape)
        if kind == "last" and EDGES_OF_MEMORY and 0 < empty.nbytes <= SLOT:
            return EDGES_OF_MEMORY(empty, 5 + OUTS.index(name), True)
        return laid_out(empty, kind)

    def spoil(self):
        """Replace an argument or two by what must be refused."""
        names = [self.logits_name, *self.others]
        names += [self.labels_name] if self.labels_name else []
        for name in self.rng.sample(names, self.rng.choice([1, 1, 2]) if len(names) > 1 else 1):
            if name in OUTS:
                wrong = self.wrong_out(name)
                # The sum of losses has no use for an array of them.
                if name == "out" and "reduction" in self.others and self.reduction != NONE:
                    self.arguments["out"] = np.zeros(self.shape, self.stored_dtype)
            else:
                wrong = self.wrong(name)
            if wrong is not self:
                self.arguments[name] = wrong
            elif name not in OUTS or name not in self.faults:
                continue
            self.faults.append(name)
            if isinstance(wrong, np.ndarray) and wrong.dtype != object:
                self.remember(wrong)

    def wrong(self, name):
        rng = self.rng
        if name == "label_smoothing":
            return rng.choice(NO_SMOOTHING)
        if name == "reduction":
            return rng.choice(NO_REDUCTION)
        shape = self.operands[name].shape if name in self.operands else self.shape
        kind = rng.randrange(4)
        if kind == 0:
            return rng.choice(NO_ARRAYS)()
        if kind == 1:
            dtypes = NO_DTYPES
            if name == self.logits_name:
                dtypes = [*dtypes, bool]
            if name == "logits":  # losses may be integers
                dtypes = [*dtypes, np.int8, np.int64, np.uint16]
            if name == "where":
                dtypes = [*dtypes, np.int8, np.uint8, np.float32]
            return np.zeros(shape, rng.choice(dtypes))
        if kind == 2:
            dtype = bool if name == "where" else np.float32
            return np.ma.masked_array(np.ones(shape, dtype), mask=np.ones(shape, bool))
        if name == "losses" or (name not in ("pos_weight", "where") and rng.random() < 0.2):
            return None
        dtype = bool if name == "where" else np.float64
        # Labels and logits that are both wrong shall not fit each other.
        n = 13 if name == self.logits_name else 11
        wrong = rng.choice([(n, *self.shape), (*self.shape, 8, n), (n,) * (len(self.shape) + 1)])
        return np.zeros(wrong, dtype)

    def wrong_out(self, name):
        rng, shape, dtype = self.rng, self.shape, self.stored_dtype
        size = int(np.prod(shape))
        kinds = ["list", "shape", "dtype", "read-only", "masked", "object"]
        if size > 1:
            kinds += ["broadcast", "windows", "overlap"] * 2
        kind = self.kinds[name] = rng.choice(kinds)
        if kind == "list":
            return np.zeros(shape).tolist()
        if kind == "object":
            return rng.choice([handing_out(np.zeros(shape, dtype)), "out", 3.0, np.float32(1)])
        if kind == "shape":
            return np.zeros((*shape, 2), dtype)
        if kind == "dtype":
            return np.zeros(shape, rng.choice([np.int32, np.complex64, object]))
        if kind == "read-only":
            out = np.zeros(shape, dtype)
            out.flags.writeable = False
            return out
        if kind == "masked":
            return np.ma.masked_array(np.zeros(shape, dtype), mask=np.ones(shape, bool))
        memory = np.zeros(size + 1, dtype)
        if kind == "broadcast":
            return np.lib.stride_tricks.as_strided(memory, shape, (0,) * len(shape))
        if kind == "windows":
            steps = [dtype.itemsize if n > 1 else 0 for n in shape]
            if sum(n > 1 for n in shape) < 2:
                steps = [dtype.itemsize // 2 for _ in shape]
            return np.lib.stride_tricks.as_strided(memory, shape, steps)
        other = rng.choice([self.logits_name, self.labels_name or self.logits_name])
        with np.errstate(all="ignore"):
            memory[:-1] = self.operands[other].astype(dtype).ravel()
        self.arguments[other] = memory[:-1].reshape(shape)
        return memory[1:].reshape(shape)

    # What is right.

    def exact(self):
        """Return loss, gradient and hessian of each element, each with the error allowed."""
        x = self.operands[self.logits_name].astype(np.longdouble)
        if not self.labels_name:
            return ((x, np.zeros(x.shape)),)
        precision = np.float64 if self.dtype == np.float64 else np.float32
        z = as_given(self.operands[self.labels_name]).astype(np.longdouble)
        q, has_q = np.longdouble(1), "pos_weight" in self.operands
        if has_q:
            q = as_given(self.operands["pos_weight"]).astype(np.longdouble)
        a, b = 1 - np.longdouble(self.smoothing), np.longdouble(self.smoothing) / 2
        smooth, n = a * z + b, a * (1 - z) + b
        p, rest = q * smooth, np.exp(-np.abs(x))
        log = np.log1p(rest)
        low, high = rest / (1 + rest), 1 / (1 + rest)
        up, down = log + np.maximum(x, 0), log + np.maximum(-x, 0)
        literal = np.maximum(x, 0) - x * smooth + log
        if has_q:
            literal = (1 - smooth) * x + (1 + (q - 1) * smooth) * down
        loss = np.where(np.isinf(x), literal, n * up + p * down)
        # Labels outside [0, 1] set terms against each other: what counts is their size.
        first, second = a * np.abs(1 - z) + b, np.abs(q) * (a * np.abs(z) + b)
        inside = (z >= 0) & (z <= 1)
        # 2.5 ULP are promised; the weight of positives, and the reference, round as well.
        unit = ulp(np.where(np.isinf(x), 0, first * up + second * down), precision)
        loss_error = np.where(inside & (not has_q), 3, 4.5) * unit
        # What multiplies an exponential multiplies its error, which is not small where it vanishes.
        vanishing = (first + second) * 2 * ulp(np.where(np.isinf(x), 0, rest), precision)
        loss_error = loss_error + np.where(inside & (not has_q), 0, vanishing)
        of_x, of_minus_x = np.where(x < 0, low, high), np.where(x < 0, high, low)
        gradient = n * of_x - p * of_minus_x
        near = np.where(x < 0, p, n) - (n + p) * low
        gradient = np.where(low < 0.1, np.where(x < 0, -near, near), gradient)
        hard = ((z == 0) | (z == 1)) & (self.smoothing == 0) & (not has_q)
        greatest = np.maximum(np.maximum(first, second), np.maximum(1, np.abs(q)))
        unit = ulp(np.where(hard, gradient, greatest), precision)
        gradient_error = np.where(hard, 2.1, 3) * unit
        bend = low * high * ((n + p) if has_q else 1)
        size = low * high * ((first + second) if has_q else 1)
        hessian = np.where(np.isnan(x), x, bend)
        hessian_error = 5 * ulp(size, precision) + np.where(has_q, vanishing, 0)
        return (loss, loss_error), (gradient, gradient_error), (hessian, hessian_error)

    def expected(self):
        """Return the values that the function returns, each with the error allowed."""
        where = np.broadcast_to(self.operands.get("where", True), self.shape)
        given = as_given(self.operands.get("weights", 1.0))
        w = np.broadcast_to(given, self.shape)
        (losses, errors), *derivatives = self.exact()

        def weighted(values, errors, reduction):
            if reduction != NONE:
                values, errors, own = values[where], errors[where], w[where]
                return reference.weighted(values, errors, own, reduction, self.dtype)
            found = reference.weighted(values, errors, w, NONE, self.dtype)
            return tuple(np.where(where, part, 0) for part in found)

        loss = weighted(losses, errors, self.reduction)
        if not self.function.endswith(("_and_grad", "_hessian")):
            return (loss,)
        if self.function.endswith("_hessian"):
            return tuple(weighted(*derivative, NONE) for derivative in derivatives)
        denominator = 1.0
        if self.reduction == MEAN:
            denominator = w[where].sum()
        elif self.reduction == SUM_BY_NONZERO_WEIGHTS:
            denominator = np.count_nonzero(w[where])
        elif self.reduction not in (NONE, SUM):
            denominator = np.count_nonzero(where)
        if denominator == 0:
            return loss, (np.zeros(self.shape), np.zeros(self.shape))
        precision = np.float64 if self.dtype == np.float64 else np.float32
        # The weight is divided in float64 and rounded before it meets the gradient.
        scale = w * (1.0 / denominator)
        value = (scale * derivatives[0][0]).astype(np.float64)
        error = np.abs(scale) * derivatives[0][1] + 2.5 * ulp(value, precision)
        if self.dtype in reference.HALF_TYPES:
            error = error + 0.5 * ulp(value, self.dtype)
        return loss, (np.where(where, value, 0), np.where(where, error, 0))

    def check(self):
        before = {name: array.copy() for name, array in self.outs.items()}
        asked = dict(self.arguments)
        if self.labels_name is None:
            asked.pop(None, None)
        try:
            found = getattr(sce, self.function)(**asked)
        except (ValueError, TypeError) as error:
            counts["refused"] += 1
            self.check_refusal(error)
        else:
            counts["answered"] += 1
            assert not self.faults, f"{self.faults} were accepted"
            self.check_answers(found if isinstance(found, tuple) else (found,))
            for name, array in self.outs.items():
                array[...] = before[name]
        for root, content in self.memory.values():
            assert root.tobytes() == content, "memory was changed"

    def check_refusal(self, error):
        names = {name: f"`{name}`" for name in self.faults}
        names |= {"weights": "weights", "reduction": "Reduction"}
        message = str(error)
        assert any(names[name] in message for name in self.faults), f"{error!r}, but {self.faults}"
        assert len(message) < 1500

    def check_answers(self, found):
        with np.errstate(all="ignore"):
            expected = self.expected()
        assert len(found) == len(expected)
        elementwise = [self.reduction == NONE, True]
        outs = ("grad_out", "hess_out") if self.function.endswith("_hessian") else OUTS
        for k, (answer, (value, allowed)) in enumerate(zip(found, expected, strict=True)):
            given = self.arguments.get(outs[k])
            if given is not None:
                assert answer is given
            answer = np.asarray(answer)
            assert answer.shape == (self.shape if elementwise[k] else ())
            native = answer.astype(self.dtype)
            assert given is not None or answer.dtype == self.dtype
            with np.errstate(all="ignore"):
                # What is within the error of the greatest number may be rounded beyond it.
                own = native.astype(np.float64)
                beyond = np.abs(value) + allowed > float(ml_dtypes.finfo(self.dtype).max)
                same = np.isinf(own) & beyond & (np.sign(own) == np.sign(value))
                value = np.where(same, own, value)
                reference.assert_within(native, value, allowed, ("first", "second")[k])


def check(call):
    counts["calls"] += 1
    try:
        call.check()
    except Exception as error:
        error.add_note(repr(call)) if hasattr(error, "add_note") else None
        raise


@settings(
    max_examples=EXAMPLES,
    derandomize="SCE_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=True,
    suppress_health_check=list(HealthCheck),
)
@given(st.randoms(use_true_random=False))
def test_any_call_is_answered_rightly_or_refused_by_name(rng):
    check(Call(rng))


def test_both_answers_and_refusals_were_drawn(capsys):
    if not counts["calls"]:
        pytest.skip("the test above did not run")
    with capsys.disabled():
        print(f"\n{dict(counts)}")
    assert counts["answered"] > EXAMPLES / 3
    assert counts["refused"] > EXAMPLES / 10
