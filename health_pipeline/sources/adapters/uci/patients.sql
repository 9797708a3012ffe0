-- One row per patient and month of admission, recorded at the first admission of the month. The release gives age in
-- bands of ten years: the birth date is set so that the patient has the middle of the band ([70-80): 75) at that admission.
SELECT
    patient_nbr AS patient_id,
    (admitted_at - to_years(5 + regexp_extract(age, '\d+')::INTEGER))::DATE AS birth_date,
    CASE gender WHEN 'Female' THEN 'female' WHEN 'Male' THEN 'male' ELSE 'unknown' END AS sex,
    CASE race
        WHEN 'Caucasian' THEN 'white'
        WHEN 'AfricanAmerican' THEN 'black'
        ELSE lower(race)
    END AS race,
    NULL::VARCHAR AS ethnicity,
    NULL::VARCHAR AS language,
    NULL::VARCHAR AS marital_status,
    NULL::VARCHAR AS zip3,
    NULL::DOUBLE AS income,
    NULL::DATE AS deceased_on,
    admitted_at AS recorded_at
FROM stays
QUALIFY row_number() OVER (PARTITION BY patient_nbr, date_trunc('month', admitted_at) ORDER BY admitted_at, encounter_id) = 1
