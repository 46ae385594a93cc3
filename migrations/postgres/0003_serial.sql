-- What becomes of a serial key when its operation fails, how an upstream is asked whether
-- an attempt took effect, and what people found out about unknown outcomes.

-- Promised at acceptance; none means `skip`.
ALTER TABLE operations ADD COLUMN on_failure TEXT COLLATE "C" CHECK (on_failure IN ('skip', 'block'));
-- Path and query of what the upstream is asked, with its placeholders.
ALTER TABLE operations ADD COLUMN recheck TEXT COLLATE "C";

-- Keys that wait for a person. The key is held by the operation that failed, which may
-- have been pruned since: so what is shown of it is kept here.
CREATE TABLE blocked_keys (
    digest      BYTEA   PRIMARY KEY CHECK (length(digest) = 16),
    seq         BIGINT  NOT NULL,
    operation   BYTEA   NOT NULL CHECK (length(operation) = 16),
    serial_key  TEXT COLLATE "C" NOT NULL,
    upstream    TEXT COLLATE "C" NOT NULL,
    blocked_at  BIGINT  NOT NULL
);

-- What a person found out about an outcome that is unknown. The state stays as it is.
CREATE TABLE verdicts (
    seq         BIGINT PRIMARY KEY,
    at          BIGINT  NOT NULL,
    happened    BOOLEAN NOT NULL,
    location    TEXT COLLATE "C",
    note        TEXT COLLATE "C"
);

CREATE INDEX outcomes_unknown ON outcomes (seq) WHERE error_code = 'outcome-unknown';
