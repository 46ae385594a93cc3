-- What becomes of a serial key when its operation fails, how an upstream is asked whether
-- an attempt took effect, and what people found out about unknown outcomes.

-- Promised at acceptance; none means `skip`.
ALTER TABLE operations ADD COLUMN on_failure TEXT CHECK (on_failure IN ('skip', 'block'));
-- Path and query of what the upstream is asked, with its placeholders.
ALTER TABLE operations ADD COLUMN recheck TEXT;

-- Keys that wait for a person. The key is held by the operation that failed, which may
-- have been pruned since: so what is shown of it is kept here.
CREATE TABLE blocked_keys (
    digest      BLOB    PRIMARY KEY CHECK (length(digest) = 16),
    seq         INTEGER NOT NULL,
    operation   BLOB    NOT NULL CHECK (length(operation) = 16),
    serial_key  TEXT    NOT NULL,
    upstream    TEXT    NOT NULL,
    blocked_at  INTEGER NOT NULL
) WITHOUT ROWID;

-- What a person found out about an outcome that is unknown. The state stays as it is.
CREATE TABLE verdicts (
    seq         INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    happened    INTEGER NOT NULL CHECK (happened IN (0, 1)),
    location    TEXT,
    note        TEXT
);

CREATE INDEX outcomes_unknown ON outcomes (seq) WHERE error_code = 'outcome-unknown';
