"""`Features`: the columns of a table as numbers, by what was learnt from the table.

    age      income   city             age    income   income is missing   city
    31       2400     "Ulm"    ──▶     -0.4    0.1            0              5        a known category: from 2 on, in their order
    58       –        –                 1.7    0.0            1              0        a gap
    44       9100     "Oz"              0.6    2.3            0              1        a category that was never seen

Numbers get mean 0 and variance 1 (before gaps are filled), by exact sums; categories get whole numbers. A record of `Number` and
`Category`, in which a layer holds it, and so a checkpoint too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

import numpy as np

from dagtrain.arguments import is_number, whole
from dagtrain.data.exact import joined, mean_and_variance
from dagtrain.data.nests import check_names, is_parts
from dagtrain.data.table_parts import Seen, as_category, as_numbers, columns_of, factorized, over_partitions, seen
from dagtrain.data.tables import is_table
from dagtrain.errors import ArgumentError, DataError, ShapeError, UnknownNameError
from dagtrain.graph import Array

__all__ = ["GAP", "UNSEEN", "Category", "Features", "Number"]

GAP, UNSEEN = 0, 1
"""The codes of a gap, and of a category that was not seen in learning; the known ones follow."""
LEARNT = "the features were learnt from"


@dataclass(frozen=True)
class Number:
    """A column of numbers.

    Attributes
    ----------
    name
        Of the column.
    mean, variance
        Of the numbers that it has.
    fill
        What a gap counts as.
    gaps
        Whether there were gaps in learning; then a second column says where they are.
    log
        Whether ``log(1 + x)`` is taken of the numbers first. Mean and variance are of these.
    """

    name: str
    mean: float
    variance: float
    fill: float
    gaps: bool
    log: bool = False

    def __post_init__(self) -> None:
        valid = all(is_number(value) and math.isfinite(value) for value in (self.mean, self.variance, self.fill))
        flags = isinstance(self.gaps, bool) and isinstance(self.log, bool)
        if not (isinstance(self.name, str) and valid and self.variance >= 0 and flags):
            raise ArgumentError(f"Number: a column has a name, a finite mean, variance and fill, and gaps or none, got {self!r}.")

    def encode(self, column: Any) -> tuple[Array, Array]:
        """The scaled numbers, and where gaps are."""
        numbers = as_numbers(self.name, column)
        is_gap = np.isnan(numbers)
        numbers = np.where(is_gap, self.fill, numbers)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):  # numbers from -1 down are errors of the trainer, which name the row
                numbers = np.log1p(numbers)
        return (numbers - self.mean) / math.sqrt(self.variance or 1.0), is_gap


@dataclass(frozen=True)
class Category:
    """A column of categories.

    Attributes
    ----------
    name
        Of the column.
    values
        The known categories, text or whole numbers, in the order of their codes, which begin at 2.
    gaps
        Whether there were gaps in learning.
    """

    name: str
    values: tuple[str | int, ...]
    gaps: bool

    def __post_init__(self) -> None:
        valid = isinstance(self.values, tuple) and self.values and all(type(value) in (str, int) for value in self.values)
        if not (isinstance(self.name, str) and valid and len(set(self.values)) == len(self.values) and isinstance(self.gaps, bool)):
            raise ArgumentError(
                f"Category: a column has a name, different values that are text or whole numbers, and gaps or none: {self!r}."
            )

    @cached_property
    def codes(self) -> dict[str | int, int]:
        """The code of each known category."""
        return {value: code for code, value in enumerate(self.values, UNSEEN + 1)}

    def encode(self, column: Any) -> Array:
        """The code of each row."""
        numbers, values = factorized(self.name, column)
        categories, kinds = [as_category(self.name, value) for value in values], set(map(type, self.values))
        for value in categories:
            if type(value) not in kinds:
                raise DataError(
                    f"column {self.name!r} of the table holds {value!r}, and held {'numbers' if kinds == {int} else 'text'} in learning."
                )
        return np.array([*(self.codes.get(value, UNSEEN) for value in categories), GAP])[numbers]  # -1 is a gap


@dataclass(frozen=True)
class Features:
    """What was learnt from a table: how its columns become numbers.

    A model that begins with `dagtrain.nn.FeatureEmbedding` holds them: a trainer of it takes tables as they are, wherever they lie, and a
    checkpoint needs nothing else.

    Attributes
    ----------
    columns
        A `Number` or a `Category` for each column of the table.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"age": [31, 58, 44], "city": ["Ulm", None, "Bonn"]})
    >>> features = Features.learn(table)
    >>> features.columns[1]
    Category(name='city', values=('Bonn', 'Ulm'), gaps=True)
    >>> features.encode(pd.DataFrame({"city": ["Ulm", "Oz", None], "age": [44, None, 31]})).round(2)
        age  city
    0 -0.03   3.0
    1  0.00   1.0
    2 -1.21   0.0
    """

    columns: tuple[Number | Category, ...]

    def __post_init__(self) -> None:
        valid = isinstance(self.columns, tuple) and self.columns and all(isinstance(each, Number | Category) for each in self.columns)
        if not valid:
            raise ArgumentError(f"Features: columns are Numbers and Categories, which Features.learn(table) makes, got {self.columns!r}.")
        if len(set(self.encoded_names)) < len(self.encoded_names) or len(set(self.names)) < len(self.names):
            raise ArgumentError(f"Features: two columns have one name: {', '.join(self.encoded_names)}.")

    def __repr__(self) -> str:
        return f"<Features of {len(self.columns)} columns>"

    @classmethod
    def learn(
        cls,
        table: Any,
        *,
        categories: Sequence[str] = (),
        log: Sequence[str] = (),
        least: int = 1,
        fill: Mapping[str, float] | None = None,
    ) -> Features:
        """Learn from a table where it lies, in one pass over its partitions: the same to the last bit however it is cut.

        Parameters
        ----------
        table
            A DataFrame of pandas or dask, an array or dask array of columns (which are called "0", "1", …), or a list of delayed values or
            futures of such tables, also in pairs ``(table, y)``. Columns of text or of pandas' categories are categories, all others
            numbers.
        categories
            Columns of whole numbers that are categories too, by name.
        log
            Columns of numbers above -1 of which ``log(1 + x)`` is taken, as of incomes, whose largest are far from the others.
        least
            How often a category must be there; a rarer one counts as never seen.
        fill
            By column, what a gap in its numbers counts as; by default their mean.

        Raises
        ------
        DataError
            If the table has columns that are neither; if a column has nothing but gaps, or infinite numbers: names the row.
        UnknownNameError, ArgumentError
            If `categories`, `log` or `fill` is not for columns of the table.
        """
        least, fill = whole("Features.learn: least", least), {} if fill is None else fill
        if not isinstance(fill, Mapping):
            raise ArgumentError(f'Features.learn: fill is a dict of numbers by column, as in fill={{"income": 0.0}}, got {fill!r}.')
        for name, value in fill.items():
            if not (is_number(value) and math.isfinite(value)):
                raise ArgumentError(f"Features.learn: fill of {name!r} is a finite number, got {value!r}.")
            if name in log and value <= -1:
                raise ArgumentError(f"Features.learn: fill of {name!r} has no log(1 + x): give a number above -1, got {value!r}.")
        for title, columns in (("categories", categories), ("log", log)):
            if isinstance(columns, str):
                raise ArgumentError(f"Features.learn: {title} is a list of names of columns, as in {title}=[{columns!r}].")
        parts = over_partitions(table, partial(seen, tuple(categories), tuple(log)))
        names = list(parts[0])
        for i, part in enumerate(parts):
            check_names(f"partition {i} of the table", part, names, "partition 0 has")
        for title, columns in (("categories", categories), ("log", log)):
            for name in columns:
                if name not in names:
                    raise UnknownNameError.of(f"column in {title}", name, names)
        features = cls(tuple(_learnt(name, [part[name] for part in parts], least, fill.get(name), name in log) for name in names))
        for name in {*fill, *log} - {column.name for column in features.numbers}:
            raise ArgumentError(f"Features.learn: log and fill are for columns of numbers, and {name!r} is none of them.")
        return features

    # ---- what they are

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the table's columns."""
        return tuple(column.name for column in self.columns)

    @property
    def numbers(self) -> tuple[Number, ...]:
        """The columns of numbers."""
        return tuple(column for column in self.columns if isinstance(column, Number))

    @property
    def categories(self) -> tuple[Category, ...]:
        """The columns of categories."""
        return tuple(column for column in self.columns if isinstance(column, Category))

    @property
    def encoded_names(self) -> tuple[str, ...]:
        """The names of the encoded columns."""
        numbers = [name for column in self.numbers for name in (column.name, f"{column.name} is missing")[: 1 + column.gaps]]
        return (*numbers, *(column.name for column in self.categories))

    # ---- encoding and back

    def encode(self, table: Any) -> Any:
        """The table as numbers: a table of the same kind, lazily for dask data; what a model with these features sees.

        Gaps in a column that had none in learning are filled without a column that says so; those of categories count as never seen.

        Raises
        ------
        DataError
            For columns of other names. In any order they are put in that of these features.
        """
        if is_parts(table):
            import dask

            parts = table if isinstance(table, list) else [table]
            return [dask.delayed(self.encode_part)(part) for part in parts]
        if is_table(table) and hasattr(table, "map_partitions"):
            import pandas as pd

            check_names("the table", map(str, table.columns), self.names, LEARNT)
            return table.map_partitions(self.encode_part, meta=pd.DataFrame(dict.fromkeys(self.encoded_names, pd.Series(dtype="f8"))))
        if hasattr(table, "map_blocks"):
            whole_rows = table.rechunk({1: -1})
            chunks = (whole_rows.chunks[0], (len(self.encoded_names),))
            return whole_rows.map_blocks(self.encode_part, dtype=np.float64, chunks=chunks, meta=np.empty((0, 0)))
        return self.encode_part(table)

    def encode_part(self, table: Any) -> Any:
        """The numbers of a table in this process, or of the first one in a pair ``(table, y)``."""
        if isinstance(table, tuple):
            return (self.encode_part(table[0]), *table[1:])
        here = columns_of(table)
        check_names("the table", here, self.names, LEARNT)
        encoded = dict(zip(self.encoded_names, self._encoded(here), strict=True))
        if not is_table(table):
            return np.stack(list(encoded.values()), axis=1)
        import pandas as pd

        return pd.DataFrame(encoded, index=table.index)

    def by_column(self, values: Any) -> Array:
        """Numbers for the encoded columns, (rows, encoded columns), as sums for the columns of the table, (rows, columns).

        So the shares by `dagtrain.explain.integrated_gradients` become those of the table's columns.
        """
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] != len(self.encoded_names):
            form = f"(rows, {len(self.encoded_names)}), a number for each of {', '.join(self.encoded_names)}"
            raise ShapeError(f"Features.by_column takes an array of shape {form}, got {values.shape}.")
        numbers = [number.name for number in self.numbers for _ in range(1 + number.gaps)]
        sources = np.array([self.names.index(name) for name in (*numbers, *(category.name for category in self.categories))])
        return np.stack([values[:, sources == i].sum(axis=1) for i in range(len(self.columns))], axis=1)

    def _encoded(self, table: Mapping[str, Any]) -> Iterator[Array]:
        for number in self.numbers:
            scaled, is_gap = number.encode(table[number.name])
            yield from (scaled, is_gap.astype(np.float64)) if number.gaps else (scaled,)
        for category in self.categories:
            yield category.encode(table[category.name]).astype(np.float64)


def _learnt(name: str, parts: Sequence[Seen], least: int, fill: float | None, log: bool) -> Number | Category:
    """What all partitions together say of a column."""
    gaps = any(part.gaps for part in parts)
    for start, part in zip(accumulate((part.rows for part in parts), initial=0), parts, strict=False):
        if part.unfit is not None:
            what = "a number that is infinite" + " or has no log(1 + x)" * log
            raise DataError(f"column {name!r} of the table holds {what}: row {start + part.unfit}, counted from 0.")
    numbers, counts = ([each for part in parts if (each := getattr(part, kind)) is not None] for kind in ("sums", "counts"))
    if counts and any(each.rows for each in numbers):  # else what looks like numbers are gaps alone
        raise DataError(
            f"column {name!r} holds numbers in some partitions and categories in others: give it one dtype, as .astype(str) does, or name "
            "it in categories=[...]."
        )
    total: dict[str | int, int] = {}
    for value, count in (item for part in counts for item in part.items()):
        total[value] = total.get(value, 0) + count
    known = sorted((value for value, count in total.items() if count >= least), key=lambda value: (isinstance(value, str), value))
    sums = joined(numbers) if numbers else None
    if known:
        return Category(name, tuple(known), gaps)
    if sums is None or not sums.rows:
        rare = f" that are there {least} times" if total else ""
        raise DataError(f"column {name!r} of the table holds no values{rare}, so nothing can be learnt of it: leave it out.")
    (mean,), (variance,) = mean_and_variance(f"column {name!r} of the table", sums)
    middle = math.expm1(mean) if log else mean
    return Number(name, float(mean), float(variance), float(middle if fill is None else fill), gaps, log)
