"""Aggregates over tasks; the numbers are those of rliable 1.2.0, [runs, tasks]."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from experiments.statistics import aggregates

X = np.reshape(
    [9, 24, 80, 58, 9, 43, 48, 16, 73, 11, 39, 52, 43, 59, 74, 96, 28, 65, 70, 29],
    (5, 4),
)
Y = np.reshape(
    [25, 68, 66, 29, 48, 59, 71, 94, 66, 17, 39, 48, 15, 48, 45, 21, 11, 29, 79, 54],
    (5, 4),
)


def test_aggregates_are_those_of_rliable():
    assert aggregates.iqm(X) == pytest.approx(46.4)
    assert aggregates.probability_of_improvement(X, Y) == pytest.approx(0.495)
    interval = aggregates.stratified_bootstrap(
        X, aggregates.iqm, np.random.default_rng(0)
    )
    assert interval == pytest.approx((33.3, 59.4), abs=1)  # theirs drawn, too


def test_probability_of_improvement_is_the_scaled_mann_whitney_statistic():
    u = mannwhitneyu(X, Y, axis=0).statistic
    assert aggregates.probability_of_improvement(X, Y) == pytest.approx(u.mean() / 25)
    assert aggregates.probability_of_improvement(X, X) == 0.5


def test_strata_are_tasks():
    scores = np.repeat([[1.0, 100.0]], 5, axis=0)
    interval = aggregates.stratified_bootstrap(
        scores, np.mean, np.random.default_rng(0)
    )
    assert interval == (50.5, 50.5)


def test_a_winner_on_one_task_loses_its_rank_without_it():
    specialist, generalist = np.array([[100, 0, 0]]), np.array([[10, 1, 1]])
    ranks = aggregates.leave_one_out_ranks(
        [specialist, generalist, generalist], np.mean
    )
    assert ranks.tolist() == [[1, 2, 2], [3, 1, 1], [1, 2, 2], [1, 2, 2]]
