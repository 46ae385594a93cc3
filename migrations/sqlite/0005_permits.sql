-- How the nodes divide the limits that they share, what each of them has put into the
-- lanes and taken out, and who wrote a piece of a body.

-- One row for each limit and node. The row of incarnation 0 belongs to nobody: who divides
-- the limit locks it.
CREATE TABLE permits (
    kind        TEXT    NOT NULL CHECK (kind IN
        ('queue-in-flight', 'queue-rate', 'upstream-in-flight', 'upstream-rate')),
    name        TEXT    NOT NULL,
    incarnation INTEGER NOT NULL,
    -- The limit in the node's configuration: attempts, or attempts an hour.
    most        INTEGER NOT NULL CHECK (most >= 0),
    -- Parts of it that the node may be using, and that it has use for.
    holds       INTEGER NOT NULL CHECK (holds >= 0),
    needs       INTEGER NOT NULL CHECK (needs >= 0),
    -- Attempts that ran when it asked last.
    used        INTEGER NOT NULL CHECK (used >= 0),
    -- When it last came to hold any.
    since       INTEGER NOT NULL,
    PRIMARY KEY (kind, name, incarnation)
) WITHOUT ROWID;

-- How many operations a node has put into a lane more than it took out, and how many
-- attempts it began there. The row of incarnation 0 stands for those that are gone.
CREATE TABLE counters (
    lane        INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    depth       INTEGER NOT NULL,
    started     INTEGER NOT NULL,
    PRIMARY KEY (lane, incarnation)
) WITHOUT ROWID;

-- Who wrote it. None: an earlier release did.
ALTER TABLE pieces ADD COLUMN node INTEGER;
