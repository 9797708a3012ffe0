-- What never changes is recorded at the first encounter, the state of the export at the last one, a death the day after.
WITH contact AS (
    SELECT PATIENT, min(begins_at) AS first_at, max(begins_at) AS last_at FROM encounters GROUP BY PATIENT
),
people AS (
    SELECT
        p.Id,
        moment(p.BIRTHDATE)::DATE AS birth_date,
        CASE upper(p.GENDER) WHEN 'F' THEN 'female' WHEN 'M' THEN 'male' ELSE 'unknown' END AS sex,
        p.RACE AS race,
        CASE replace(lower(p.ETHNICITY), '-', '') WHEN 'nonhispanic' THEN 'not hispanic' ELSE lower(p.ETHNICITY) END AS ethnicity,
        CASE upper(p.MARITAL)
            WHEN 'M' THEN 'married' WHEN 'S' THEN 'single' WHEN 'D' THEN 'divorced' WHEN 'W' THEN 'widowed'
        END AS marital_status,
        CASE WHEN regexp_full_match(p.ZIP, '\d{3,4}(\.0)?') THEN lpad(regexp_replace(p.ZIP, '\.0$', ''), 5, '0') ELSE p.ZIP END[1:3] AS zip3,
        nullif(p.INCOME, '') AS income,
        moment(p.DEATHDATE)::DATE AS deceased_on,
        coalesce(c.first_at, moment(p.BIRTHDATE)) AS first_at,
        c.last_at
    FROM raw.patients AS p
    LEFT JOIN contact AS c ON c.PATIENT = p.Id
)
SELECT Id AS patient_id, birth_date, sex, race, ethnicity, NULL AS language, NULL AS marital_status, NULL AS zip3,
    NULL AS income, NULL::DATE AS deceased_on, first_at AS recorded_at
FROM people
UNION ALL
SELECT Id, birth_date, sex, race, ethnicity, NULL, marital_status, zip3, income, NULL, last_at
FROM people
WHERE last_at > first_at
UNION ALL
SELECT Id, birth_date, sex, race, ethnicity, NULL, marital_status, zip3, income, deceased_on,
    greatest(deceased_on + INTERVAL 1 DAY, coalesce(last_at, first_at) + INTERVAL 1 SECOND)
FROM people
WHERE deceased_on IS NOT NULL
