"""Laboratory tests and vital signs: last, worst, abnormal and change within the stay."""

from __future__ import annotations

from health_pipeline.cohort.sql import literal, literals
from health_pipeline.features.code_lists import LaboratoryTest, laboratory_tests
from health_pipeline.features.expressions import capped_log
from health_pipeline.features.feature import Feature, Kind
from health_pipeline.features.part import Inputs, Part, visible

_WINDOW = "this stay, from 24 hours before the admission"
# Tests whose results some sources give as a band ('>8', 'norm') and not as a number.
_BANDED = ("glucose", "haemoglobin_a1c")


def _feature(name: str, kind: Kind, sql: str, meaning: str, unit: str | None = None) -> Feature:
    return Feature(name, kind, sql, meaning, "laboratory", "silver.clinical_events", _WINDOW, unit=unit)


def _of_test(test: LaboratoryTest) -> tuple[Feature, ...]:
    words, at = test.name.replace("_", " "), f"laboratory.{test.name}"
    limits = f"{test.low:g} to {test.high:g} {test.unit}"
    features = {
        "last": _feature(f"{test.name}_last", "numeric", f"{at}.last", f"last {words}", test.unit),
        "worst": _feature(
            f"{test.name}_worst",
            "numeric",
            f"{at}.lowest" if test.worst == "low" else f"{at}.highest",
            f"{test.worst}est {words}",
            test.unit,
        ),
        "abnormal": _feature(
            f"{test.name}_is_abnormal",
            "boolean",
            f"{at}.last < {test.low!r} OR {at}.last > {test.high!r}",
            f"last {words} outside {limits}",
        ),
        "change": _feature(
            f"{test.name}_change", "numeric", f"{at}.last - {at}.first", f"last {words} less the first", test.unit
        ),
    }
    return tuple(feature for name, feature in features.items() if name == "last" or name in test.kept)


_FEATURES = (
    *(feature for test in laboratory_tests() for feature in _of_test(test)),
    *(
        _feature(
            f"{name}_band",
            "categorical",
            f"laboratory.{name}.band",
            f"last {name.replace('_', ' ')} where the source gives a band such as '>8' or 'norm'",
        )
        for name in _BANDED
    ),
    _feature("lab_result_count_log", "numeric", capped_log("laboratory.results", 500), "natural log of 1 + results"),
    _feature(
        "abnormal_lab_count",
        "numeric",
        "laboratory.abnormal",
        "measurements whose last result is abnormal",
        "measurements",
    ),
)


def _ctes(inputs: Inputs) -> dict[str, str]:
    tests = laboratory_tests()
    rows = ", ".join(
        f"({literal(code)}, {literal(test.name)}, {test.low!r}, {test.high!r}, {test.plausible_low!r}, "
        f"{test.plausible_high!r})"
        for test in tests
        for code in test.loinc
    )
    codes = literals(code for test in tests for code in test.loinc)
    columns = ",\n        ".join(
        f"any_value(result) FILTER (test = {literal(test.name)}) AS {test.name}" for test in tests
    )
    return {
        "laboratory_test": f"""
    SELECT * FROM (VALUES {rows}) AS l (code, test, low, high, plausible_low, plausible_high)""",
        "laboratory_result": f"""
    SELECT stay_id, test, count(*) AS results,
        {{
            'first': arg_min(number, place) FILTER (number IS NOT NULL),
            'last': arg_max(number, place) FILTER (number IS NOT NULL),
            'lowest': min(number), 'highest': max(number),
            'band': arg_max(band, place) FILTER (band IS NOT NULL)
        }} AS result,
        coalesce(arg_max(number < low OR number > high, place) FILTER (number IS NOT NULL), false) AS is_abnormal
    FROM (
        SELECT s.stay_id, t.test, t.low, t.high, lower(trim(e.text_value)) AS band,
            CASE WHEN e.numeric_value BETWEEN t.plausible_low AND t.plausible_high THEN e.numeric_value END AS number,
            {{'time': e.time, 'at': e.recorded_at, 'number': e.numeric_value, 'text': e.text_value}} AS place
        FROM stay AS s
        JOIN {inputs.events} AS e ON {visible("e")} AND e.time >= s.admitted_at - INTERVAL 24 HOUR
        JOIN laboratory_test AS t ON t.code = e.code
        WHERE e.code_system = 'LOINC' AND e.code IN ({codes})
    )
    GROUP BY stay_id, test""",
        "laboratory": f"""
    SELECT stay_id, sum(results) AS results, count(*) FILTER (is_abnormal) AS abnormal,
        {columns}
    FROM laboratory_result
    GROUP BY stay_id""",
    }


PART = Part(_FEATURES, _ctes, ("laboratory",))
