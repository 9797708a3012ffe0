"""Prior utilisation: stays that ended before this one began, and counts the source states itself."""

from __future__ import annotations

from health_pipeline.features.expressions import cap, capped_log
from health_pipeline.features.feature import Feature, Kind
from health_pipeline.features.part import Inputs, Part, visible

_WINDOWS = (30, 90, 180)
# Above the cap a count tells no more, and the cap keeps linear models from drifting as histories grow.
_CAP = 10

EMERGENCY_CODES = ("99281", "99282", "99283", "99284", "99285")


def _feature(
    name: str,
    kind: Kind,
    sql: str,
    meaning: str,
    *,
    window: str,
    source: str = "silver.admissions",
    unit: str | None = None,
) -> Feature:
    as_of = "discharged_at" if source == "silver.admissions" else "recorded_at"
    return Feature(name, kind, sql, meaning, "utilisation", source, window, as_of, unit)


_YEAR = "365 days before the discharge"
INPATIENT_YEAR = "coalesce(stated.prior_inpatient, prior.stays_365d, 0)"
EMERGENCY_YEAR = "coalesce(stated.prior_emergency, emergency.visits_365d, 0)"
# A source that states a year's visits only: half of them stand for half a year.
EMERGENCY_HALF_YEAR = "coalesce(stated.prior_emergency / 2, emergency.visits_180d, 0)"

_FEATURES = (
    *(
        _feature(
            f"prior_inpatient_{days}d",
            "numeric",
            cap(f"coalesce(prior.stays_{days}d, 0)", _CAP),
            f"stays that ended in the {days} days before this admission, at most {_CAP}",
            window=f"{days} days before the admission",
            unit="stays",
        )
        for days in _WINDOWS
    ),
    _feature(
        "prior_inpatient_365d_log",
        "numeric",
        capped_log(INPATIENT_YEAR, _CAP),
        "stays that ended in the year before, or as the source states them; natural log of 1 + capped count",
        window=_YEAR,
    ),
    _feature(
        "prior_emergency_365d_log",
        "numeric",
        capped_log(EMERGENCY_YEAR, _CAP),
        "days with an emergency visit (CPT 99281-99285; without the one that led to this stay) or an admission through"
        " the emergency room in the year before, or as the source states them; natural log of 1 + capped count",
        window=_YEAR,
        source="silver.clinical_events",
    ),
    _feature(
        "prior_outpatient_365d_log",
        "numeric",
        capped_log("stated.prior_outpatient", _CAP),
        "outpatient visits of the year before, where the source states them; natural log of 1 + capped count",
        window=_YEAR,
        source="silver.clinical_events",
    ),
    _feature(
        "prior_visits_365d_log",
        "numeric",
        capped_log(f"({INPATIENT_YEAR} + {EMERGENCY_YEAR} + coalesce(stated.prior_outpatient, 0))", 2 * _CAP),
        "inpatient, emergency and outpatient visits of the year before together; natural log of 1 + capped count",
        window=_YEAR,
        source="silver.clinical_events",
    ),
    _feature(
        "days_since_last_discharge",
        "numeric",
        "date_diff('day', prior.last_discharged_at::DATE, s.admitted_at::DATE)",
        "days between the last discharge within the window and this admission",
        window=_YEAR,
        unit="days",
    ),
    _feature(
        "is_readmission",
        "boolean",
        "coalesce(prior.stays_30d, 0) > 0",
        "this stay itself began within 30 days of a discharge",
        window="30 days before the admission",
    ),
    _feature(
        "prior_days_in_hospital_log",
        "numeric",
        capped_log("coalesce(prior.days, 0)", 120),
        "nights in hospital in the year before; natural log of 1 + at most 120",
        window=_YEAR,
    ),
)


def _ctes(inputs: Inputs) -> dict[str, str]:
    windows = "".join(
        f""",
        count(*) FILTER (a.discharged_at >= s.admitted_at - INTERVAL {days} DAY) AS stays_{days}d"""
        for days in _WINDOWS
    )
    codes = ", ".join(f"'{code}'" for code in EMERGENCY_CODES)
    # An interim row of a stay that went on is no stay that ended.
    earlier = f"""{visible("a", as_of="discharged_at")}
        AND a.encounter_id <> s.encounter_id AND a.discharged_at <= s.admitted_at
        AND a.discharge_disposition IS DISTINCT FROM 'still_patient'"""
    return {
        "prior": f"""
    SELECT s.stay_id, count(*) AS stays_365d, max(a.discharged_at) AS last_discharged_at,
        sum(greatest(date_diff('day', a.admitted_at::DATE, a.discharged_at::DATE), 0)) AS days{windows}
    FROM stay AS s
    JOIN {inputs.admissions} AS a ON {earlier}
    GROUP BY s.stay_id""",
        # Some sources land every visit, others those that ended at home; days make one of a visit and its admission.
        "emergency": f"""
    SELECT stay_id, count(DISTINCT came_at::DATE) AS visits_365d,
        count(DISTINCT came_at::DATE) FILTER (came_at >= admitted_at - INTERVAL 180 DAY) AS visits_180d
    FROM (
        SELECT s.stay_id, s.admitted_at, e.time AS came_at
        FROM stay AS s
        JOIN {inputs.events} AS e ON {visible("e")} AND e.time < s.admitted_at
            AND e.encounter_id IS DISTINCT FROM s.encounter_id
            -- The visit through which the patient came in is part of this stay, also where it has a number of its own.
            AND NOT (
                coalesce(s.admission_source = 'emergency_room', false) AND e.time >= s.admitted_at - INTERVAL 24 HOUR
            )
        WHERE e.code_system = 'CPT4' AND e.code IN ({codes})
        UNION ALL
        SELECT s.stay_id, s.admitted_at, a.admitted_at
        FROM stay AS s
        JOIN {inputs.admissions} AS a ON {earlier} AND a.admission_source = 'emergency_room'
    )
    GROUP BY stay_id""",
    }


PART = Part(_FEATURES, _ctes, ("prior", "emergency"))
