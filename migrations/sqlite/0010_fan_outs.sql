-- What a fan-out goes by: how each subscription stood when the event happened, however it has been
-- changed since.

-- The version of receivers at the event; how they stand now where that was not written down.
ALTER TABLE fan_outs ADD COLUMN version INTEGER;
CREATE INDEX fan_outs_by_version ON fan_outs (version);

-- How a subscription stood before a change of what it is told, and how; until no fan-out under way
-- can be older than the change.
CREATE TABLE former_receivers (
    receiver    INTEGER NOT NULL,
    -- The version of the change.
    until       INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('active', 'unverified', 'disabled')),
    events      INTEGER NOT NULL,
    routes      TEXT,
    tags        TEXT,
    format      TEXT NOT NULL CHECK (format IN ('standard', 'cloudevents')),
    PRIMARY KEY (receiver, until)
);
CREATE INDEX former_receivers_by_version ON former_receivers (until);
