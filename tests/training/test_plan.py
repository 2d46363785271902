"""Plans: steps that fit a budget, validations, learning rates."""

import itertools

import pytest

from densem.training.plan import MEASURED_STEPS, Plan, Timing, learning_rate
from densem.training.recipe import Optimizer, Schedule

SCHEDULE = Schedule(warmup=10, final=0.1, validations=5, frozen=0.2, final_patches=100)
OPTIMIZER = Optimizer(lr=1.0)


def test_validations_are_evenly_spread_and_end_with_the_last_step():
    assert Plan.of_steps(100, SCHEDULE).validations == (20, 40, 60, 80, 100)
    assert Plan.of_steps(3, SCHEDULE).validations == (1, 2, 3)


def test_a_budget_is_spent_on_steps_validations_and_final_statistics():
    timing = Timing(spent=10.0, step=0.5, validation=4.0, patch=0.1)
    plan = Plan.of_time(600.0, timing, SCHEDULE)
    assert plan.final_patches == 100
    assert plan.steps == MEASURED_STEPS + int((600 - 10 - 20 - 10) / 0.5)


def test_too_small_a_budget_still_takes_a_step_more_and_few_final_patches():
    plan = Plan.of_time(5.0, Timing(spent=10.0, step=1.0, validation=4.0, patch=1.0), SCHEDULE)
    assert plan.steps == MEASURED_STEPS + 1
    assert plan.final_patches == 8


def test_learning_rate_rises_falls_and_never_jumps_when_the_plan_is_made():
    plan = Plan.of_steps(100, SCHEDULE)
    rates = [learning_rate(n, plan, OPTIMIZER, SCHEDULE) for n in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55, abs=0.01)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert [learning_rate(n, None, OPTIMIZER, SCHEDULE) for n in range(10)] == rates[:10]


def test_constant_schedules_stay():
    schedule = Schedule(shape="constant", warmup=0)
    assert {learning_rate(n, Plan.of_steps(50, schedule), OPTIMIZER, schedule) for n in range(50)} == {1.0}


def test_plans_survive_plain_values():
    plan = Plan.of_steps(70, SCHEDULE)
    assert Plan.from_dict(plan.to_dict()) == plan
    assert plan.freezing_step(SCHEDULE) == 56
