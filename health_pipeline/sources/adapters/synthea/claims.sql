-- Synthea knows no negotiated prices: allowed is what was charged less adjustments, but never less than what was paid (a
-- copayment can exceed a tiny charge). Payers pay by ECHECK, everything else comes from the patient. Denials do not occur.
WITH amounts AS (
    SELECT
        CLAIMID,
        sum(try_cast(AMOUNT AS DOUBLE)) FILTER (TYPE = 'CHARGE') AS charged,
        coalesce(sum(try_cast(ADJUSTMENTS AS DOUBLE)), 0) AS adjusted,
        coalesce(sum(try_cast(PAYMENTS AS DOUBLE)) FILTER (TYPE = 'PAYMENT' AND METHOD = 'ECHECK'), 0) AS payer_paid,
        coalesce(sum(try_cast(PAYMENTS AS DOUBLE)) FILTER (TYPE = 'PAYMENT' AND METHOD <> 'ECHECK'), 0) AS patient_paid,
        min(moment(FROMDATE)) AS service_from,
        max(moment(TODATE)) AS service_to
    FROM raw.transactions
    GROUP BY CLAIMID
),
billed AS (
    SELECT
        c.Id AS claim_id,
        c.APPOINTMENTID AS encounter_id,
        c.PATIENTID AS patient_id,
        coalesce(moment(c.SERVICEDATE), a.service_from) AS service_from,
        greatest(coalesce(a.service_to, moment(c.SERVICEDATE)), coalesce(moment(c.SERVICEDATE), a.service_from)) AS service_to,
        greatest(moment(c.LASTBILLEDDATE1), moment(c.LASTBILLEDDATE2), moment(c.LASTBILLEDDATEP)) AS billed_at,
        a.charged,
        greatest(a.charged - a.adjusted, a.payer_paid + a.patient_paid) AS allowed,
        a.payer_paid,
        a.patient_paid
    FROM raw.claims AS c
    JOIN amounts AS a ON a.CLAIMID = c.Id
    UNION ALL
    SELECT
        Id, Id, PATIENT, begins_at, ends_at, ends_at,
        try_cast(TOTAL_CLAIM_COST AS DOUBLE),
        try_cast(TOTAL_CLAIM_COST AS DOUBLE),
        try_cast(PAYER_COVERAGE AS DOUBLE),
        try_cast(TOTAL_CLAIM_COST AS DOUBLE) - try_cast(PAYER_COVERAGE AS DOUBLE)
    FROM encounters
    WHERE TOTAL_CLAIM_COST IS NOT NULL
        AND ((SELECT count(*) FROM raw.claims) = 0 OR (SELECT count(*) FROM raw.transactions) = 0)
)
SELECT
    claim_id, encounter_id, patient_id, service_from, service_to,
    greatest(billed_at, service_to) + to_days(getvariable('claim_lag_days')::INTEGER) AS processed_at,
    round(charged, 2) AS charged, round(allowed, 2) AS allowed, round(payer_paid, 2) AS payer_paid,
    round(patient_paid, 2) AS patient_paid, NULL::BOOLEAN AS denied
FROM billed
