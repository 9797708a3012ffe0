-- '2020-01-31T12:00:00Z' and '2020-01-31': the wall clock counts.
CREATE MACRO moment(t) AS try_cast(t AS TIMESTAMP);

CREATE MACRO code_system(system, otherwise) AS CASE
    WHEN system ILIKE '%snomed%' THEN 'SNOMED'
    WHEN system ILIKE '%icd-10-cm%' OR system ILIKE '%icd10cm%' THEN 'ICD10CM'
    WHEN system ILIKE '%icd-9-cm%' THEN 'ICD9CM'
    WHEN system ILIKE '%icd-10-pcs%' THEN 'ICD10PCS'
    WHEN system ILIKE '%/cpt%' THEN 'CPT4'
    WHEN system ILIKE '%loinc%' THEN 'LOINC'
    WHEN system ILIKE '%rxnorm%' THEN 'RXNORM'
    WHEN system ILIKE '%cdt%' THEN 'CDT'
    ELSE otherwise
END;

CREATE TABLE encounters AS
SELECT *, moment("START") AS begins_at, moment("STOP") AS ends_at, lower(ENCOUNTERCLASS) AS class
FROM raw.encounters;

CREATE TABLE stays AS
SELECT * FROM encounters WHERE class = 'inpatient';

-- An emergency encounter that ends within a day before a stay led to it.
CREATE TABLE led_to_stay AS
SELECT DISTINCT e.Id AS emergency_id, s.Id AS stay_id
FROM encounters AS e
JOIN stays AS s ON s.PATIENT = e.PATIENT AND s.begins_at BETWEEN e.begins_at AND e.ends_at + INTERVAL 1 DAY
WHERE e.class = 'emergency';
