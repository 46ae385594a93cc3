DELETE FROM credentials WHERE seq = ?
DELETE FROM events WHERE seq = ?1
DELETE FROM expiries WHERE (due_at, seq) IN (SELECT due_at, seq FROM expiries WHERE due_at <= ? ORDER BY due_at, seq LIMIT ?) RETURNING seq, kind
DELETE FROM expiries WHERE due_at = ?2 AND seq = ?1
DELETE FROM idempotency_keys WHERE seq = ?1 AND digest = (SELECT key_digest FROM operations WHERE seq = ?1)
DELETE FROM operations WHERE seq = ?1
DELETE FROM outcomes WHERE seq = ?1
DELETE FROM pieces WHERE body = ?
DELETE FROM pieces WHERE body NOT IN (SELECT body_key FROM requests WHERE body_key IS NOT NULL) AND body NOT IN (SELECT body_key FROM results WHERE body_key IS NOT NULL)
DELETE FROM ready WHERE seq = ?
DELETE FROM ready WHERE seq = ? RETURNING *
DELETE FROM requests WHERE seq = ? RETURNING body_key
DELETE FROM results WHERE seq = ? RETURNING body_key
DELETE FROM running WHERE seq = ? AND token = ? RETURNING *
DELETE FROM serial_keys WHERE digest = ? AND seq = ?
DELETE FROM tags WHERE tag = ? AND seq = ?
DELETE FROM waiting WHERE seq = ?
DELETE FROM waiting WHERE seq = ? AND token = ? RETURNING *, 0 AS cancel
DELETE FROM waiting WHERE seq = ? RETURNING *
INSERT INTO credentials (seq, fields) VALUES (?, ?)
INSERT INTO events (seq, sequence, at, kind, attempt, status, code, next_at, percent, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
INSERT INTO expiries (due_at, seq, kind) VALUES (?, ?, ?)
INSERT INTO expiries (due_at, seq, kind) VALUES (?2, ?1, 'operation')
INSERT INTO nodes (name, version, started_at) VALUES ('local', ?, ?)
INSERT INTO operations (seq, id, accepted_at, principal, route, lane, method, target, delivery, timeout_us, deadline_at, retry_attempts, retry_min_us, retry_max_us, first_is_final, due_at, task, upstream_key, key_digest, serial_digest, serial_key, parent, root, retry_of, client_reference, tags) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
INSERT INTO outcomes (seq, state, finished_at, expires_at, freed_at, attempts, resumes, rescues, refusals, sequence, started_at, percent, message, response_status, created_location, error_code, error_cause, error_status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
INSERT INTO ready (seq, lane, due_at, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
INSERT INTO requests (seq, fields, body, body_key, body_length) VALUES (?, ?, ?, ?, ?)
INSERT INTO results (seq, fields, body, body_key, body_length) VALUES (?, ?, ?, ?, ?)
INSERT INTO running (seq, lane, node, since, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
INSERT INTO serial_keys (digest, seq) VALUES (?, ?)
INSERT INTO waiting (seq, lane, waiting_for, due_at, serial_digest, version, continuation, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
INSERT INTO waiting (seq, lane, waiting_for, due_at, version, continuation, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
INSERT OR IGNORE INTO lanes (queue, upstream, express) VALUES (?, ?, ?)
INSERT OR IGNORE INTO ledger (one, number, ticket_key, created_at) VALUES (1, ?, ?, ?)
INSERT OR IGNORE INTO tags (tag, seq) VALUES (?, ?)
INSERT OR REPLACE INTO idempotency_keys (digest, fingerprint, scope, seq) VALUES (?, ?, ?, ?)
INSERT OR REPLACE INTO pieces (body, number, octets) VALUES (?, ?, ?)
SELECT DISTINCT node FROM running
SELECT accepted_at FROM operations WHERE id = ?
SELECT coalesce(max(seq), 0) FROM operations
SELECT count(*) AS waiting FROM waiting
SELECT digest FROM serial_keys WHERE digest = ?
SELECT due_at FROM ready WHERE lane = ? ORDER BY due_at, seq LIMIT 1
SELECT e.* FROM events e WHERE e.seq = (SELECT seq FROM operations WHERE id = ?) AND e.sequence > ? ORDER BY e.sequence LIMIT ?
SELECT finished_at FROM outcomes WHERE seq = ?
SELECT id, principal, root FROM operations WHERE id = ?
SELECT k.digest, k.fingerprint, k.scope, o.id, x.seq IS NOT NULL AS finished FROM idempotency_keys k JOIN operations o ON o.seq = k.seq LEFT JOIN outcomes x ON x.seq = k.seq WHERE k.digest = ?
SELECT lane, count(*) AS depth, min(due_at) AS oldest FROM ready GROUP BY lane
SELECT lane, queue, upstream, express FROM lanes
SELECT number, ticket_key FROM ledger
SELECT o.*, q.fields, NULL AS credentials, q.body, q.body_key, q.body_length FROM operations o LEFT JOIN requests q ON q.seq = o.seq WHERE o.id = ?
SELECT o.id, o.principal, o.accepted_at, o.route, l.queue, l.upstream, o.method, o.target, o.task, o.delivery, o.deadline_at, o.tags, o.client_reference, o.parent, o.retry_of, CASE WHEN x.seq IS NOT NULL THEN x.state WHEN u.seq IS NOT NULL THEN 'running' WHEN r.seq IS NOT NULL THEN 'queued' ELSE 'waiting' END AS status, coalesce(x.attempts, u.attempts, r.attempts, w.attempts) AS attempts, coalesce(x.resumes, u.resumes, r.resumes, w.resumes) AS resumes, coalesce(x.rescues, u.rescues, r.rescues, w.rescues) AS rescues, coalesce(x.refusals, u.refusals, r.refusals, w.refusals) AS refusals, coalesce(x.sequence, u.sequence, r.sequence, w.sequence) AS sequence, coalesce(x.started_at, u.started_at, r.started_at, w.started_at) AS started_at, coalesce(x.percent, u.percent, r.percent, w.percent) AS percent, coalesce(x.message, u.message, r.message, w.message) AS message, coalesce(r.due_at, w.due_at) AS due, u.since, w.waiting_for, x.finished_at, x.expires_at, x.freed_at, x.response_status, x.created_location, x.error_code, x.error_cause, x.error_status FROM operations o JOIN lanes l ON l.lane = o.lane LEFT JOIN outcomes x ON x.seq = o.seq LEFT JOIN running u ON u.seq = o.seq LEFT JOIN ready r ON r.seq = o.seq LEFT JOIN waiting w ON w.seq = o.seq WHERE o.id IN (?, ?)
SELECT o.seq, o.id, o.accepted_at, o.route, o.method, o.target, o.task, o.delivery, o.timeout_us, o.deadline_at, o.retry_attempts, o.retry_min_us, o.retry_max_us, o.first_is_final, o.upstream_key, o.serial_digest, q.fields, q.body, q.body_key, q.body_length, c.fields AS credentials FROM operations o LEFT JOIN requests q ON q.seq = o.seq LEFT JOIN credentials c ON c.seq = o.seq WHERE o.seq = ?
SELECT o.seq, o.serial_digest, x.state, u.seq IS NOT NULL AS running FROM operations o LEFT JOIN outcomes x ON x.seq = o.seq LEFT JOIN running u ON u.seq = o.seq WHERE o.id = ?
SELECT octets FROM pieces WHERE body = ? AND number = ?
SELECT r.* FROM ready r JOIN operations o ON o.seq = r.seq WHERE r.lane = ? AND o.deadline_at <= ? LIMIT ?
SELECT seq, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message FROM ready WHERE lane = ? AND due_at <= ? ORDER BY due_at, seq LIMIT ?
SELECT tags FROM operations WHERE seq = ?
SELECT u.seq, u.sequence, u.attempts, u.progress_at FROM running u JOIN operations o ON o.seq = u.seq WHERE o.id = ? AND u.attempts = ?
SELECT w.*, o.id, o.due_at AS not_before FROM waiting w JOIN operations o ON o.seq = w.seq WHERE w.serial_digest = ? ORDER BY w.seq LIMIT 1
SELECT w.seq, w.sequence, w.attempts, (SELECT max(at) FROM events e WHERE e.seq = w.seq AND e.kind = 'progressed') AS progress_at FROM waiting w JOIN operations o ON o.seq = w.seq WHERE o.id = ? AND w.attempts = ? AND w.waiting_for = 'upstream'
SELECT x.response_status, x.created_location, q.fields, q.body, q.body_key, q.body_length FROM operations o JOIN outcomes x ON x.seq = o.seq JOIN results q ON q.seq = o.seq WHERE o.id = ?
SELECT x.seq, x.expires_at, x.freed_at FROM outcomes x JOIN operations o ON o.seq = x.seq WHERE o.id = ?
UPDATE outcomes SET freed_at = ?2 WHERE seq = ?1
UPDATE running SET cancel = max(cancel, ?) WHERE seq = ?
UPDATE running SET sequence = ?1, percent = coalesce(?2, percent), message = coalesce(?3, message), progress_at = ?4 WHERE seq = ?5
UPDATE running SET token = token + 1, node = ?, since = ? WHERE seq IN (SELECT seq FROM running WHERE node IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?) RETURNING *
UPDATE waiting SET due_at = ? WHERE due_at > ?
UPDATE waiting SET sequence = ?1, percent = coalesce(?2, percent), message = coalesce(?3, message) WHERE seq = ?5 AND ?4 IS NOT NULL
UPDATE waiting SET token = token + 1, due_at = ? WHERE seq IN (SELECT seq FROM waiting WHERE due_at <= ? ORDER BY due_at LIMIT ?) RETURNING *
WITH RECURSIVE below (id) AS (SELECT o.id FROM operations o WHERE o.root = (SELECT coalesce(root, id) FROM operations WHERE id = ?1) AND o.parent = ?1 UNION SELECT o.id FROM below b JOIN operations o ON o.parent = b.id AND o.root = (SELECT coalesce(root, id) FROM operations WHERE id = ?1)) SELECT id FROM below ORDER BY id LIMIT ?2
