"""Ways in which data go wrong, each with what an estimator owes its user in answer.

`refuse`: it must raise a clear error. `same`: the data are sound, only packed in another way, and
the answer must be that of the plain arrays. `cope`: a clear error or a finite answer.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from fuzz_problems import FEATURES, OTHER_FEATURES
from scipy import sparse

FEATURE_FAULTS, VECTOR_FAULTS, OUTCOME_FAULTS, LABEL_FAULTS = {}, {}, {}, {}
WEIGHT_FAULTS, TARGET_FAULTS, ROW_FAULTS = {}, {}, {}


@dataclass(frozen=True)
class Fault:
    """One way to spoil one argument.

    `spoil` takes the argument and a random generator. `rtol` is how close the answer of "same"
    must be.
    """

    name: str
    spoil: Callable[[Any, np.random.Generator], Any]
    owed: str
    rtol: float = 1e-6
    needs_2d: bool = False


def fault(*tables, owed, rtol=1e-6, needs_2d=False):
    def register(spoil):
        name = spoil.__name__.strip("_")
        for table in tables:
            table[name] = Fault(name, spoil, owed, rtol, needs_2d)
        return spoil

    return register


refused = functools.partial(fault, owed="refuse")
alike = functools.partial(fault, owed="same")
coped_with = functools.partial(fault, owed="cope")

ROWS = (FEATURE_FAULTS, TARGET_FAULTS)
VECTORS = (OUTCOME_FAULTS, LABEL_FAULTS, WEIGHT_FAULTS)


def with_entry(array, value, rng):
    array = np.array(array, dtype=np.result_type(np.asarray(array).dtype, type(value)))
    array[tuple(rng.integers(size) for size in array.shape)] = value
    return array


@refused(*ROWS, OUTCOME_FAULTS, LABEL_FAULTS, WEIGHT_FAULTS)
def nan(array, rng):
    return with_entry(array, np.nan, rng)


@refused(*ROWS, OUTCOME_FAULTS, LABEL_FAULTS, WEIGHT_FAULTS)
def inf(array, rng):
    return with_entry(array, np.inf, rng)


@refused(*ROWS, OUTCOME_FAULTS)
def minus_inf(array, rng):
    return with_entry(array, -np.inf, rng)


@refused(*ROWS, OUTCOME_FAULTS, WEIGHT_FAULTS)
def text_in_an_object_array(array, rng):
    array = np.array(array, dtype=object)
    array[tuple(rng.integers(size) for size in array.shape)] = "seven"
    return array


@refused(*ROWS, OUTCOME_FAULTS, LABEL_FAULTS, WEIGHT_FAULTS)
def none_in_an_object_array(array, rng):
    array = np.array(array, dtype=object)
    array[tuple(rng.integers(size) for size in array.shape)] = None
    return array


@refused(*ROWS, OUTCOME_FAULTS, WEIGHT_FAULTS)
def words(array, rng):
    return np.full(np.shape(array), "word")


@refused(*ROWS, needs_2d=True)
def text_column(array, rng):
    import pandas as pd

    return pd.DataFrame(
        {"a": array[:, 0], "b": ["x"] * len(array)}
        | {f"c{j}": array[:, j] for j in range(2, array.shape[1])}
    )


@refused(*ROWS, needs_2d=True)
def text_column_in_polars(array, rng):
    import polars as pl

    return pl.DataFrame(
        {"a": array[:, 0], "b": ["x"] * len(array)}
        | {f"c{j}": array[:, j] for j in range(2, array.shape[1])}
    )


@refused(*ROWS, needs_2d=True)
def dates(array, rng):
    import pandas as pd

    return pd.DataFrame(
        {j: array[:, j] for j in range(array.shape[1])}
        | {0: [datetime(2024, 1, 1 + i % 28) for i in range(len(array))]}
    )


@refused(*ROWS, needs_2d=True)
def lazy_frame(array, rng):
    import polars as pl

    return pl.DataFrame(array).lazy()


@refused(*ROWS, needs_2d=True)
def one_dimension(array, rng):
    return array[:, 0]


@refused(*ROWS, needs_2d=True)
def four_dimensions(array, rng):
    return np.stack([np.stack([array, array], axis=-1)] * 2, axis=-1)


@refused(*ROWS)
def no_rows(array, rng):
    return array[:0]


@refused(*ROWS, needs_2d=True)
def no_columns(array, rng):
    return array[:, :0]


@refused(*ROWS, needs_2d=True)
def ragged(array, rng):
    rows = array.tolist()
    rows[1] = rows[1][:-1]
    return rows


@refused(*ROWS, OUTCOME_FAULTS, WEIGHT_FAULTS)
def complex_numbers(array, rng):
    return np.asarray(array) + 1j


@refused(*ROWS, OUTCOME_FAULTS, LABEL_FAULTS, WEIGHT_FAULTS)
def a_dictionary(array, rng):
    return {"rows": 3}


@refused(*ROWS, OUTCOME_FAULTS, LABEL_FAULTS, WEIGHT_FAULTS)
def a_word(array, rng):
    return "a word"


@refused(*ROWS, OUTCOME_FAULTS, LABEL_FAULTS)
def a_number(array, rng):
    return 3.0


@refused(*ROWS, OUTCOME_FAULTS, LABEL_FAULTS, WEIGHT_FAULTS)
def an_object(array, rng):
    return object()


@refused(FEATURE_FAULTS)
def none(array, rng):
    return None


@coped_with(*ROWS, needs_2d=True)
def sparse_rows(array, rng):
    return sparse.csr_array(array)


@coped_with(*ROWS, needs_2d=True)
def sparse_coordinates(array, rng):
    return sparse.coo_matrix(array)


@coped_with(*ROWS, needs_2d=True)
def masked_array(array, rng):
    return np.ma.masked_array(array, mask=np.zeros(array.shape, bool))


@coped_with(*ROWS, needs_2d=True)
def three_dimensions(array, rng):
    return array[:, :, None]


@alike(*ROWS, *VECTORS)
def read_only(array, rng):
    array = np.array(array)
    array.setflags(write=False)
    return array


@alike(*ROWS, *VECTORS)
def strided(array, rng):
    array = np.asarray(array)
    wide = np.zeros(tuple(2 * size for size in array.shape), array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


@alike(*ROWS, *VECTORS)
def backwards(array, rng):
    array = np.asarray(array)
    back = tuple(slice(None, None, -1) for _ in array.shape)
    return np.ascontiguousarray(array[back])[back]


@alike(*ROWS, needs_2d=True)
def column_major(array, rng):
    return np.asfortranarray(array)


@alike(*ROWS, *VECTORS)
def big_endian(array, rng):
    array = np.asarray(array)
    return array.astype(array.dtype.newbyteorder(">"))


@alike(*ROWS, OUTCOME_FAULTS, WEIGHT_FAULTS)
def numbers_as_objects(array, rng):
    return np.asarray(array).astype(object)


@alike(*ROWS, *VECTORS)
def nested_lists(array, rng):
    return np.asarray(array).tolist()


@coped_with(*ROWS, OUTCOME_FAULTS, WEIGHT_FAULTS)
def half_precision(array, rng):
    return np.asarray(array).astype(np.float16)


@coped_with(*ROWS, OUTCOME_FAULTS, WEIGHT_FAULTS)
def extended_precision(array, rng):
    return np.asarray(array).astype(np.longdouble)


def odd_index(kind, n, rng):
    import pandas as pd

    if kind == "duplicates":
        return pd.Index(rng.integers(3, size=n))
    if kind == "shuffled":
        return pd.Index(rng.permutation(n))
    if kind == "multi":
        return pd.MultiIndex.from_arrays([np.arange(n) % 4, rng.permutation(n)])
    return pd.Index([f"row {i}" for i in range(n)][::-1])


def in_pandas(kind):
    def spoil(array, rng):
        import pandas as pd

        array = np.asarray(array)
        index = odd_index(kind, len(array), rng)
        if array.ndim == 1:
            return pd.Series(array, index=index, name="values")
        columns = [f"column {j}" for j in range(array.shape[1])]
        return pd.DataFrame(array, index=index, columns=columns)

    spoil.__name__ = f"pandas_with_{kind}_index"
    return spoil


for kind in ("duplicates", "shuffled", "multi", "text"):
    alike(*ROWS, *VECTORS)(in_pandas(kind))


@alike(*ROWS, *VECTORS)
def polars(array, rng):
    import polars as pl

    array = np.array(array)
    if array.ndim == 1:
        return pl.Series("values", array)
    return pl.DataFrame({f"column {j}": array[:, j] for j in range(array.shape[1])})


@alike(*ROWS, OUTCOME_FAULTS, WEIGHT_FAULTS)
def nullable_pandas(array, rng):
    import pandas as pd

    array = np.asarray(array)
    if array.ndim == 1:
        return pd.Series(array, dtype="Float64")
    return pd.DataFrame(array, columns=[f"column {j}" for j in range(array.shape[1])]).astype(
        "Float64"
    )


@coped_with(*ROWS, needs_2d=True)
def frame_with_numbers_as_names(array, rng):
    import pandas as pd

    return pd.DataFrame(array)


@coped_with(*ROWS, needs_2d=True)
def frame_with_equal_names(array, rng):
    import pandas as pd

    return pd.DataFrame(array, columns=["same"] * array.shape[1])


def single_precision(array, rng):
    return np.asarray(array).astype(np.float32)


@coped_with(*ROWS, needs_2d=True)
def constant_column(array, rng):
    array = np.array(array)
    array[:, rng.integers(array.shape[1])] = 0.3
    return array


@coped_with(*ROWS, OUTCOME_FAULTS)
def all_constant(array, rng):
    return np.full(np.shape(array), 0.25)


@coped_with(*ROWS, OUTCOME_FAULTS)
def all_zero(array, rng):
    return np.zeros(np.shape(array))


@coped_with(*ROWS, needs_2d=True)
def all_rows_equal(array, rng):
    return np.repeat(array[:1], len(array), axis=0)


@coped_with(*ROWS, needs_2d=True)
def duplicate_columns(array, rng):
    array = np.array(array)
    array[:, -1] = array[:, 0]
    return array


@coped_with(*ROWS, needs_2d=True)
def nearly_duplicate_columns(array, rng):
    array = np.array(array)
    array[:, -1] = array[:, 0] * (1 + 1e-15 * rng.normal(size=len(array)))
    return array


@coped_with(*ROWS, needs_2d=True)
def scales_far_apart(array, rng):
    return array * np.resize([1e12, 1.0, 1e-12], array.shape[1])


def scaled(factor):
    def spoil(array, rng):
        return np.asarray(array) * factor

    spoil.__name__ = f"times_{factor:g}"
    return spoil


for factor in (1e300, 1e200, 1e120, 1e30, 1e-30, 1e-120, 1e-200, 1e-310):
    coped_with(*ROWS, OUTCOME_FAULTS, WEIGHT_FAULTS)(scaled(factor))


@coped_with(*ROWS, OUTCOME_FAULTS)
def far_from_zero(array, rng):
    return np.asarray(array) + 1e12


@coped_with(*ROWS, OUTCOME_FAULTS, WEIGHT_FAULTS)
def one_outlier(array, rng):
    return with_entry(np.asarray(array, dtype=float), 1e15, rng)


@coped_with(*ROWS)
def whole_numbers(array, rng):
    return np.round(array).astype(np.int64)


@coped_with(*ROWS, OUTCOME_FAULTS)
def booleans(array, rng):
    return np.asarray(array) > 0


@refused(*VECTORS)
def too_short(array, rng):
    return np.asarray(array)[:-3]


@refused(*VECTORS)
def too_long(array, rng):
    return np.concatenate([array, array])


@refused(*VECTORS)
def empty(array, rng):
    return np.asarray(array)[:0]


@coped_with(OUTCOME_FAULTS, LABEL_FAULTS, WEIGHT_FAULTS)
def one_column(array, rng):
    return np.asarray(array)[:, None]


@refused(OUTCOME_FAULTS, LABEL_FAULTS, WEIGHT_FAULTS)
def three_columns(array, rng):
    return np.stack([array] * 3, axis=1)


@coped_with(LABEL_FAULTS)
def one_class(array, rng):
    return np.zeros(len(array), int)


@coped_with(LABEL_FAULTS)
def one_row_of_a_class(array, rng):
    labels = np.zeros(len(array), int)
    labels[rng.integers(len(labels))] = 1
    return labels


@coped_with(LABEL_FAULTS)
def five_classes(array, rng):
    return np.arange(len(array)) % 5


@coped_with(LABEL_FAULTS)
def every_row_a_class(array, rng):
    return np.arange(len(array))


@coped_with(LABEL_FAULTS)
def negative_labels(array, rng):
    return -np.asarray(array) - 1


@coped_with(LABEL_FAULTS)
def text_labels(array, rng):
    return np.array(["drug", "control", "third"])[np.asarray(array)]


@coped_with(LABEL_FAULTS)
def boolean_labels(array, rng):
    return np.asarray(array) > 0


@coped_with(LABEL_FAULTS)
def labels_of_two_types(array, rng):
    labels = np.asarray(array).astype(object)
    labels[::2] = "zero"
    return labels


@coped_with(LABEL_FAULTS)
def fractions(array, rng):
    return np.asarray(array) + 0.3 * rng.normal(size=len(array))


@coped_with(LABEL_FAULTS)
def categories(array, rng):
    import pandas as pd

    return pd.Series(pd.Categorical(np.array(["b", "a", "c"])[np.asarray(array)]))


@refused(WEIGHT_FAULTS)
def negative(array, rng):
    return with_entry(np.asarray(array, dtype=float), -0.5, rng)


@refused(WEIGHT_FAULTS)
def zero_everywhere(array, rng):
    return np.zeros(len(array))


@coped_with(WEIGHT_FAULTS)
def zero_for_half(array, rng):
    return np.where(rng.permutation(len(array)) % 2, array, 0.0)


@coped_with(WEIGHT_FAULTS)
def one_positive(array, rng):
    weights = np.zeros(len(array))
    weights[rng.integers(len(weights))] = 1.0
    return weights


@coped_with(WEIGHT_FAULTS)
def smallest_number(array, rng):
    return np.full(len(array), 5e-324)


@coped_with(WEIGHT_FAULTS)
def largest_number(array, rng):
    return np.full(len(array), np.finfo(float).max)


@coped_with(WEIGHT_FAULTS)
def scalar(array, rng):
    return 2.0


@refused(TARGET_FAULTS, needs_2d=True)
def a_column_more(array, rng):
    return np.column_stack([array, array[:, 0]])


@refused(TARGET_FAULTS, needs_2d=True)
def a_column_less(array, rng):
    return array[:, :-1]


@refused(TARGET_FAULTS)
def two_members(array, rng):
    return (array, array)


@coped_with(TARGET_FAULTS)
def single_row(array, rng):
    return array[:1]


@coped_with(TARGET_FAULTS)
def far_away(array, rng):
    return np.asarray(array) + 1e6


# Numbers of rows that all row-aligned arguments are cut to.
FEW_ROWS = (1, 2, 3, 5)


def faults_of(argument, values):
    """The table of an argument, by its name and by what it holds when it is sound."""
    if argument in FEATURES or argument.startswith("edge_index"):
        return FEATURE_FAULTS
    if argument in OTHER_FEATURES and np.ndim(values) == 2:
        return TARGET_FAULTS
    if "weight" in argument:
        return WEIGHT_FAULTS
    if np.asarray(values).dtype.kind in "iub":
        return LABEL_FAULTS
    return OUTCOME_FAULTS
