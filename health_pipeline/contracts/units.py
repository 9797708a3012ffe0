"""Units of measurements: the canonical unit of each LOINC code, how others convert, and what is possible at all.

``canonical = value * factor + term``. Factors between mass and substance concentration are molar masses
(AMA Manual of Style, SI conversion tables); HbA1c follows the IFCC-NGSP master equation
(NGSP = 0.09148 * IFCC + 2.152).
``lowest`` and ``highest`` are wide on purpose: they bound what a living patient can have, not what is healthy, and
they catch values that were landed in another unit than the one stated.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conversion:
    """How a value given in ``unit`` becomes canonical."""

    unit: str
    factor: float
    term: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """A quantity with one canonical unit, measured under one or more LOINC codes."""

    name: str
    loinc: tuple[str, ...]
    unit: str
    lowest: float
    highest: float
    conversions: tuple[Conversion, ...] = ()
    spellings: tuple[str, ...] = ()


def _per(unit: str, factor: float, term: float = 0.0) -> Conversion:
    return Conversion(unit, factor, term)


_CELLS = ("10*9/L", "10^9/L", "10^3/uL", "K/uL", "thou/uL", "x10E3/uL", "10*3/mm3", "thousand/uL")

MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement(
        "creatinine", ("2160-0", "38483-4"), "mg/dL", 0.0, 50.0, (_per("umol/L", 1 / 88.42), _per("mmol/L", 11.31))
    ),
    Measurement("glucose", ("2345-7", "2339-0"), "mg/dL", 0.0, 3000.0, (_per("mmol/L", 18.016),)),
    Measurement(
        "haemoglobin", ("718-7", "20509-6", "30313-1"), "g/dL", 0.0, 30.0, (_per("g/L", 0.1), _per("mmol/L", 1.611))
    ),
    Measurement("haematocrit", ("4544-3", "20570-8"), "%", 0.0, 100.0, (_per("L/L", 100.0),)),
    Measurement("sodium", ("2951-2", "2947-0"), "mmol/L", 80.0, 220.0, (_per("mEq/L", 1.0),)),
    Measurement("potassium", ("2823-3", "6298-4"), "mmol/L", 0.5, 15.0, (_per("mEq/L", 1.0),)),
    Measurement("chloride", ("2075-0", "2069-3"), "mmol/L", 40.0, 180.0, (_per("mEq/L", 1.0),)),
    Measurement("bicarbonate", ("1963-8", "2028-9", "20565-8"), "mmol/L", 0.0, 80.0, (_per("mEq/L", 1.0),)),
    Measurement("urea_nitrogen", ("3094-0", "6299-2"), "mg/dL", 0.0, 400.0, (_per("mmol/L", 2.801),)),
    Measurement("calcium", ("17861-6", "49765-1"), "mg/dL", 0.0, 30.0, (_per("mmol/L", 4.008), _per("mEq/L", 2.004))),
    Measurement("magnesium", ("19123-9",), "mg/dL", 0.0, 30.0, (_per("mmol/L", 2.431), _per("mEq/L", 1.2153))),
    Measurement("phosphate", ("2777-1",), "mg/dL", 0.0, 40.0, (_per("mmol/L", 3.097),)),
    Measurement("albumin", ("1751-7",), "g/dL", 0.0, 10.0, (_per("g/L", 0.1),)),
    Measurement("bilirubin", ("1975-2",), "mg/dL", 0.0, 100.0, (_per("umol/L", 1 / 17.104),)),
    Measurement("lactate", ("2524-7", "32693-4"), "mmol/L", 0.0, 50.0, (_per("mg/dL", 1 / 9.008),)),
    Measurement("urate", ("3084-1",), "mg/dL", 0.0, 50.0, (_per("umol/L", 1 / 59.48),)),
    Measurement("cholesterol", ("2093-3",), "mg/dL", 0.0, 2000.0, (_per("mmol/L", 38.67),)),
    Measurement("hdl_cholesterol", ("2085-9",), "mg/dL", 0.0, 500.0, (_per("mmol/L", 38.67),)),
    Measurement("ldl_cholesterol", ("18262-6", "13457-7"), "mg/dL", 0.0, 1500.0, (_per("mmol/L", 38.67),)),
    Measurement("triglycerides", ("2571-8",), "mg/dL", 0.0, 20000.0, (_per("mmol/L", 88.57),)),
    Measurement("hba1c", ("4548-4", "17856-6"), "%", 2.0, 25.0, (_per("mmol/mol", 0.09148, 2.152),)),
    Measurement("c_reactive_protein", ("1988-5",), "mg/L", 0.0, 1000.0, (_per("mg/dL", 10.0),)),
    Measurement("troponin_i", ("10839-9",), "ng/mL", 0.0, 1000.0, (_per("ng/L", 0.001), _per("pg/mL", 0.001))),
    Measurement("troponin_t", ("6598-7",), "ng/mL", 0.0, 1000.0, (_per("ng/L", 0.001), _per("pg/mL", 0.001))),
    Measurement("bnp", ("30934-4",), "pg/mL", 0.0, 200000.0, (_per("ng/L", 1.0), _per("pmol/L", 3.464))),
    Measurement("nt_pro_bnp", ("33762-6",), "pg/mL", 0.0, 500000.0, (_per("ng/L", 1.0), _per("pmol/L", 8.457))),
    Measurement("leukocytes", ("6690-2", "26464-8"), "10*3/uL", 0.0, 1500.0, (), _CELLS),
    Measurement("platelets", ("777-3", "26515-7"), "10*3/uL", 0.0, 5000.0, (), _CELLS),
    Measurement("inr", ("6301-6", "34714-6"), "{INR}", 0.0, 50.0, (), ("1", "INR", "ratio")),
    Measurement(
        "egfr",
        ("33914-3", "62238-1", "48642-3", "98979-8"),
        "mL/min/{1.73_m2}",
        0.0,
        250.0,
        (),
        ("mL/min", "mL/min/1.73m2", "mL/min/1.73_m2"),
    ),
    Measurement("heart_rate", ("8867-4",), "/min", 0.0, 400.0, (), ("bpm", "beats/min", "{beats}/min")),
    Measurement("respiratory_rate", ("9279-1",), "/min", 0.0, 120.0, (), ("breaths/min", "{breaths}/min", "bpm")),
    Measurement("systolic_pressure", ("8480-6",), "mm[Hg]", 0.0, 400.0, (_per("kPa", 7.50062),), ("mmHg",)),
    Measurement("diastolic_pressure", ("8462-4",), "mm[Hg]", 0.0, 300.0, (_per("kPa", 7.50062),), ("mmHg",)),
    Measurement(
        "body_temperature",
        ("8310-5", "8331-1"),
        "Cel",
        20.0,
        47.0,
        (_per("[degF]", 5 / 9, -160 / 9), _per("degF", 5 / 9, -160 / 9), _per("F", 5 / 9, -160 / 9)),
        ("C", "degC"),
    ),
    Measurement("oxygen_saturation", ("59408-5", "2708-6"), "%", 0.0, 100.0),
    Measurement(
        "body_weight",
        ("29463-7",),
        "kg",
        0.0,
        700.0,
        (_per("g", 0.001), _per("[lb_av]", 0.45359237), _per("lb", 0.45359237), _per("lbs", 0.45359237)),
    ),
    Measurement(
        "body_height",
        ("8302-2",),
        "cm",
        0.0,
        280.0,
        (_per("m", 100.0), _per("[in_i]", 2.54), _per("in", 2.54)),
    ),
    Measurement("body_mass_index", ("39156-5",), "kg/m2", 0.0, 250.0, (), ("kg/m^2", "kg/m²")),
)


def normalised_unit(unit: str) -> str:
    """Lower case, no blanks, one spelling of micro: the form in which units are compared."""
    return "".join(unit.split()).lower().replace("µ", "u").replace("μ", "u")


NORMALISED_UNIT_SQL = "replace(replace(lower(regexp_replace({unit}, '\\s', '', 'g')), 'µ', 'u'), 'μ', 'u')"
"""The same in DuckDB."""


def conversion_rows() -> list[tuple[str, str, str, float, float, float, float]]:
    """All accepted units.

    Returns:
        Rows (LOINC code, normalised unit given, canonical unit, factor, term, lowest, highest); the empty unit means
        that the code came without one, which is taken as canonical.
    """
    rows = []
    for item in MEASUREMENTS:
        same = [Conversion(unit, 1.0) for unit in (item.unit, *item.spellings, "")]
        given = {normalised_unit(conversion.unit): conversion for conversion in (*same, *item.conversions)}
        rows += [
            (code, unit, item.unit, conversion.factor, conversion.term, item.lowest, item.highest)
            for code in item.loinc
            for unit, conversion in given.items()
        ]
    return rows
