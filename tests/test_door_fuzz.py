"""The same data through every door: one answer, within 1 ULP, or every door refuses them.

Data are drawn by a seed: shapes, dtypes, weights, what is excluded, and mistakes.  They go through
the function as NumPy arrays, and as what each of the libraries of docs/arrays.md makes of them;
through the accumulator, the command line, and code that Numba compiled.

SCE_DOOR_CASES tells how many cases are drawn, and SCE_DOOR_SEED from where on:

    SCE_DOOR_CASES=2000 python -m pytest tests/test_door_fuzz.py -s
"""

import collections
import contextlib
import importlib.util
import io
import json
import os
import random
import warnings
from itertools import pairwise

import numpy as np
from numba import njit
from reference import REDUCTIONS, ulp

import sce_numba as sce
from sce_numba.__main__ import main

CASES = int(os.environ.get("SCE_DOOR_CASES", "80"))
SEED = int(os.environ.get("SCE_DOOR_SEED", "0"))
NAMES = "multi_class_labels", "logits", "weights", "where", "pos_weight"
ARGUMENTS = "labels", *NAMES, "label_smoothing", "Reduction Key"
# What each mistake makes of a case; it may be one that another door can't see.
SHAPE_MISTAKES = "labels", "weights", "where", "pos_weight"
MISTAKES = *SHAPE_MISTAKES, "rank", "smoothing", "reduction", "integers", "text", "complex"


class Case:
    """Operands of a call, and what is wrong with them, if anything."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.values = np.random.default_rng(seed)
        rows = rng.choice([0, 1, 1, 2, 3, 7, 16, 17, 300])
        self.shape = (rows,) if rng.random() < 0.3 else (rows, rng.choice([1, 2, 3, 5]))
        self.seed, self.mistake, self.smoothing = seed, None, rng.choice([0, 0, 0.1, 1])
        self.reduction = rng.choice(REDUCTIONS)
        self.operands = {
            "multi_class_labels": self.labels(),
            "logits": self.logits(),
            "weights": self.weights(),
            "where": self.broadcast(bool) if rng.random() < 0.3 else None,
            "pos_weight": self.pos_weight() if rng.random() < 0.3 else None,
        }
        if seed % 8 == 0:
            self.simplify()
        if rng.random() < 0.2:
            self.spoil(rng.choice(MISTAKES))

    def __repr__(self):
        shapes = {
            name: f"{operand.dtype}{list(operand.shape)}" if np.ndim(operand) else operand
            for name, operand in self.operands.items()
        }
        return f"{self.seed}: {shapes}, {self.smoothing}, {self.reduction}, {self.mistake}"

    def simplify(self):
        """Make it one that every door can be told."""
        operands, self.reduction = self.operands, "weighted_mean"
        operands |= {"weights": 0.5, "where": None, "pos_weight": None}
        operands["logits"] = operands["logits"].astype(np.float32)

    def labels(self):
        dtype = self.rng.choice([bool, np.int8, np.uint8, np.int64, np.float32, np.float64])
        soft = np.dtype(dtype).kind == "f" and self.rng.random() < 0.7
        labels = self.values.random(self.shape)
        if not soft:
            labels = labels < 0.4
        return self.spotted(labels.astype(dtype), [np.nan, 0.5])

    def logits(self):
        spread = self.rng.choice([1, 8, 60])
        logits = self.values.normal(0, spread, self.shape)
        dtype = self.rng.choice([np.float16, np.float32, np.float32, np.float64])
        return self.spotted(logits.astype(dtype), [np.nan, np.inf, -np.inf, 0.0, 17.4])

    def spotted(self, array, values):
        """Return it with some special values now and then."""
        if array.dtype.kind == "f" and array.size and self.rng.random() < 0.15:
            array.flat[self.rng.randrange(array.size)] = self.rng.choice(values)
        return array

    def broadcast(self, dtype, full=True):
        """Return an array that broadcasts to the logits by NumPy's rule."""
        shape = tuple(size if self.rng.random() < 0.6 else 1 for size in self.shape)
        if full and len(shape) == 2 and self.rng.random() < 0.4:
            shape = shape[1:]
        array = self.values.random(shape)
        return array < 0.7 if dtype is bool else (array * 4).astype(dtype)

    def weights(self):
        if self.rng.random() < 0.3:
            return self.rng.choice([1.0, 1.0, 0.25, 0.0])
        weights = self.broadcast(self.rng.choice([np.float32, np.float64]), full=False)
        if self.rng.random() < 0.4:
            weights[weights < 1] = 0
        return self.spotted(weights, [np.inf, np.nan, 1e-30])

    def pos_weight(self):
        return self.rng.choice([2.0, self.broadcast(np.float64), self.broadcast(np.float32)])

    def spoil(self, mistake):
        operands, more = self.operands, (self.shape[0] + 2, *self.shape[1:])
        if mistake in SHAPE_MISTAKES:
            name = "multi_class_labels" if mistake == "labels" else mistake
            operands[name] = np.ones(more, bool if name == "where" else np.float64)
        elif mistake == "rank":
            if len(self.shape) == 1 or 1 in self.shape:
                return
            operands["weights"] = np.ones(self.shape[0])
        elif mistake == "smoothing":
            self.smoothing = self.rng.choice([-0.1, 1.5, np.nan])
        elif mistake == "reduction":
            self.reduction = self.rng.choice(["weighted", "weighted mean", "sum_of_all"])
        elif mistake == "integers":
            operands["logits"] = np.ones(self.shape, np.int64)
        elif mistake == "text":
            operands["multi_class_labels"] = np.full(self.shape, "yes")
        else:
            operands["multi_class_labels"] = np.ones(self.shape, complex)
        self.mistake = mistake

    def call(self, function, operands, **options):
        return function(
            **operands, label_smoothing=self.smoothing, reduction=self.reduction, **options
        )


class NotThisDoorError(Exception):
    """What a door has no way to be told, or a library no dtype for."""


def converted(case, convert):
    """Return the operands as another library has them."""
    try:
        return {
            name: convert(operand, name) if isinstance(operand, np.ndarray) else operand
            for name, operand in case.operands.items()
        }
    except (TypeError, ValueError, NotImplementedError, OverflowError) as error:
        raise NotThisDoorError from error
    except Exception as error:  # polars and Arrow have errors of their own
        if type(error).__module__.partition(".")[0] in ("polars", "pyarrow"):
            raise NotThisDoorError from error
        raise


def of_library(convert):
    return lambda case: case.call(sce.sigmoid_cross_entropy, converted(case, convert))


# ---- The doors -------------------------------------------------------------------------------


def numpy(case):
    return case.call(sce.sigmoid_cross_entropy, case.operands)


def pandas(nullable):
    def convert(array, _name):
        import pandas as pd

        frame = pd.DataFrame(array) if array.ndim == 2 else pd.Series(array)
        if not nullable:
            return frame
        if array.dtype == np.float16 or array.dtype.kind not in "biuf" or np.isnan(array).any():
            raise TypeError("there is no such column, or NaN would be a missing value in it")
        dtype = array.dtype.name
        return frame.astype(
            "boolean"
            if dtype == "bool"
            else f"{dtype[:1].upper()}{dtype[1:]}".replace("Uint", "UInt")
        )

    return of_library(convert)


def polars(lists):
    def convert(array, _name):
        import polars as pl

        if array.ndim == 1:
            return pl.Series(array)
        return pl.Series(array) if lists else pl.DataFrame(array, orient="row")

    return of_library(convert)


def arrow(lists):
    def convert(array, _name):
        import pyarrow as pa

        if array.ndim == 1:
            return pa.array(array)
        if lists:
            return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
        return pa.table({str(at): pa.array(column) for at, column in enumerate(array.T)})

    return of_library(convert)


def xarray(kind):
    def of_case(case):
        import xarray as xr

        def convert(array, name):
            if case.mistake == "rank" and name == "weights":
                return array  # by its name the axis is known
            dims = ("row", "class")[-array.ndim :] if len(case.shape) == 2 else ("row",)
            length_one = [
                at
                for at, dim in enumerate(dims)
                if array.shape[at] == 1 != case.shape[("row", "class").index(dim)]
            ]
            dims = [dim for at, dim in enumerate(dims) if at not in length_one]
            variable = xr.Variable(dims, array.squeeze(tuple(length_one)))
            if case.rng.random() < 0.5:
                variable = variable.transpose(*dims[::-1])
            return variable if kind == "Variable" else xr.DataArray(variable)

        operands = converted(case, convert)
        result = case.call(sce.sigmoid_cross_entropy, operands)
        if not np.ndim(result):
            return result
        return result.transpose(*(("row", "class")[: len(case.shape)])).values

    return of_case


def dask(case):
    import dask.array as da

    def convert(array, _name):
        chunks = tuple(case.rng.randint(1, max(size, 1)) for size in array.shape)
        return da.from_array(array, chunks)

    result = case.call(sce.sigmoid_cross_entropy, converted(case, convert))
    return result.compute(scheduler="synchronous")


def dask_of_unknown_sizes(case):
    import dask.array as da

    size = case.rng.randint(1, max(case.shape[0], 1))

    def convert(array, _name):
        if array.ndim < len(case.shape) or array.shape[0] == 1 != case.shape[0]:
            return array
        lazy = da.from_array(array, (size, -1)[: array.ndim])
        keep = da.from_array(np.ones(len(array), bool), size)
        return lazy[keep]

    result = case.call(sce.sigmoid_cross_entropy, converted(case, convert))
    return result.compute(scheduler="synchronous")


def tensor(array, _name=None):
    import torch

    return torch.from_numpy(array)


def torch(case):
    from sce_numba.torch import sigmoid_cross_entropy

    if case.mistake == "rank" and case.shape[0] == case.shape[1]:
        raise NotThisDoorError  # weights of classes, which PyTorch takes
    return case.call(sigmoid_cross_entropy, converted(case, tensor)).numpy()


def jax(array, _name):
    import jax

    if array.dtype.itemsize > 4:
        raise TypeError(array.dtype)
    return jax.numpy.asarray(array)


def accumulator(in_parts):
    def of_case(case):
        operands = dict(case.operands)
        pos_weight, logits = operands.pop("pos_weight"), operands["logits"]
        if case.reduction == "none":
            raise NotThisDoorError
        whole = np.ndim(pos_weight) == len(case.shape) and len(pos_weight) > 1
        loss = sce.LossAccumulator(case.reduction, case.smoothing, pos_weight)
        operands["labels"] = operands.pop("multi_class_labels")
        if whole or case.mistake or not in_parts:
            loss.update(**operands)
            return loss.result(logits.dtype)
        cut = [0, case.rng.randint(0, len(logits)), len(logits)]
        for start, stop in pairwise(cut):
            rows = {
                name: operand[start:stop]
                if name in ("labels", "logits")
                or (np.ndim(operand) == len(case.shape) and len(operand) > 1)
                else operand
                for name, operand in operands.items()
            }
            loss.update(**rows)
        return loss.result(logits.dtype)

    return of_case


def save_npy(array, file):
    np.save(file.with_suffix(".npy"), array)
    return str(file.with_suffix(".npy"))


def save_parquet(array, file):
    import pyarrow as pa
    import pyarrow.parquet

    if len(array) == 1:
        return save_npy(array, file)  # one row for all, perhaps, which no table is for
    column = pa.array(array.ravel())
    if array.ndim == 2:
        column = pa.FixedSizeListArray.from_arrays(column, array.shape[1])
    pa.parquet.write_table(pa.table({"x": column}), file.with_suffix(".parquet"))
    return f"{file.with_suffix('.parquet')}:x"


def command_line(save):
    def of_case(case):
        operands = case.operands
        excludes, weighs = (operands[name] is not None for name in ("where", "pos_weight"))
        if excludes or weighs or case.mistake == "rank" or not case.shape[0]:
            # There [N] weights beside N rows leave no doubt, and of no rows nothing is looked at.
            raise NotThisDoorError
        try:
            files = {
                name: save(operand, case.folder / name)
                for name, operand in operands.items()
                if isinstance(operand, np.ndarray)
            }
        except Exception as error:  # of Arrow, as of float16 or complex
            raise NotThisDoorError from error
        words = ["evaluate", files["multi_class_labels"], files["logits"], "--json"]
        words += ["--weights", files.get("weights", str(operands["weights"]))]
        words += [f"--label-smoothing={case.smoothing}", "--reduction", case.reduction]
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            try:
                status = main(words)
            except SystemExit as end:
                status = end.code
        if status:
            raise ValueError(errors.getvalue())
        report = json.loads(printed.getvalue())
        if case.reduction == "none":
            return np.array([report["loss_min"], report["loss_max"]], float)
        return float(report["loss"])

    return of_case


def compiled(case):
    operands = case.operands
    labels, logits, weights = (operands[name] for name in NAMES[:3])
    function = COMPILED.get((logits.dtype, len(case.shape), np.ndim(weights), case.reduction))
    others = operands["where"] is not None or operands["pos_weight"] is not None
    # Types, unlike shapes and numbers, are refused when a function is compiled.
    if function is None or others or case.mistake in ("rank", "text", "complex"):
        raise NotThisDoorError
    loss = function(labels.astype(np.float64), logits, weights, float(case.smoothing))
    return logits.dtype.type(loss)  # Numba hands over Python's numbers


@njit
def mean_of_compiled(labels, logits, weight, smoothing):
    return sce.sigmoid_cross_entropy(
        labels, logits, weight, smoothing, reduction=sce.Reduction.MEAN
    )


@njit
def compiled_by_default(labels, logits, weight, smoothing):
    return sce.sigmoid_cross_entropy(labels, logits, weight, smoothing)


# Few, as each of them is compiled for a long time: by dtype, rank, that of the weights, reduction.
COMPILED = {(np.dtype(np.float32), 2, 0, sce.Reduction.MEAN): mean_of_compiled}
if CASES > 1000:
    COMPILED[np.dtype(np.float64), 2, 0, sce.Reduction.SUM_BY_NONZERO_WEIGHTS] = compiled_by_default

DOORS = {
    "pandas": pandas(nullable=False),
    "pandas, nullable": pandas(nullable=True),
    "polars": polars(lists=False),
    "polars, lists": polars(lists=True),
    "Arrow": arrow(lists=False),
    "Arrow, lists": arrow(lists=True),
    "DataArray": xarray("DataArray"),
    "Variable": xarray("Variable"),
    "Dask": dask,
    "Dask, unknown sizes": dask_of_unknown_sizes,
    "tensors of PyTorch": of_library(tensor),
    "PyTorch": torch,
    "JAX": of_library(jax),
    "accumulator": accumulator(in_parts=False),
    "accumulator, parts": accumulator(in_parts=True),
    "command line, npy": command_line(save_npy),
    "command line, Parquet": command_line(save_parquet),
    "compiled": compiled,
}
LIBRARIES = {
    "pandas": "pandas",
    "polars": "polars",
    "Arrow": "pyarrow",
    "DataArray": "xarray",
    "Variable": "xarray",
    "Dask": "dask",
    "tensors of PyTorch": "torch",
    "PyTorch": "torch",
    "JAX": "jax",
    "command line, Parquet": "pyarrow",
}
AVAILABLE = {
    name: door
    for name, door in DOORS.items()
    if importlib.util.find_spec(
        LIBRARIES.get(name) or LIBRARIES.get(name.partition(",")[0]) or "numpy"
    )
}


# ---- What comes of it ------------------------------------------------------------------------


def outcome(door, case):
    """Return the loss, or the error that refuses the case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a sum that a half can't hold
        try:
            return door(case)
        except (ValueError, TypeError) as error:
            return error


def disagreement(name, found, expected, dtype):
    """Return what is wrong with an outcome, or None."""
    if isinstance(expected, Exception) or isinstance(found, Exception):
        if not (isinstance(expected, Exception) and isinstance(found, Exception)):
            return f"{found!r} instead of {expected!r}"
        if name != "command line" and not any(word in str(found) for word in ARGUMENTS):
            return f"no argument is named: {found!r}"
        return None
    if name == "command line" and np.ndim(expected):
        expected = [np.min(expected), np.max(expected)] if np.size(expected) else [np.nan] * 2
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return f"the shape {found.shape} instead of {expected.shape}"
    if name != "command line" and found.dtype != dtype:
        return f"{found.dtype} instead of {dtype}"
    with np.errstate(all="ignore"):
        found, expected = found.astype(dtype), expected.astype(dtype)
        away = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        apart = (found != expected) & ~(np.isnan(found) & np.isnan(expected))
        far = apart & ~(away <= ulp(expected, dtype))
    return f"{found[far]} instead of {expected[far]}" if far.any() else None


def test_every_door_gives_one_answer_or_refuses(tmp_path):
    wrong, seen, refused = [], collections.Counter(), 0
    for seed in range(SEED, SEED + CASES):
        first = Case(seed)
        expected = outcome(numpy, first)
        refused += isinstance(expected, Exception)
        if isinstance(expected, Exception):
            assert first.mistake is not None, (first, expected)
        for name, door in AVAILABLE.items():
            case = Case(seed)  # no door can change what the next one gets
            case.folder = tmp_path / f"{seed} {name}".replace(",", "")
            case.folder.mkdir()
            try:
                found = outcome(door, case)
            except NotThisDoorError:
                continue
            seen[name] += 1
            said = disagreement(
                name.partition(",")[0], found, expected, case.operands["logits"].dtype
            )
            if said:
                wrong.append(f"{name}: {said}; {case}")
    print(f"\n{CASES} cases from {SEED} on, {refused} refused; through each door: {dict(seen)}")
    assert not wrong, f"{len(wrong)} disagreements:\n" + "\n".join(wrong[:40])
    assert set(seen) == set(AVAILABLE), "some door has seen no case"
    assert refused
