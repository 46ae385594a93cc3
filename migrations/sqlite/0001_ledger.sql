-- The ledger. Times are microseconds since the Unix epoch. An operation has one row in
-- `operations`, written once, and at every moment exactly one row in one of `ready`,
-- `running`, `waiting` and `outcomes`: that is its state.

CREATE TABLE ledger (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    number      INTEGER NOT NULL CHECK (number BETWEEN 0 AND 255),
    ticket_key  BLOB    NOT NULL CHECK (length(ticket_key) = 32),
    created_at  INTEGER NOT NULL
);

-- One row for each start of a gateway; a running row names the incarnation that owns it.
CREATE TABLE nodes (
    incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL,
    version     TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    beat        INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE lanes (
    lane        INTEGER PRIMARY KEY AUTOINCREMENT,
    queue       TEXT    NOT NULL,
    upstream    TEXT    NOT NULL,
    express     INTEGER NOT NULL CHECK (express IN (0, 1)),
    UNIQUE (queue, upstream, express)
);

CREATE TABLE operations (
    -- Handed out by the writer, rising; the order accepted.
    seq              INTEGER PRIMARY KEY,
    id               BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    accepted_at      INTEGER NOT NULL,
    principal        BLOB    NOT NULL,
    route            TEXT    NOT NULL,
    lane             INTEGER NOT NULL,
    -- A call has a method and a target; a task has a name.
    method           TEXT,
    target           TEXT,
    task             TEXT,
    delivery         TEXT    NOT NULL CHECK (delivery IN ('at-most-once', 'at-least-once')),
    timeout_us       INTEGER NOT NULL CHECK (timeout_us > 0),
    deadline_at      INTEGER NOT NULL,
    retry_attempts   INTEGER NOT NULL CHECK (retry_attempts > 0),
    retry_min_us     INTEGER NOT NULL CHECK (retry_min_us >= 0),
    retry_max_us     INTEGER NOT NULL CHECK (retry_max_us >= retry_min_us),
    first_is_final   INTEGER NOT NULL CHECK (first_is_final IN (0, 1)),
    due_at           INTEGER NOT NULL,
    upstream_key     TEXT,
    key_digest       BLOB    CHECK (length(key_digest) = 16),
    serial_digest    BLOB    CHECK (length(serial_digest) = 16),
    serial_key       TEXT,
    parent           BLOB    CHECK (length(parent) = 16),
    root             BLOB    CHECK (length(root) = 16),
    retry_of         BLOB    CHECK (length(retry_of) = 16),
    client_reference TEXT,
    tags             TEXT,
    CHECK ((method IS NULL) = (target IS NULL)),
    CHECK ((method IS NULL) <> (task IS NULL)),
    CHECK ((serial_digest IS NULL) = (serial_key IS NULL)),
    CHECK ((parent IS NULL) = (root IS NULL))
);
CREATE INDEX operations_by_root ON operations (root) WHERE root IS NOT NULL;

-- What is sent, or a task's arguments. Gone once the result is freed.
CREATE TABLE requests (
    seq         INTEGER PRIMARY KEY,
    fields      BLOB    NOT NULL,
    body        BLOB,
    body_key    INTEGER,
    body_length INTEGER NOT NULL CHECK (body_length >= 0),
    CHECK ((body IS NULL) <> (body_key IS NULL))
);

CREATE INDEX requests_in_pieces ON requests (body_key) WHERE body_key IS NOT NULL;

-- Apart from `requests`, because it is erased when the operation ends.
CREATE TABLE credentials (
    seq         INTEGER PRIMARY KEY,
    fields      BLOB    NOT NULL
);

-- Pieces of bodies too large for a row, by a random name.
CREATE TABLE pieces (
    body        INTEGER NOT NULL,
    number      INTEGER NOT NULL CHECK (number >= 0),
    octets      BLOB    NOT NULL,
    PRIMARY KEY (body, number)
) WITHOUT ROWID;

CREATE TABLE ready (
    seq         INTEGER PRIMARY KEY,
    lane        INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    resumes     INTEGER NOT NULL,
    rescues     INTEGER NOT NULL,
    refusals    INTEGER NOT NULL,
    token       INTEGER NOT NULL,
    sequence    INTEGER NOT NULL CHECK (sequence > 0),
    started_at  INTEGER,
    percent     INTEGER,
    message     TEXT
);
CREATE INDEX ready_by_lane ON ready (lane, due_at);

CREATE TABLE running (
    seq         INTEGER PRIMARY KEY,
    lane        INTEGER NOT NULL,
    node        INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    -- 0: go on; 1: called off; 2: called off, and freed when it ends.
    cancel      INTEGER NOT NULL DEFAULT 0 CHECK (cancel IN (0, 1, 2)),
    progress_at INTEGER,
    attempts    INTEGER NOT NULL,
    resumes     INTEGER NOT NULL,
    rescues     INTEGER NOT NULL,
    refusals    INTEGER NOT NULL,
    token       INTEGER NOT NULL CHECK (token > 0),
    sequence    INTEGER NOT NULL CHECK (sequence > 0),
    -- None where it was handed out only to be ended.
    started_at  INTEGER,
    percent     INTEGER,
    message     TEXT
);

CREATE TABLE waiting (
    seq          INTEGER PRIMARY KEY,
    lane         INTEGER NOT NULL,
    waiting_for  TEXT    NOT NULL CHECK (waiting_for IN ('upstream', 'serial-key')),
    due_at       INTEGER,
    serial_digest BLOB   CHECK (length(serial_digest) = 16),
    version      INTEGER,
    continuation BLOB,
    attempts     INTEGER NOT NULL,
    resumes      INTEGER NOT NULL,
    rescues      INTEGER NOT NULL,
    refusals     INTEGER NOT NULL,
    token        INTEGER NOT NULL,
    sequence     INTEGER NOT NULL CHECK (sequence > 0),
    started_at   INTEGER,
    percent      INTEGER,
    message      TEXT,
    -- Who follows an upstream knows where to ask and when; who waits for a key has neither.
    CHECK ((waiting_for = 'upstream') = (continuation IS NOT NULL)),
    CHECK ((waiting_for = 'upstream') = (due_at IS NOT NULL)),
    CHECK ((waiting_for = 'serial-key') = (serial_digest IS NOT NULL)),
    CHECK ((version IS NULL) = (continuation IS NULL))
);
CREATE INDEX waiting_by_due ON waiting (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX waiting_by_key ON waiting (serial_digest, seq) WHERE serial_digest IS NOT NULL;

CREATE TABLE outcomes (
    seq              INTEGER PRIMARY KEY,
    state            TEXT    NOT NULL CHECK (state IN ('succeeded', 'failed', 'canceled')),
    finished_at      INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    freed_at         INTEGER,
    attempts         INTEGER NOT NULL,
    resumes          INTEGER NOT NULL,
    rescues          INTEGER NOT NULL,
    refusals         INTEGER NOT NULL,
    sequence         INTEGER NOT NULL CHECK (sequence > 0),
    started_at       INTEGER,
    percent          INTEGER,
    message          TEXT,
    response_status  INTEGER CHECK (response_status BETWEEN 100 AND 999),
    created_location TEXT,
    error_code       TEXT,
    error_cause      TEXT,
    error_status     INTEGER,
    CHECK ((state = 'failed') = (error_code IS NOT NULL))
);
CREATE INDEX outcomes_unsuccessful ON outcomes (state, seq) WHERE state <> 'succeeded';

-- The upstream's recorded answer. Gone once the result is freed.
CREATE TABLE results (
    seq         INTEGER PRIMARY KEY,
    fields      BLOB    NOT NULL,
    body        BLOB,
    body_key    INTEGER,
    body_length INTEGER NOT NULL CHECK (body_length >= 0),
    CHECK ((body IS NULL) <> (body_key IS NULL))
);

CREATE INDEX results_in_pieces ON results (body_key) WHERE body_key IS NOT NULL;

-- The timeline. Sequence 1, the acceptance, is what `operations` says and has no row.
CREATE TABLE events (
    seq         INTEGER NOT NULL,
    sequence    INTEGER NOT NULL CHECK (sequence > 1),
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    status      INTEGER,
    code        TEXT,
    next_at     INTEGER,
    percent     INTEGER CHECK (percent BETWEEN 0 AND 100),
    message     TEXT,
    PRIMARY KEY (seq, sequence)
) WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    digest      BLOB    PRIMARY KEY CHECK (length(digest) = 16),
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    scope       TEXT    NOT NULL CHECK (scope IN ('retained', 'pending')),
    seq         INTEGER NOT NULL
) WITHOUT ROWID;

-- Who may run, of those with the same key.
CREATE TABLE serial_keys (
    digest      BLOB    PRIMARY KEY CHECK (length(digest) = 16),
    seq         INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE tags (
    tag         TEXT    NOT NULL,
    seq         INTEGER NOT NULL,
    PRIMARY KEY (tag, seq)
) WITHOUT ROWID;

-- What is to be freed, and when: first a result, then the whole operation.
CREATE TABLE expiries (
    due_at      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('result', 'operation')),
    PRIMARY KEY (due_at, seq)
) WITHOUT ROWID;
