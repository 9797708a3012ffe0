-- Dates come as 2020-01-31 or 20200131, ids from some exports as 12.0.
CREATE MACRO moment(t) AS coalesce(try_cast(t AS TIMESTAMP), try_strptime(t, ['%Y%m%d', '%Y%m%d %H:%M:%S', '%m/%d/%Y']));
CREATE MACRO id(t) AS regexp_replace(t, '\.0$', '');
-- The moment of a fact; a date without a time is its midnight.
CREATE MACRO happened(stamp, day) AS coalesce(moment(stamp), moment(day));
CREATE MACRO has_time(stamp) AS coalesce(moment(stamp)::TIME <> TIME '00:00:00', false);

CREATE TABLE visits AS
SELECT
    id(visit_occurrence_id) AS visit_id,
    id(person_id) AS person_id,
    try_cast(id(visit_concept_id) AS BIGINT) AS concept,
    concept IN (9201, 262, 8717) AS is_stay,
    concept IN (9203, 8870) AS is_emergency,
    happened(visit_start_datetime, visit_start_date) AS begins_at,
    happened(visit_end_datetime, visit_end_date) AS stated_end,
    -- the end of a visit of one day may carry a date only
    CASE
        WHEN stated_end::DATE = begins_at::DATE AND NOT has_time(visit_end_datetime) THEN begins_at ELSE stated_end
    END AS ends_at,
    id(care_site_id) AS care_site_id,
    try_cast(id(coalesce(admitted_from_concept_id, admitting_source_concept_id)) AS BIGINT) AS came_from,
    try_cast(id(coalesce(discharged_to_concept_id, discharge_to_concept_id)) AS BIGINT) AS went_to
FROM raw.visit_occurrence;

-- An emergency visit that ends on the day a stay begins, or the day before, led to it.
CREATE TABLE led_to_stay AS
SELECT DISTINCT e.visit_id AS emergency_id, s.visit_id AS stay_id
FROM visits AS e
JOIN visits AS s ON s.person_id = e.person_id AND s.is_stay AND e.begins_at <= s.begins_at
    AND e.ends_at::DATE BETWEEN s.begins_at::DATE - 1 AND s.begins_at::DATE
WHERE e.is_emergency;

-- Extracts often come without their vocabulary: the frequent measurements are known all the same.
CREATE TABLE codes AS
SELECT
    id(concept_id) AS concept_id,
    CASE vocabulary_id WHEN 'ICD9Proc' THEN 'ICD9PROC' ELSE upper(replace(vocabulary_id, ' ', '_')) END AS system,
    concept_code AS code,
    concept_name AS name
FROM raw.concept
WHERE id(concept_id) <> '0'
UNION ALL
SELECT concept_id, 'LOINC', loinc, name
FROM raw.measurements
WHERE concept_id NOT IN (SELECT id(concept_id) FROM raw.concept WHERE concept_id IS NOT NULL);

CREATE TABLE deaths AS
SELECT id(person_id) AS person_id, min(coalesce(moment(death_date), moment(death_datetime)))::DATE AS died_on
FROM raw.death
GROUP BY ALL;
