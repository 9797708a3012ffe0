-- Where the patient went is not exported. Death on the last day, or an encounter at a nursing home, hospice or at home that
-- begins within a day after the stay, tells it; otherwise it stays unknown. 183452005, an emergency admission in SNOMED, is
-- Synthea's code for any inpatient encounter and says nothing.
WITH went_to AS (
    SELECT s.Id AS stay_id, min_by(e.class, e.begins_at) AS class
    FROM stays AS s
    JOIN encounters AS e ON e.PATIENT = s.PATIENT
        AND e.class IN ('snf', 'hospice', 'home')
        AND e.begins_at BETWEEN s.ends_at AND s.ends_at + INTERVAL 1 DAY
    GROUP BY s.Id
)
SELECT
    s.Id AS encounter_id,
    s.PATIENT AS patient_id,
    s.ORGANIZATION AS facility_id,
    s.begins_at AS admitted_at,
    s.ends_at AS discharged_at,
    CASE
        WHEN s.CODE = '8715000' THEN 'elective'
        WHEN s.CODE IN ('50849002', '183460006') OR l.stay_id IS NOT NULL THEN 'emergency'
        ELSE 'unknown'
    END AS admission_type,
    CASE WHEN l.stay_id IS NOT NULL THEN 'emergency_room' ELSE 'unknown' END AS admission_source,
    CASE
        WHEN moment(p.DEATHDATE)::DATE BETWEEN s.begins_at::DATE AND s.ends_at::DATE THEN 'expired'
        WHEN w.class = 'snf' THEN 'skilled_nursing'
        WHEN w.class = 'hospice' THEN 'hospice'
        WHEN w.class = 'home' THEN 'home_health'
        ELSE 'unknown'
    END AS discharge_disposition,
    coalesce(d.SPECIALITY, d.SPECIALTY) AS service,
    NULL AS drg,
    CASE
        WHEN y.NAME ILIKE '%medicare%' OR y.NAME ILIKE '%dual eligible%' THEN 'medicare'
        WHEN y.NAME ILIKE '%medicaid%' THEN 'medicaid'
        WHEN y.NAME ILIKE 'no%insurance' THEN 'self_pay'
        WHEN y.NAME IS NOT NULL THEN 'commercial'
    END AS payer,
    CASE WHEN s.CODE = '8715000' THEN true END AS is_planned
FROM stays AS s
LEFT JOIN raw.patients AS p ON p.Id = s.PATIENT
LEFT JOIN raw.payers AS y ON y.Id = s.PAYER
LEFT JOIN raw.providers AS d ON d.Id = s.PROVIDER
LEFT JOIN (SELECT DISTINCT stay_id FROM led_to_stay) AS l ON l.stay_id = s.Id
LEFT JOIN went_to AS w ON w.stay_id = s.Id
