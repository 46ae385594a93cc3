DELETE FROM credentials WHERE seq = ANY ($1::bigint[])
DELETE FROM events WHERE seq = ANY ($1::bigint[])
DELETE FROM expiries AS e USING (SELECT due_at, seq FROM expiries WHERE due_at <= $1 ORDER BY due_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED) AS due WHERE e.due_at = due.due_at AND e.seq = due.seq RETURNING e.seq, e.kind
DELETE FROM expiries WHERE due_at = $2 AND seq = $1
DELETE FROM idempotency_keys AS k USING operations o WHERE k.digest = o.key_digest AND k.seq = o.seq AND o.seq = ANY ($1::bigint[])
DELETE FROM operations WHERE seq = ANY ($1::bigint[])
DELETE FROM outcomes WHERE seq = ANY ($1::bigint[])
DELETE FROM pieces WHERE body = ANY ($1)
DELETE FROM ready WHERE seq = $1 RETURNING *
DELETE FROM ready WHERE seq = ANY (ARRAY (SELECT r.seq FROM UNNEST($1::bigint[], $2::bigint[], $4::bigint[]) AS want (lane, most, low) CROSS JOIN LATERAL (SELECT seq FROM ready WHERE lane = want.lane AND due_at >= want.low AND due_at <= $3 ORDER BY due_at, seq LIMIT want.most FOR UPDATE SKIP LOCKED) AS r)) RETURNING *
DELETE FROM ready WHERE seq = ANY (ARRAY (SELECT r.seq FROM ready r JOIN operations o ON o.seq = r.seq WHERE r.lane = $1 AND o.deadline_at <= $2 LIMIT $3 FOR UPDATE OF r SKIP LOCKED)) RETURNING *
DELETE FROM serial_keys WHERE digest = ANY ($1::bytea[])
DELETE FROM tags AS t USING ( SELECT * FROM UNNEST($1::text[], $2::bigint[]) ) AS gone (tag, seq) WHERE t.tag = gone.tag AND t.seq = gone.seq
DELETE FROM waiting WHERE seq = $1 RETURNING *
DELETE FROM waiting WHERE seq = ANY ($1::bigint[])
INSERT INTO credentials (seq, fields) SELECT * FROM UNNEST($1::bigint[], $2::bytea[])
INSERT INTO events (seq, sequence, at, kind, attempt, status, code, next_at, percent, message) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[], $10::text[])
INSERT INTO expiries (due_at, seq, kind) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[])
INSERT INTO expiries (due_at, seq, kind) SELECT finished_at + $2, seq, 'operation' FROM outcomes WHERE seq = ANY ($1)
INSERT INTO idempotency_keys (digest, fingerprint, scope, seq) SELECT * FROM UNNEST($1::bytea[], $2::bytea[], $3::text[], $4::bigint[]) AS k (digest, fingerprint, scope, seq) ORDER BY k.digest ON CONFLICT (digest) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, scope = EXCLUDED.scope, seq = EXCLUDED.seq WHERE idempotency_keys.scope = 'pending' AND EXISTS (SELECT 1 FROM outcomes x WHERE x.seq = idempotency_keys.seq) RETURNING digest
INSERT INTO lanes (queue, upstream, express) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
INSERT INTO ledger (one, number, ticket_key, created_at) VALUES (1, $1, $2, $3) ON CONFLICT DO NOTHING
INSERT INTO nodes (name, version, started_at) VALUES ('local', $1, $2) RETURNING incarnation
INSERT INTO operations (seq, id, accepted_at, principal, route, lane, method, target, task, delivery, timeout_us, deadline_at, retry_attempts, retry_min_us, retry_max_us, first_is_final, due_at, upstream_key, key_digest, serial_digest, serial_key, parent, root, retry_of, client_reference, tags) SELECT * FROM UNNEST($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::boolean[], $17::bigint[], $18::text[], $19::bytea[], $20::bytea[], $21::text[], $22::bytea[], $23::bytea[], $24::bytea[], $25::text[], $26::text[])
INSERT INTO outcomes (seq, state, finished_at, expires_at, freed_at, attempts, resumes, rescues, refusals, sequence, started_at, percent, message, response_status, created_location, error_code, error_cause, error_status) SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::bigint[], $15::text[], $16::text[], $17::text[], $18::bigint[])
INSERT INTO pieces (body, number, octets) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[]) ON CONFLICT (body, number) DO UPDATE SET octets = EXCLUDED.octets
INSERT INTO ready (seq, lane, due_at, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[])
INSERT INTO requests (seq, fields, body, body_key, body_length) SELECT * FROM UNNEST($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[])
INSERT INTO results (seq, fields, body, body_key, body_length) SELECT * FROM UNNEST($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[])
INSERT INTO running (seq, lane, node, since, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[])
INSERT INTO serial_keys (digest, seq) SELECT digest, 0 FROM UNNEST($1::bytea[]) AS wanted (digest) ORDER BY digest ON CONFLICT (digest) DO UPDATE SET seq = serial_keys.seq RETURNING digest, seq
INSERT INTO tags (tag, seq) SELECT * FROM UNNEST($1::text[], $2::bigint[]) ON CONFLICT DO NOTHING
INSERT INTO waiting (seq, lane, waiting_for, due_at, version, continuation, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::text[])
INSERT INTO waiting (seq, lane, waiting_for, serial_digest, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[])
SELECT accepted_at FROM operations WHERE id = $1
SELECT count(*) AS waiting FROM waiting
SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commits
SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint AS room, (SELECT count(DISTINCT application_name) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'cloakroom node %') AS others
SELECT e.* FROM events e WHERE e.seq = (SELECT seq FROM operations WHERE id = $1) AND e.sequence > $2 ORDER BY e.sequence LIMIT $3
SELECT id, principal, root FROM operations WHERE id = ANY ($1)
SELECT k.digest, k.fingerprint, o.id FROM idempotency_keys k JOIN operations o ON o.seq = k.seq WHERE k.digest = ANY ($1)
SELECT lane, count(*) AS depth, min(due_at) AS oldest FROM ready GROUP BY lane
SELECT lane, queue, upstream, express FROM lanes
SELECT nextval('operations_order') AS seq FROM generate_series(1, 1)
SELECT number, ticket_key FROM ledger
SELECT o.*, q.fields, NULL::bytea AS credentials, q.body, q.body_key, q.body_length FROM operations o LEFT JOIN requests q ON q.seq = o.seq WHERE o.id = $1
SELECT o.id FROM running u JOIN operations o ON o.seq = u.seq WHERE u.node = $1 AND u.cancel > 0
SELECT o.id, coalesce(x.sequence, u.sequence, r.sequence, w.sequence) AS sequence FROM operations o LEFT JOIN outcomes x ON x.seq = o.seq LEFT JOIN running u ON u.seq = o.seq LEFT JOIN ready r ON r.seq = o.seq LEFT JOIN waiting w ON w.seq = o.seq WHERE o.id = ANY ($1)
SELECT o.id, o.principal, o.accepted_at, o.route, l.queue, l.upstream, o.method, o.target, o.task, o.delivery, o.deadline_at, o.tags, o.client_reference, o.parent, o.retry_of, CASE WHEN x.seq IS NOT NULL THEN x.state WHEN u.seq IS NOT NULL THEN 'running' WHEN r.seq IS NOT NULL THEN 'queued' ELSE 'waiting' END AS status, coalesce(x.attempts, u.attempts, r.attempts, w.attempts) AS attempts, coalesce(x.resumes, u.resumes, r.resumes, w.resumes) AS resumes, coalesce(x.rescues, u.rescues, r.rescues, w.rescues) AS rescues, coalesce(x.refusals, u.refusals, r.refusals, w.refusals) AS refusals, coalesce(x.sequence, u.sequence, r.sequence, w.sequence) AS sequence, coalesce(x.started_at, u.started_at, r.started_at, w.started_at) AS started_at, coalesce(x.percent, u.percent, r.percent, w.percent) AS percent, coalesce(x.message, u.message, r.message, w.message) AS message, coalesce(r.due_at, w.due_at) AS due, u.since, w.waiting_for, x.finished_at, x.expires_at, x.freed_at, x.response_status, x.created_location, x.error_code, x.error_cause, x.error_status FROM operations o JOIN lanes l ON l.lane = o.lane LEFT JOIN outcomes x ON x.seq = o.seq LEFT JOIN running u ON u.seq = o.seq LEFT JOIN ready r ON r.seq = o.seq LEFT JOIN waiting w ON w.seq = o.seq WHERE o.id = ANY ($1::bytea[])
SELECT o.seq, o.id, o.accepted_at, o.route, o.method, o.target, o.task, o.delivery, o.timeout_us, o.deadline_at, o.retry_attempts, o.retry_min_us, o.retry_max_us, o.first_is_final, o.upstream_key, o.serial_digest, q.fields, q.body, q.body_key, q.body_length, c.fields AS credentials FROM operations o LEFT JOIN requests q ON q.seq = o.seq LEFT JOIN credentials c ON c.seq = o.seq WHERE o.seq = ANY ($1)
SELECT octets FROM pieces WHERE body = $1 AND number = $2
SELECT pg_notify($1, $2)
SELECT seq, serial_digest FROM operations WHERE id = $1
SELECT seq, tags FROM operations WHERE seq = ANY ($1) AND tags IS NOT NULL
SELECT state FROM outcomes WHERE seq = $1
SELECT u.seq, u.sequence, u.attempts, u.progress_at FROM running u JOIN operations o ON o.seq = u.seq WHERE o.id = $1 AND u.attempts = $2 FOR UPDATE OF u
SELECT w.*, o.id, o.due_at AS not_before FROM UNNEST($1::bytea[]) AS freed (digest) CROSS JOIN LATERAL (SELECT * FROM waiting WHERE serial_digest = freed.digest ORDER BY seq LIMIT 1) AS w JOIN operations o ON o.seq = w.seq
SELECT w.seq, w.sequence, w.attempts, (SELECT max(at) FROM events e WHERE e.seq = w.seq AND e.kind = 'progressed') AS progress_at FROM waiting w JOIN operations o ON o.seq = w.seq WHERE o.id = $1 AND w.attempts = $2 AND w.waiting_for = 'upstream' FOR UPDATE OF w
SELECT want.lane, head.due_at FROM UNNEST($1::bigint[], $2::bigint[]) AS want (lane, low) LEFT JOIN LATERAL (SELECT due_at FROM ready WHERE lane = want.lane AND due_at >= want.low ORDER BY due_at, seq LIMIT 1) AS head ON true
SELECT x.response_status, x.created_location, q.fields, q.body, q.body_key, q.body_length FROM operations o JOIN outcomes x ON x.seq = o.seq JOIN results q ON q.seq = o.seq WHERE o.id = $1
SELECT x.seq, x.expires_at, x.freed_at FROM outcomes x JOIN operations o ON o.seq = x.seq WHERE o.id = $1 FOR UPDATE OF x
UPDATE outcomes SET freed_at = $2 WHERE seq = ANY ($1) RETURNING seq, finished_at
UPDATE running SET cancel = greatest(cancel, $2) WHERE seq = $1 RETURNING seq
UPDATE running SET sequence = $2, percent = coalesce($3, percent), message = coalesce($4, message), progress_at = $5 WHERE seq = $1
UPDATE running SET token = token + 1, node = $1, since = $2 WHERE seq = ANY (ARRAY (SELECT seq FROM running WHERE node = ANY ($3) ORDER BY seq LIMIT $4 FOR UPDATE SKIP LOCKED)) RETURNING *
UPDATE serial_keys AS k SET seq = h.seq FROM UNNEST($1::bytea[], $2::bigint[]) AS h (digest, seq) WHERE k.digest = h.digest
UPDATE waiting SET sequence = $2, percent = coalesce($3, percent), message = coalesce($4, message) WHERE seq = $1 AND $5::bigint IS NOT NULL
UPDATE waiting SET token = token + 1, due_at = $1 WHERE seq = ANY (ARRAY (SELECT seq FROM waiting WHERE due_at <= $2 ORDER BY due_at, seq LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING *
WITH RECURSIVE below (id) AS (SELECT o.id FROM operations o WHERE o.root = (SELECT coalesce(root, id) FROM operations WHERE id = $1) AND o.parent = $1 UNION SELECT o.id FROM below b JOIN operations o ON o.parent = b.id AND o.root = (SELECT coalesce(root, id) FROM operations WHERE id = $1)) SELECT id FROM below ORDER BY id LIMIT $2
WITH held AS MATERIALIZED (SELECT r.seq FROM running r JOIN UNNEST($1::bigint[], $2::bigint[]) AS lease (seq, token) ON r.seq = lease.seq AND r.token = lease.token ORDER BY r.seq FOR UPDATE OF r) DELETE FROM running AS r USING held WHERE r.seq = held.seq RETURNING r.*
WITH held AS MATERIALIZED (SELECT w.seq FROM waiting w JOIN UNNEST($1::bigint[], $2::bigint[]) AS lease (seq, token) ON w.seq = lease.seq AND w.token = lease.token ORDER BY w.seq FOR UPDATE OF w) DELETE FROM waiting AS w USING held WHERE w.seq = held.seq RETURNING w.*, 0::bigint AS cancel
WITH looked AS MATERIALIZED (SELECT * FROM operations WHERE id < $1 ORDER BY id DESC LIMIT $2) (SELECT o.id, NULL::bytea AS last, NULL::bigint AS looked_at FROM looked o WHERE ($3::bytea IS NULL OR o.principal = $3) AND ($4::text IS NULL OR o.route = $4) AND ($5::text IS NULL OR o.lane IN (SELECT lane FROM lanes WHERE queue = $5)) AND ($6::text IS NULL OR EXISTS (SELECT 1 FROM tags t WHERE t.tag = $6 AND t.seq = o.seq)) AND ($7::bigint IS NULL OR o.accepted_at >= $7) AND ($8::bigint IS NULL OR o.accepted_at < $8) AND CASE $9::text WHEN 'queued' THEN EXISTS (SELECT 1 FROM ready WHERE seq = o.seq) WHEN 'running' THEN EXISTS (SELECT 1 FROM running WHERE seq = o.seq) WHEN 'waiting' THEN EXISTS (SELECT 1 FROM waiting WHERE seq = o.seq) ELSE $9 IS NULL OR EXISTS (SELECT 1 FROM outcomes WHERE seq = o.seq AND state = $9) END ORDER BY o.id DESC LIMIT $10) UNION ALL SELECT NULL, (SELECT id FROM looked ORDER BY id LIMIT 1), (SELECT count(*) FROM looked)
WITH request AS (DELETE FROM requests WHERE seq = ANY ($1) RETURNING body_key), result AS (DELETE FROM results WHERE seq = ANY ($1) RETURNING body_key) SELECT body_key FROM request WHERE body_key IS NOT NULL UNION ALL SELECT body_key FROM result WHERE body_key IS NOT NULL
