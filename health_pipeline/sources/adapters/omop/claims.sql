-- What a cost belongs to, by domain: its person, visit and days. Costs of an event that is not there have no date and are
-- reported as left out.
WITH events AS (
    SELECT 'visit' AS domain, visit_id AS event_id, person_id, visit_id, begins_at, ends_at FROM visits
    UNION ALL
    SELECT 'drug', id(drug_exposure_id), id(person_id), id(visit_occurrence_id),
        happened(drug_exposure_start_datetime, drug_exposure_start_date),
        happened(drug_exposure_start_datetime, drug_exposure_start_date)
    FROM raw.drug_exposure
    UNION ALL
    SELECT 'procedure', id(procedure_occurrence_id), id(person_id), id(visit_occurrence_id),
        happened(procedure_datetime, procedure_date), happened(procedure_datetime, procedure_date)
    FROM raw.procedure_occurrence
    UNION ALL
    SELECT 'measurement', id(measurement_id), id(person_id), id(visit_occurrence_id),
        happened(measurement_datetime, measurement_date), happened(measurement_datetime, measurement_date)
    FROM raw.measurement
    UNION ALL
    SELECT 'observation', id(observation_id), id(person_id), id(visit_occurrence_id),
        happened(observation_datetime, observation_date), happened(observation_datetime, observation_date)
    FROM raw.observation
)
SELECT
    id(c.cost_id) AS claim_id,
    e.visit_id AS encounter_id,
    e.person_id AS patient_id,
    e.begins_at AS service_from,
    e.ends_at AS service_to,
    e.ends_at + to_days(getvariable('claim_lag_days')::INTEGER) AS processed_at,
    coalesce(c.total_charge, c.total_cost) AS charged,
    coalesce(c.amount_allowed, c.total_paid) AS allowed,
    c.paid_by_payer AS payer_paid,
    c.paid_by_patient AS patient_paid
FROM raw.cost AS c
LEFT JOIN events AS e ON e.domain = lower(c.cost_domain_id) AND e.event_id = id(c.cost_event_id)
