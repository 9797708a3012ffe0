"""Gates as checks on ``models.champion``, one verdict a month; what they say is in ``gates.py``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from health_pipeline.months import MonthRange, shift
from health_pipeline.promotion import gates
from health_pipeline.promotion.criteria import RULES
from health_pipeline.promotion.plan import load_plan
from health_pipeline.promotion.policy import policy_of
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.verdicts import Check, Verdict
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Warehouse

Rows = Mapping[dt.date, Mapping[str, Any]]
Judge = Callable[[gates.Replay, Rows, "Settings"], Verdict]


def _rows(warehouse: Warehouse, months: MonthRange) -> Rows:
    """Champion rows of the months and of the month before them."""
    warehouse.ensure(CHAMPION)
    with warehouse.read(f"gates of {months}") as connection:
        table = connection.execute(f"SELECT * FROM {Slice(CHAMPION, months.widen(before=1))}").to_arrow_table()
    return {row["month"]: row for row in table.to_pylist()}


def _evaluate(judge: Judge, warehouse: Warehouse, months: MonthRange, settings: Settings) -> Sequence[Verdict]:
    rows = _rows(warehouse, months)
    return [_of_month(judge, month, rows, settings) for month in months]


def _of_month(judge: Judge, month: dt.date, rows: Rows, settings: Settings) -> Verdict:
    row = rows.get(month)
    if row is None:
        return Verdict(month, False, "no decision was taken")
    try:
        replay = gates.Replay.of(row)
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        return Verdict(month, False, f"the stored evidence cannot be read ({type(error).__name__})")
    return judge(replay, rows, settings)


def _check(name: str, description: str, judge: Judge, *, blocking: bool) -> Check:
    return Check(name, CHAMPION.qualified, description, partial(_evaluate, judge), blocking=blocking)


def _succession(replay: gates.Replay, rows: Rows, settings: Settings) -> Verdict:
    return gates.succession(replay, rows.get(shift(replay.month, -1)), settings.first_model_month)


def _current_policy(replay: gates.Replay, rows: Rows, settings: Settings) -> Verdict:
    del rows
    return gates.current_policy(replay, policy_of(settings, load_plan(settings.promotion.plan)))


def _alone(judge: Callable[[gates.Replay], Verdict]) -> Judge:
    return lambda replay, _rows, _settings: judge(replay)


CHECKS: tuple[Check, ...] = (
    *(
        _check(
            rule.name,
            (rule.judge.__doc__ or "").strip().split("\n")[0],
            _alone(partial(gates.gate, rule)),
            blocking=rule.name != "staleness",
        )
        for rule in RULES
    ),
    _check("decision_record", "The row follows from its evidence and the month before.", _succession, blocking=True),
    _check("champion_leak", "The model in force is not too good to be true.", _alone(gates.leak), blocking=True),
    _check("champion_in_force", "Some model is in force.", _alone(gates.in_force), blocking=False),
    _check("near_misses", "No number lies close to its limit.", _alone(gates.near_misses), blocking=False),
    _check("policy_current", "The decision was taken under today's policy.", _current_policy, blocking=False),
)
