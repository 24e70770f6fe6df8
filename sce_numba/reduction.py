"""``Reduction``: what becomes of the weighted element losses."""

from __future__ import annotations

from enum import Enum

from .kernels import divisor
from .messages import shown


class Reduction(str, Enum):
    """How the weighted losses ``w * loss`` of all elements become one value.

    The members are TensorFlow's string constants: each equals its string, and the string is
    accepted wherever a member is.  Where a denominator is exactly 0, the result is 0.

    Attributes
    ----------
    NONE
        No reduction: ``w * loss``, in the shape of the logits.
    SUM
        ``sum(w * loss)``.
    MEAN
        ``sum(w * loss) / sum(w)``, with ``w`` broadcast to the logits.
    SUM_OVER_BATCH_SIZE
        ``sum(w * loss) / number of elements``.
    SUM_BY_NONZERO_WEIGHTS
        ``sum(w * loss) / number of elements whose weight is not 0``; the default.
    SUM_OVER_NONZERO_WEIGHTS
        Another name of ``SUM_BY_NONZERO_WEIGHTS``.

    Examples
    --------
    >>> import sce_numba as sce
    >>> sce.Reduction.MEAN == "weighted_mean"
    True
    """

    NONE = "none"
    SUM = "weighted_sum"
    MEAN = "weighted_mean"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"

    __str__ = str.__str__

    @classmethod
    def all(cls) -> tuple[Reduction, ...]:
        """Return every constant in TensorFlow's order, the alias included.

        Returns
        -------
        tuple of Reduction
            Six names for five distinct values.

        Examples
        --------
        >>> import sce_numba as sce
        >>> len(sce.Reduction.all()), len(set(sce.Reduction.all()))
        (6, 5)
        """
        return (
            cls.NONE,
            cls.SUM,
            cls.MEAN,
            cls.SUM_OVER_BATCH_SIZE,
            cls.SUM_OVER_NONZERO_WEIGHTS,
            cls.SUM_BY_NONZERO_WEIGHTS,
        )

    @classmethod
    def validate(cls, key: object) -> None:
        """Raise ``ValueError`` unless ``key`` is one of the constants.

        Parameters
        ----------
        key : object
            A member, or the string of one; case matters.

        Raises
        ------
        ValueError
            If it is anything else.

        Examples
        --------
        >>> import sce_numba as sce
        >>> sce.Reduction.validate("mean")
        Traceback (most recent call last):
        ...
        ValueError: Invalid Reduction Key 'mean'. Key should be one of 'none', 'weighted_sum', ...
        """
        if not isinstance(key, str) or str.__str__(key) not in _VALUES:
            allowed = ", ".join(repr(value) for value in _VALUES)
            meant = named("none" if key is None else key)
            # With weights, the two are different numbers.
            pytorch = f", or {cls.SUM_OVER_BATCH_SIZE.value!r}, as in PyTorch"
            raise ValueError(
                f"Invalid Reduction Key {shown(key)}. Key should be one of {allowed}."
                + (f" Did you mean {meant.value!r}{pytorch * (key == 'mean')}?" if meant else "")
            )


def named(text: object) -> Reduction | None:
    """Return the constant that a text stands for: its name or its string, in any case.

    The command line takes these.  To the functions only the string is valid, as to TensorFlow's.
    """
    if not isinstance(text, str):
        return None
    name = str.__str__(text).lower().removeprefix("reduction.").removeprefix("weighted_")
    return Reduction.__members__.get(name.upper())


_VALUES = {str(member.value): member for member in Reduction}

# What the kernels divide by, for every reduction but NONE.
CODES: dict[str, int] = {
    Reduction.SUM: divisor.SUM,
    Reduction.MEAN: divisor.MEAN,
    Reduction.SUM_OVER_BATCH_SIZE: divisor.SUM_OVER_BATCH_SIZE,
    Reduction.SUM_BY_NONZERO_WEIGHTS: divisor.SUM_BY_NONZERO_WEIGHTS,
}
