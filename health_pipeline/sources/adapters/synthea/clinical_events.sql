-- Facts are recorded when they happen; a condition that carries a date only, when its encounter begins.
WITH facts AS (
    -- why the patient came
    SELECT
        PATIENT AS patient_id, Id AS encounter_id, begins_at AS time, begins_at AS recorded_at,
        'SNOMED//' || regexp_replace(REASONCODE, '\.0$', '') AS code, NULL AS numeric_value, 'principal' AS text_value
    FROM encounters
    WHERE REASONCODE IS NOT NULL
    UNION ALL
    -- emergency visits that ended at home; the export does not tell their level
    SELECT PATIENT, Id, begins_at, coalesce(ends_at, begins_at), 'CPT4//99284', NULL, NULL
    FROM encounters
    WHERE class = 'emergency' AND Id NOT IN (SELECT emergency_id FROM led_to_stay)
    UNION ALL
    SELECT
        c.PATIENT, c.ENCOUNTER, moment(c."START"), greatest(moment(c."START"), e.begins_at),
        code_system(c.SYSTEM, 'SNOMED') || '//' || c.CODE, NULL, 'secondary'
    FROM raw.conditions AS c
    LEFT JOIN encounters AS e ON e.Id = c.ENCOUNTER
    UNION ALL
    SELECT
        PATIENT, ENCOUNTER, moment("DATE"), moment("DATE"),
        CASE WHEN regexp_full_match(CODE, '\d{1,7}-\d') THEN 'LOINC//' ELSE 'SOURCE//' END || CODE
            || CASE WHEN is_number AND UNITS IS NOT NULL THEN '//' || UNITS ELSE '' END,
        CASE WHEN is_number THEN VALUE END,
        CASE WHEN NOT is_number THEN VALUE END
    FROM (
        SELECT *, coalesce(lower(TYPE) = 'numeric', try_cast(VALUE AS DOUBLE) IS NOT NULL) AS is_number
        FROM raw.observations
    ) AS o
    UNION ALL
    SELECT PATIENT, ENCOUNTER, moment("START"), moment("START"), 'RXNORM//' || CODE, NULL, 'started'
    FROM raw.medications
    UNION ALL
    SELECT PATIENT, ENCOUNTER, moment("STOP"), moment("STOP"), 'RXNORM//' || CODE, NULL, 'stopped'
    FROM raw.medications
    WHERE "STOP" IS NOT NULL
    UNION ALL
    SELECT
        PATIENT, ENCOUNTER, moment(coalesce("START", "DATE")), moment(coalesce("START", "DATE")),
        code_system(SYSTEM, 'SNOMED') || '//' || CODE, NULL, NULL
    FROM raw.procedures
    UNION ALL
    SELECT PATIENT, ENCOUNTER, moment("DATE"), moment("DATE"), 'CVX//' || CODE, NULL, NULL
    FROM raw.immunizations
)
SELECT DISTINCT * FROM facts
