"""Applicants for a credit, and whether they default: a process with interactions, gaps and categories whose every effect is known."""

from __future__ import annotations

import numpy as np

from dagtrain.data.generated.cases import Column, Process, Term, by_value, choose, with_gaps
from dagtrain.graph import Array

__all__ = ["CREDIT"]

PURPOSES = {"car": 25, "furniture": 20, "education": 12, "renovation": 18, "business": 10, "travel": 15}
HOUSING = {"owner": 40, "tenant": 48, "with parents": 12}
EMPLOYMENT = {"permanent": 62, "temporary": 18, "self-employed": 13, "none": 7}
REGIONS = {f"region {i:02}": 4 + i % 7 for i in range(16)}
_LOG_INCOMES = {"permanent": 7.75, "temporary": 7.4, "self-employed": 7.55, "none": 6.85}


def _columns(draw: np.random.Generator, numbers: Array) -> dict[str, Column]:
    count = len(numbers)
    age = np.clip(draw.gamma(9.0, 4.6, count), 18, 85).round()
    employment = choose(draw, EMPLOYMENT, count)
    income = np.exp(by_value(_LOG_INCOMES)(employment) + 0.45 * draw.normal(size=count))
    years = np.where(employment == "none", np.nan, np.minimum(draw.exponential(7.0, count), age - 17)).round(1)
    amount = np.exp(8.6 + 0.8 * draw.normal(size=count))
    months = draw.choice([12.0, 24.0, 36.0, 48.0, 60.0, 84.0], count, p=[0.12, 0.2, 0.26, 0.18, 0.16, 0.08])
    hidden = draw.random(count) < np.where(employment == "self-employed", 0.3, 0.05)
    return {
        "age": age,
        "income": np.where(hidden, np.nan, income.round()),
        "years employed": years,
        "amount": amount.round(),
        "months": months,
        "utilisation": draw.beta(1.3, 2.2, count).round(3),
        "late payments": np.minimum(draw.poisson(draw.gamma(0.5, 1.4, count)), 12).astype(float),
        "accounts": 1.0 + draw.poisson(3.0, count),
        "purpose": choose(draw, PURPOSES, count),
        "housing": choose(draw, HOUSING, count),
        "employment": with_gaps(employment, draw.random(count) < 0.03),
        "region": choose(draw, REGIONS, count),
    }


def _log_income(income: Array) -> Array:
    return np.log(np.nan_to_num(income, nan=2000.0) / 2000)


_PURPOSE_AT_HOME = {
    ("business", "tenant"): 0.9,
    ("business", "with parents"): 1.3,
    ("renovation", "tenant"): 1.1,
    ("travel", "with parents"): 0.8,
    ("car", "owner"): -0.3,
    ("renovation", "owner"): -0.4,
}


def _purpose_at_home(purpose: Column, housing: Column) -> Array:
    return np.array([_PURPOSE_AT_HOME.get((str(a), str(b)), 0.0) for a, b in zip(purpose, housing, strict=True)])


def _new_at_work(employment: Column, years: Array) -> Array:
    weight = by_value({"permanent": 0.5, "temporary": 1.2, "self-employed": 1.4, "none": 0.0, None: 0.8})(employment)
    return np.where(np.isnan(years), 0.0, weight * np.exp(-np.nan_to_num(years) / 2.5))


_TERMS: list[Term] = [
    (("age",), lambda age: 0.9 * ((age - 46) / 22) ** 2 - 0.3),
    (("income",), lambda income: np.where(np.isnan(income), 0.5, -0.9 * _log_income(income))),
    (("amount", "income"), lambda amount, income: np.maximum(0.8 * (np.log(amount / 5400) - _log_income(income)), -0.5)),
    (("amount", "months"), lambda amount, months: 0.5 * np.log(amount / 5400) * (36 - months) / 24),
    (("months",), lambda months: 0.25 * (months - 36) / 24),
    (("utilisation",), lambda utilisation: 2.4 * utilisation**2),
    (("late payments",), lambda late: 0.75 * np.log1p(late)),
    (("late payments", "utilisation"), lambda late, utilisation: 1.3 * np.log1p(late) * (utilisation - 0.35)),
    (("accounts",), lambda accounts: 0.12 * np.abs(accounts - 4)),
    (("housing",), by_value({"owner": -0.4, "tenant": 0.15, "with parents": 0.0})),
    (("purpose", "housing"), _purpose_at_home),
    (("employment",), by_value({"permanent": -0.3, "temporary": 0.2, "self-employed": 0.2, "none": 1.2, None: 0.3})),
    (("employment", "years employed"), _new_at_work),
    (("region",), by_value({name: 0.35 * np.sin(1.9 * i) for i, name in enumerate(REGIONS)})),
]

CREDIT = Process("credit", _columns, -4.2, _TERMS)
"""Applicants for a credit; label 1 is a default. Twelve columns, four of them categories, three with gaps; about an eighth defaults."""
