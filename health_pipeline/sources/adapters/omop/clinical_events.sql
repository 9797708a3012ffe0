WITH facts AS (
    -- A source code of a classification that pipelines know beats the standard concept it was mapped to.
    SELECT
        id(c.person_id) AS person_id, id(c.visit_occurrence_id) AS visit_id,
        c.condition_start_datetime AS stamp, c.condition_start_date AS day,
        CASE WHEN s.system IN ('ICD10CM', 'ICD9CM') THEN s.system || '//' || s.code END AS source_code,
        id(c.condition_concept_id) AS concept_id,
        NULL AS unit, NULL AS numeric_value,
        CASE
            WHEN id(c.condition_status_concept_id) IN ('32901', '32902', '32903')
                OR id(c.condition_type_concept_id) IN ('38000183', '38000199', '38000200', '44786627')
            THEN 'principal' ELSE 'secondary'
        END AS text_value
    FROM raw.condition_occurrence AS c
    LEFT JOIN codes AS s ON s.concept_id = id(c.condition_source_concept_id)
    UNION ALL
    SELECT
        id(m.person_id), id(m.visit_occurrence_id), m.measurement_datetime, m.measurement_date,
        CASE
            WHEN s.system = 'LOINC' THEN 'LOINC//' || s.code
            WHEN regexp_full_match(m.measurement_source_value, '\d{1,7}-\d') THEN 'LOINC//' || m.measurement_source_value
        END,
        id(m.measurement_concept_id),
        CASE WHEN m.value_as_number IS NOT NULL THEN coalesce(u.code, m.unit_source_value) END,
        m.value_as_number,
        CASE WHEN m.value_as_number IS NULL THEN coalesce(v.name, m.value_source_value) END
    FROM raw.measurement AS m
    LEFT JOIN codes AS s ON s.concept_id = id(m.measurement_source_concept_id)
    LEFT JOIN codes AS u ON u.concept_id = id(m.unit_concept_id)
    LEFT JOIN codes AS v ON v.concept_id = id(m.value_as_concept_id)
    UNION ALL
    SELECT
        id(o.person_id), id(o.visit_occurrence_id), o.observation_datetime, o.observation_date,
        NULL, id(o.observation_concept_id), NULL, o.value_as_number,
        CASE WHEN o.value_as_number IS NULL THEN coalesce(o.value_as_string, o.value_source_value) END
    FROM raw.observation AS o
    UNION ALL
    SELECT
        id(d.person_id), id(d.visit_occurrence_id), d.drug_exposure_start_datetime, d.drug_exposure_start_date,
        NULL, id(d.drug_concept_id), NULL, NULL, 'started'
    FROM raw.drug_exposure AS d
    UNION ALL
    SELECT
        id(p.person_id), id(p.visit_occurrence_id), p.procedure_datetime, p.procedure_date,
        CASE WHEN s.system IN ('ICD10PCS', 'ICD9PROC', 'CPT4', 'HCPCS') THEN s.system || '//' || s.code END,
        id(p.procedure_concept_id), NULL, NULL, NULL
    FROM raw.procedure_occurrence AS p
    LEFT JOIN codes AS s ON s.concept_id = id(p.procedure_source_concept_id)
),
coded AS (
    SELECT
        f.*,
        coalesce(f.source_code, c.system || '//' || c.code, 'OMOP//' || coalesce(f.concept_id, '0')) AS full_code,
        happened(stamp, day) AS time,
        CASE WHEN has_time(stamp) THEN moment(stamp) ELSE moment(day) + INTERVAL 86399 SECOND END AS noted_at
    FROM facts AS f
    LEFT JOIN codes AS c ON c.concept_id = f.concept_id
)
SELECT DISTINCT
    c.person_id AS patient_id,
    c.visit_id AS encounter_id,
    c.time,
    CASE WHEN v.is_stay AND NOT has_time(c.stamp) AND c.time <= v.ends_at THEN least(c.noted_at, v.ends_at) ELSE c.noted_at END
        AS recorded_at,
    c.full_code || coalesce('//' || c.unit, '') AS code,
    c.numeric_value,
    c.text_value
FROM coded AS c
LEFT JOIN visits AS v ON v.visit_id = c.visit_id
UNION ALL
-- emergency visits that ended at home; the model does not tell their level
SELECT person_id, visit_id, begins_at, ends_at, 'CPT4//99284', NULL, NULL
FROM visits
WHERE is_emergency AND visit_id NOT IN (SELECT emergency_id FROM led_to_stay)
