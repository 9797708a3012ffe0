-- Concepts of the Visit and Place of Service domains; 0 and unknown ones become 'unknown'.
WITH payers AS (
    SELECT
        v.visit_id,
        max_by(p.payer_source_value || ' ' || coalesce(c.name, ''), moment(p.payer_plan_period_start_date)) AS name
    FROM visits AS v
    JOIN raw.payer_plan_period AS p ON id(p.person_id) = v.person_id
        AND v.begins_at::DATE BETWEEN moment(p.payer_plan_period_start_date)::DATE AND moment(p.payer_plan_period_end_date)::DATE
    LEFT JOIN codes AS c ON c.concept_id = id(p.payer_concept_id)
    WHERE v.is_stay
    GROUP BY v.visit_id
),
drgs AS (
    SELECT id(cost_event_id) AS visit_id, max(drg_source_value) AS drg
    FROM raw.cost
    WHERE lower(cost_domain_id) = 'visit'
    GROUP BY ALL
)
SELECT
    v.visit_id AS encounter_id,
    v.person_id AS patient_id,
    v.care_site_id AS facility_id,
    v.begins_at AS admitted_at,
    v.ends_at AS discharged_at,
    CASE WHEN v.concept = 262 OR v.came_from IN (9203, 8870) OR l.stay_id IS NOT NULL THEN 'emergency' ELSE 'unknown' END
        AS admission_type,
    CASE
        WHEN v.concept = 262 OR v.came_from IN (9203, 8870) OR l.stay_id IS NOT NULL THEN 'emergency_room'
        WHEN v.came_from IN (9201, 8717) THEN 'transfer_acute'
        WHEN v.came_from IN (8863, 8676, 42898160) THEN 'transfer_skilled_nursing'
        WHEN v.came_from IN (8920, 8970, 8971, 8546) THEN 'transfer_other'
        WHEN v.came_from IN (9202, 8756, 8940, 8716) THEN 'clinic_referral'
        WHEN v.came_from IN (8536, 581476) THEN 'physician_referral'
        WHEN v.came_from > 0 THEN 'other'
        ELSE 'unknown'
    END AS admission_source,
    CASE
        WHEN d.died_on BETWEEN v.begins_at::DATE AND v.ends_at::DATE OR v.went_to IN (4216643, 44814650) THEN 'expired'
        WHEN v.went_to IN (8536, 9202, 8756, 8940) THEN 'home'
        WHEN v.went_to IN (581476, 38004519) THEN 'home_health'
        WHEN v.went_to IN (8863, 42898160) THEN 'skilled_nursing'
        WHEN v.went_to IN (8676, 8827, 8951) THEN 'intermediate_care'
        WHEN v.went_to = 8920 THEN 'rehabilitation'
        WHEN v.went_to = 8970 THEN 'long_term_care'
        WHEN v.went_to IN (9201, 8717, 9203, 8870) THEN 'acute_transfer'
        WHEN v.went_to IN (8971, 8913) THEN 'psychiatric'
        WHEN v.went_to IN (4021968, 44814693) THEN 'against_advice'
        WHEN v.went_to IN (8546, 38003567) THEN 'hospice'
        WHEN v.went_to > 0 THEN 'other'
        ELSE 'unknown'
    END AS discharge_disposition,
    g.drg,
    CASE
        WHEN p.name ILIKE '%medicare%' THEN 'medicare'
        WHEN p.name ILIKE '%medicaid%' THEN 'medicaid'
        WHEN p.name ILIKE '%self%pay%' OR p.name ILIKE '%no%insurance%' THEN 'self_pay'
        WHEN trim(p.name) <> '' THEN 'commercial'
    END AS payer
FROM visits AS v
LEFT JOIN deaths AS d ON d.person_id = v.person_id
LEFT JOIN (SELECT DISTINCT stay_id FROM led_to_stay) AS l ON l.stay_id = v.visit_id
LEFT JOIN payers AS p ON p.visit_id = v.visit_id
LEFT JOIN drgs AS g ON g.visit_id = v.visit_id
WHERE v.is_stay
