-- What was known on arrival (earlier utilisation, weight) is recorded at admission; everything else in the chart of the
-- stay is recorded at its discharge, the latest moment a prediction may use.
WITH diagnoses AS (
    SELECT
        stays.*,
        d.position,
        -- The release drops leading zeros ('38' is 038); V and E codes are complete.
        CASE WHEN regexp_matches(d.code, '^\d')
            THEN lpad(split_part(d.code, '.', 1), 3, '0') || regexp_extract(d.code, '\..*$')
            ELSE d.code
        END AS code
    FROM stays, (VALUES (1, diag_1), (2, diag_2), (3, diag_3)) AS d(position, code)
    WHERE d.code IS NOT NULL
),
facts AS (
    SELECT
        patient_nbr, encounter_id, discharged_at AS time, discharged_at AS recorded_at,
        'ICD9CM//' || code AS code,
        position::DOUBLE AS numeric_value,
        CASE position WHEN 1 THEN 'principal' ELSE 'secondary' END AS text_value
    FROM diagnoses
    QUALIFY row_number() OVER (PARTITION BY encounter_id, code ORDER BY position) = 1
    UNION ALL
    SELECT
        patient_nbr, encounter_id, discharged_at, discharged_at,
        'LOINC//' || l.code, NULL, l.result
    FROM stays, (VALUES ('4548-4', A1Cresult), ('2345-7', max_glu_serum)) AS l(code, result)
    WHERE l.result <> 'None'  -- the text 'None' means not measured
    UNION ALL
    SELECT
        patient_nbr, encounter_id, admitted_at, admitted_at,
        'LOINC//29463-7//kg',
        CASE weight WHEN '>200' THEN 200 ELSE 12.5 + regexp_extract(weight, '^\[(\d+)', 1)::DOUBLE END,
        weight
    FROM stays
    WHERE weight IS NOT NULL
    UNION ALL
    SELECT
        patient_nbr, encounter_id, admitted_at, discharged_at,
        'DRUG//' || m.name, NULL, lower(m.change)
    FROM stays, (VALUES
        ('metformin', metformin), ('repaglinide', repaglinide), ('nateglinide', nateglinide),
        ('chlorpropamide', chlorpropamide), ('glimepiride', glimepiride), ('acetohexamide', acetohexamide),
        ('glipizide', glipizide), ('glyburide', glyburide), ('tolbutamide', tolbutamide),
        ('pioglitazone', pioglitazone), ('rosiglitazone', rosiglitazone), ('acarbose', acarbose),
        ('miglitol', miglitol), ('troglitazone', troglitazone), ('tolazamide', tolazamide), ('examide', examide),
        ('citoglipton', citoglipton), ('insulin', insulin), ('glyburide-metformin', "glyburide-metformin"),
        ('glipizide-metformin', "glipizide-metformin"), ('glimepiride-pioglitazone', "glimepiride-pioglitazone"),
        ('metformin-rosiglitazone', "metformin-rosiglitazone"), ('metformin-pioglitazone', "metformin-pioglitazone")
    ) AS m(name, change)
    WHERE m.change <> 'No'
    UNION ALL
    SELECT
        patient_nbr, encounter_id, admitted_at, admitted_at,
        'SOURCE//' || c.name, c.n::DOUBLE, NULL
    FROM stays, (VALUES
        ('prior_inpatient_1y', number_inpatient), ('prior_emergency_1y', number_emergency),
        ('prior_outpatient_1y', number_outpatient)
    ) AS c(name, n)
    UNION ALL
    SELECT
        patient_nbr, encounter_id, admitted_at, discharged_at,
        'SOURCE//' || c.name, c.n::DOUBLE, NULL
    FROM stays, (VALUES
        ('lab_procedures', num_lab_procedures), ('procedures', num_procedures), ('medications', num_medications),
        ('diagnoses', number_diagnoses),
        ('medication_change', (change = 'Ch')::INTEGER::VARCHAR), ('diabetes_medication', (diabetesMed = 'Yes')::INTEGER::VARCHAR)
    ) AS c(name, n)
)
SELECT
    patient_nbr AS patient_id, encounter_id, time, recorded_at, code, numeric_value, text_value
FROM facts
