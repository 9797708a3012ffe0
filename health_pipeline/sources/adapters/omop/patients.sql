-- What never changes is recorded at the first visit, the place of living (as of the export) at the last, a death the day after.
WITH contact AS (
    SELECT person_id, min(begins_at) AS first_at, max(begins_at) AS last_at FROM visits GROUP BY person_id
),
people AS (
    SELECT
        id(p.person_id) AS person_id,
        coalesce(
            moment(p.birth_datetime)::DATE,
            try_cast(printf('%s-%s-%s', id(p.year_of_birth), lpad(coalesce(id(p.month_of_birth), '7'), 2, '0'),
                lpad(coalesce(id(p.day_of_birth), '1'), 2, '0')) AS DATE)
        ) AS birth_date,
        CASE id(p.gender_concept_id) WHEN '8507' THEN 'male' WHEN '8532' THEN 'female' ELSE 'unknown' END AS sex,
        CASE id(p.race_concept_id)
            WHEN '8527' THEN 'white' WHEN '8516' THEN 'black' WHEN '8515' THEN 'asian'
            WHEN '8557' THEN 'hawaiian' WHEN '8657' THEN 'native' ELSE nullif(p.race_source_value, '0')
        END AS race,
        CASE id(p.ethnicity_concept_id)
            WHEN '38003563' THEN 'hispanic' WHEN '38003564' THEN 'not hispanic' ELSE nullif(p.ethnicity_source_value, '0')
        END AS ethnicity,
        -- a data frame loses the leading zero
        CASE WHEN regexp_full_match(id(l.zip), '\d{3,4}') THEN lpad(id(l.zip), 5, '0') ELSE l.zip END[1:3] AS zip3,
        d.died_on,
        c.first_at,
        c.last_at
    FROM raw.person AS p
    LEFT JOIN raw.location AS l ON id(l.location_id) = id(p.location_id)
    LEFT JOIN contact AS c ON c.person_id = id(p.person_id)
    LEFT JOIN deaths AS d ON d.person_id = id(p.person_id)
)
SELECT person_id AS patient_id, birth_date, sex, race, ethnicity, NULL AS zip3, NULL::DATE AS deceased_on,
    coalesce(first_at, birth_date) AS recorded_at
FROM people
UNION ALL
SELECT person_id, birth_date, sex, race, ethnicity, zip3, NULL, last_at
FROM people
WHERE last_at > first_at AND zip3 IS NOT NULL
UNION ALL
SELECT person_id, birth_date, sex, race, ethnicity, zip3, died_on,
    greatest(died_on + INTERVAL 1 DAY, coalesce(last_at, birth_date) + INTERVAL 1 SECOND)
FROM people
WHERE died_on IS NOT NULL
