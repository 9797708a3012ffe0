-- One row per stay with its pseudo-dates; '?' means missing everywhere in this release, nothing at all in copies of it.
CREATE TABLE stays AS
WITH nodes AS (
    SELECT
        id::BIGINT AS id,
        ts::TIMESTAMP AS ts,
        lead(id::BIGINT) OVER (ORDER BY id::BIGINT) AS next_id,
        lead(ts::TIMESTAMP) OVER (ORDER BY id::BIGINT) AS next_ts
    FROM raw.nodes
),
dated AS (
    SELECT
        s.*,
        date_trunc('second', n.ts + coalesce(
            (s.encounter_id::BIGINT - n.id) / (n.next_id - n.id)::DOUBLE * (n.next_ts - n.ts), INTERVAL 0 SECOND
        )) AS admitted_at
    FROM (SELECT nullif(nullif(trim(COLUMNS(*)), '?'), '') FROM raw.stays) AS s
    ASOF JOIN nodes AS n ON s.encounter_id::BIGINT >= n.id
    WHERE getvariable('all_stays') OR s.encounter_id::BIGINT < 287186685
)
SELECT *, admitted_at + to_days(time_in_hospital::INTEGER) AS discharged_at
FROM dated;
