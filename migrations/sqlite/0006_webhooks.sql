-- Who is told of what happens, what they are told, and how far each telling is.

-- Rises with every change of a receiver, so that whoever remembers receivers knows when to
-- look again; and what links in messages are built on, for nodes that answer no clients.
CREATE TABLE webhooks (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    version     INTEGER NOT NULL,
    public_base TEXT
);
INSERT INTO webhooks (one, version) VALUES (1, 0);

-- A subscription, or the callbacks of a principal to one origin.
CREATE TABLE receivers (
    receiver    INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL CHECK (kind IN ('subscription', 'callback')),
    principal   BLOB    NOT NULL,
    -- Of a callback: the origin.
    url         TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    -- The version of the last change.
    changed     INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('active', 'unverified', 'disabled', 'deleted')),
    disabled_at INTEGER,
    disabled_for TEXT CHECK (disabled_for IN ('gone', 'failing', 'asked')),
    -- When the first of the failures was that no success has followed.
    failing_since INTEGER,
    -- 1: those who subscribe have been told that it fails.
    complained  INTEGER NOT NULL DEFAULT 0 CHECK (complained IN (0, 1)),
    id          BLOB    UNIQUE CHECK (length(id) = 16),
    -- A bit for each event.
    events      INTEGER NOT NULL,
    routes      TEXT,
    tags        TEXT,
    headers     BLOB,
    description TEXT,
    format      TEXT NOT NULL CHECK (format IN ('standard', 'cloudevents')),
    CHECK ((kind = 'subscription') = (id IS NOT NULL)),
    CHECK ((state = 'disabled') = (disabled_at IS NOT NULL)),
    CHECK ((disabled_at IS NULL) = (disabled_for IS NULL)),
    CHECK (kind = 'subscription' OR state = 'active')
);
CREATE INDEX receivers_by_principal ON receivers (principal, receiver);
CREATE UNIQUE INDEX receivers_of_callbacks ON receivers (principal, url) WHERE kind = 'callback';
CREATE INDEX receivers_by_change ON receivers (changed);

-- What messages are signed with: a subscription's keys, or those of a principal's callbacks.
CREATE TABLE signing_keys (
    key         INTEGER PRIMARY KEY AUTOINCREMENT,
    receiver    INTEGER,
    principal   BLOB,
    kind        TEXT NOT NULL CHECK (kind IN ('v1', 'v1a')),
    secret      BLOB    NOT NULL,
    made_at     INTEGER NOT NULL,
    retires_at  INTEGER,
    CHECK ((receiver IS NULL) <> (principal IS NULL))
);
CREATE INDEX signing_keys_by_receiver ON signing_keys (receiver) WHERE receiver IS NOT NULL;
CREATE INDEX signing_keys_by_principal ON signing_keys (principal) WHERE principal IS NOT NULL;

-- Where the callbacks of an operation go: a URL and a bit for each event.
ALTER TABLE operations ADD COLUMN callback_receiver INTEGER;
ALTER TABLE operations ADD COLUMN callback_url TEXT;
ALTER TABLE operations ADD COLUMN callback_events INTEGER;

-- What somebody is told, once, whoever is told of it. The body is what is sent, always.
CREATE TABLE messages (
    message     INTEGER PRIMARY KEY,
    -- The operation that it is about, and the number of its event.
    seq         INTEGER,
    sequence    INTEGER CHECK (sequence > 0),
    name        TEXT NOT NULL,
    event       TEXT NOT NULL,
    at          INTEGER NOT NULL,
    body        BLOB    NOT NULL,
    CHECK ((seq IS NULL) = (sequence IS NULL))
);
CREATE INDEX messages_of_operation ON messages (seq) WHERE seq IS NOT NULL;

-- Receivers that are still to be given a message, beyond those that got it at once.
CREATE TABLE fan_outs (
    message     INTEGER PRIMARY KEY,
    principal   BLOB    NOT NULL,
    event       INTEGER NOT NULL,
    route       TEXT,
    tags        TEXT,
    -- Those behind the first and up to the last that stood then.
    behind      INTEGER NOT NULL,
    last        INTEGER NOT NULL,
    due_at      INTEGER NOT NULL
);

-- A message on its way to one receiver. At every moment it has exactly one row in one of
-- `deliveries_due`, `deliveries_sending`, `deliveries_held` and `deliveries_ended`.
CREATE TABLE deliveries (
    delivery    INTEGER PRIMARY KEY,
    message     INTEGER NOT NULL,
    receiver    INTEGER NOT NULL,
    -- Of a callback.
    url         TEXT,
    cause       TEXT NOT NULL CHECK (cause IN ('event', 'ping', 'replay')),
    created_at  INTEGER NOT NULL,
    deadline_at INTEGER NOT NULL CHECK (deadline_at > created_at)
);
CREATE INDEX deliveries_by_receiver ON deliveries (receiver, delivery);
CREATE INDEX deliveries_by_message ON deliveries (message);

CREATE TABLE deliveries_due (
    delivery    INTEGER PRIMARY KEY,
    receiver    INTEGER NOT NULL,
    -- 1: it was tried before.
    again       INTEGER NOT NULL CHECK (again IN (0, 1)),
    due_at      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL CHECK (attempts >= 0),
    -- Attempts that did not count.
    refusals    INTEGER NOT NULL CHECK (refusals BETWEEN 0 AND attempts),
    token       INTEGER NOT NULL CHECK (token >= 0)
);
CREATE INDEX deliveries_due_by_receiver ON deliveries_due (receiver, again, due_at, delivery);

CREATE TABLE deliveries_sending (
    delivery    INTEGER PRIMARY KEY,
    receiver    INTEGER NOT NULL,
    node        INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    attempts    INTEGER NOT NULL CHECK (attempts >= 0),
    refusals    INTEGER NOT NULL CHECK (refusals BETWEEN 0 AND attempts),
    token       INTEGER NOT NULL CHECK (token > 0)
);

-- What came for a receiver that is disabled, until it is replayed or too old.
CREATE TABLE deliveries_held (
    delivery    INTEGER PRIMARY KEY,
    receiver    INTEGER NOT NULL,
    held_at     INTEGER NOT NULL,
    attempts    INTEGER NOT NULL
);
CREATE INDEX deliveries_held_by_receiver ON deliveries_held (receiver, delivery);

CREATE TABLE deliveries_ended (
    delivery    INTEGER PRIMARY KEY,
    state       TEXT NOT NULL CHECK (state IN ('delivered', 'exhausted', 'gone', 'replayed', 'dropped')),
    ended_at    INTEGER NOT NULL,
    attempts    INTEGER NOT NULL
);
CREATE INDEX deliveries_ended_by_time ON deliveries_ended (ended_at);

CREATE TABLE delivery_attempts (
    delivery    INTEGER NOT NULL,
    number      INTEGER NOT NULL CHECK (number > 0),
    at          INTEGER NOT NULL,
    took_us     INTEGER NOT NULL CHECK (took_us >= 0),
    status      INTEGER CHECK (status BETWEEN 100 AND 999),
    code        TEXT,
    next_at     INTEGER,
    PRIMARY KEY (delivery, number)
);
