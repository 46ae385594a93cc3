-- What a fan-out goes by: how each subscription stood when the event happened, however it has been
-- changed since.

-- The version of receivers at the event; how they stand now where that was not written down.
ALTER TABLE fan_outs ADD COLUMN version BIGINT;
CREATE INDEX fan_outs_by_version ON fan_outs (version);

-- How a subscription stood before a change of what it is told, and how; until no fan-out under way
-- can be older than the change.
CREATE TABLE former_receivers (
    receiver    BIGINT  NOT NULL,
    -- The version of the change.
    until       BIGINT  NOT NULL,
    changed_at  BIGINT  NOT NULL,
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('active', 'unverified', 'disabled')),
    events      BIGINT  NOT NULL,
    routes      TEXT COLLATE "C",
    tags        TEXT COLLATE "C",
    format      TEXT COLLATE "C" NOT NULL CHECK (format IN ('standard', 'cloudevents')),
    PRIMARY KEY (receiver, until)
);
CREATE INDEX former_receivers_by_version ON former_receivers (until);
