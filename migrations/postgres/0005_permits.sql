-- How the nodes divide the limits that they share, what each of them has put into the
-- lanes and taken out, and who wrote a piece of a body.

-- One row for each limit and node. The row of incarnation 0 belongs to nobody: who divides
-- the limit locks it.
CREATE TABLE permits (
    kind        TEXT    COLLATE "C" NOT NULL CHECK (kind IN
        ('queue-in-flight', 'queue-rate', 'upstream-in-flight', 'upstream-rate')),
    name        TEXT    COLLATE "C" NOT NULL,
    incarnation BIGINT  NOT NULL,
    -- The limit in the node's configuration: attempts, or attempts an hour.
    most        BIGINT  NOT NULL CHECK (most >= 0),
    -- Parts of it that the node may be using, and that it has use for.
    holds       BIGINT  NOT NULL CHECK (holds >= 0),
    needs       BIGINT  NOT NULL CHECK (needs >= 0),
    -- Attempts that ran when it asked last.
    used        BIGINT  NOT NULL CHECK (used >= 0),
    -- When it last came to hold any.
    since       BIGINT  NOT NULL,
    PRIMARY KEY (kind, name, incarnation)
);

-- How many operations a node has put into a lane more than it took out, and how many
-- attempts it began there. The row of incarnation 0 stands for those that are gone.
CREATE TABLE counters (
    lane        BIGINT  NOT NULL,
    incarnation BIGINT  NOT NULL,
    depth       BIGINT  NOT NULL,
    started     BIGINT  NOT NULL,
    PRIMARY KEY (lane, incarnation)
);

-- Who wrote it. None: an earlier release did.
ALTER TABLE pieces ADD COLUMN node BIGINT;

-- A few rows that change with every beat.
ALTER TABLE permits SET (fillfactor = 50, autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE counters SET (fillfactor = 50, autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
