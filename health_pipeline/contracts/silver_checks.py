"""Checks of silver and quarantine: nothing lost, little refused, words known, sources linked to the stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from health_pipeline.contracts.balance import balances
from health_pipeline.contracts.declarations import LandingTable
from health_pipeline.contracts.tables import ADMISSIONS, CLAIMS, CLINICAL_EVENTS, LANDING_TABLES, PATIENTS
from health_pipeline.contracts.vocabulary import CODE_SYSTEMS
from health_pipeline.contracts.warehouse_tables import BRONZE, REJECTED_ROWS, SILVER
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Check, Number, Verdict
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.slices import Slice

Evaluate = Callable[[Warehouse, MonthRange, Settings], Sequence[Verdict]]

CLAIM_LAG_MONTHS = 3
"""Most claims are settled within this time; a stay older than this without any claim shows a gap in the extract."""


def silver_checks() -> tuple[Check, ...]:
    """Checks of the silver tables and of quarantine."""
    balance = tuple(
        Check(
            "counts_balance",
            table.silver,
            "Landed rows = silver + quarantined + deduplicated, exactly: no row is lost.",
            _balance(table),
            blocking=True,
            reads=(table.bronze, REJECTED_ROWS.qualified),
        )
        for table in LANDING_TABLES.values()
    )
    words = tuple(
        Check(
            "vocabulary_known",
            table.silver,
            "Share of values outside the vocabulary of a coded column; they reach scoring as unseen categories.",
            _vocabulary(table),
        )
        for table in (ADMISSIONS, PATIENTS, CLINICAL_EVENTS)
    )
    linked = tuple(
        Check(
            "linked_to_stays",
            table.silver,
            f"Share of stays that this feature source knows of ({meaning}).",
            _linked(table, condition, lag),
            reads=(ADMISSIONS.silver,),
        )
        for table, condition, lag, meaning in (
            (PATIENTS, "source.patient_key = stay.patient_key AND source.month <= stay.month", 0, "attributes so far"),
            (CLINICAL_EVENTS, "source.encounter_id = stay.encounter_id", 0, "any event of the stay"),
            (CLAIMS, "source.encounter_id = stay.encounter_id", CLAIM_LAG_MONTHS, "claims settled in time"),
        )
    )
    rate = Check(
        "quarantine_rate",
        REJECTED_ROWS.qualified,
        "Share of each table's landed rows that is quarantined.",
        _quarantine_rate,
        reads=tuple(table.bronze for table in LANDING_TABLES.values()),
    )
    return (*balance, *words, *linked, rate)


def _balance(table: LandingTable) -> Evaluate:
    def evaluate(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:  # noqa: ARG001
        return [
            Verdict(
                balance.month,
                passed=balance.is_even,
                summary=f"{balance.landed:,} landed, {balance.silver:,} silver, {balance.quarantined:,} quarantined, "
                f"{balance.deduplicated:,} deduplicated"
                + ("" if balance.is_even else ": the counts do not balance, materialise quarantine and silver again"),
                numbers={
                    "landed": balance.landed,
                    "silver": balance.silver,
                    "quarantined": balance.quarantined,
                    "deduplicated": balance.deduplicated,
                    "strays": balance.strays,
                },
            )
            for balance in balances(warehouse, table, months)
        ]

    return evaluate


def _quarantine_rate(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
    warehouse.ensure(REJECTED_ROWS, *BRONZE.values())
    landed = " UNION ALL ".join(
        f"SELECT month, '{name}' AS table_name, count(*) AS landed FROM {Slice(table, months)} GROUP BY month"
        for name, table in BRONZE.items()
    )
    sql = f"""
SELECT month, table_name, coalesce(rejected, 0), landed
FROM ({landed}) LEFT JOIN (
  SELECT month, table_name, count(*) AS rejected FROM {Slice(REJECTED_ROWS, months)} GROUP BY ALL
) USING (month, table_name)"""
    with warehouse.read(f"quarantine rate {months}") as connection:
        found = connection.execute(sql).fetchall()
    limit = settings.quality.max_quarantine_rate
    verdicts = []
    for month in months:
        rates = {table: rejected / landed for at, table, rejected, landed in found if at == month and landed}
        above = sorted(table for table, rate in rates.items() if rate > limit)
        words = ", ".join(f"{table} {rates[table]:.2%}" for table in above)
        verdicts.append(
            Verdict(
                month,
                passed=not above,
                summary=f"above {limit:.2%}: {words}" if above else f"no table above {limit:.2%}",
                severity="WARN",
                numbers={"limit": limit} | {f"rate_{table}": round(rate, 6) for table, rate in sorted(rates.items())},
            )
        )
    return verdicts


def _vocabulary(table: LandingTable) -> Evaluate:
    words = {column.name: column.vocabulary for column in table.coded_columns}
    if table is CLINICAL_EVENTS:
        words = {"code_system": tuple(CODE_SYSTEMS)}

    def evaluate(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
        silver = SILVER[table.name]
        warehouse.ensure(silver)
        shares = ", ".join(f'avg(CAST("{name}" NOT IN {known!r} AS DOUBLE))' for name, known in words.items())
        with warehouse.read(f"vocabulary of {table.silver} {months}") as connection:
            sql = f"SELECT month, [{shares}] FROM {Slice(silver, months)} GROUP BY month"
            found = dict(connection.execute(sql).fetchall())
        limit = settings.quality.max_unseen_share
        return [
            _vocabulary_verdict(month, dict(zip(words, found.get(month, ()), strict=False)), limit) for month in months
        ]

    return evaluate


def _vocabulary_verdict(month: Month, shares: dict[str, float | None], limit: float) -> Verdict:
    above = [f"{name} {share:.2%}" for name, share in shares.items() if share and share > limit]
    numbers: dict[str, Number] = {f"unseen_{name}": round(share, 6) for name, share in shares.items() if share}
    return Verdict(
        month,
        passed=not above,
        summary=f"values outside the vocabulary: {', '.join(above)}" if above else "all words are known or rare",
        severity="WARN",
        numbers={"limit": limit} | numbers,
    )


def _linked(table: LandingTable, condition: str, lag_months: int) -> Evaluate:
    """Share of stays with a row in the source; claims look at the stays of ``lag_months`` earlier."""

    def evaluate(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
        stays = MonthRange(shift(months.first, -lag_months), shift(months.last, -lag_months))
        silver, admissions = SILVER[table.name], SILVER["admissions"]
        warehouse.ensure(silver, admissions)
        first = settings.start_month if table is PATIENTS else stays.first
        source = Slice(silver, MonthRange(min(first, stays.first), months.last))
        until = f"source.month <= stay.month + INTERVAL {lag_months} MONTH"
        sql = f"""
SELECT stay.month, avg(CAST(EXISTS (SELECT 1 FROM {source} AS source WHERE {condition} AND {until}) AS DOUBLE))
FROM {Slice(admissions, stays)} AS stay GROUP BY stay.month"""
        with warehouse.read(f"link {table.silver} {months}") as connection:
            found = dict(connection.execute(sql).fetchall())
            delivered = connection.execute(f"SELECT 1 FROM {source} LIMIT 1").fetchone() is not None
        limit = settings.quality.min_linked_share
        shares = (found.get(shift(month, -lag_months)) if delivered else None for month in months)
        return [_linked_verdict(month, share, limit) for month, share in zip(months, shares, strict=True)]

    return evaluate


def _linked_verdict(month: Month, share: float | None, limit: float) -> Verdict:
    if share is None:
        return Verdict(month, passed=True, summary="nothing to link", severity="WARN")
    return Verdict(
        month,
        passed=share >= limit,
        summary=f"{share:.1%} of the stays are linked (at least {limit:.0%} expected)",
        severity="WARN",
        numbers={"linked_share": round(share, 6), "limit": limit},
    )
