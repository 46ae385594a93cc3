-- The ledger. Times are microseconds since the Unix epoch. An operation has one row in
-- `operations`, written once, and at every moment exactly one row in one of `ready`,
-- `running`, `waiting` and `outcomes`: that is its state.
--
-- Checks of rows that each operation or delivery brings list no more than two values at once. For
-- three or more SQLite builds a table of its own for each row that it checks.

CREATE TABLE ledger (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    number      INTEGER NOT NULL CHECK (number BETWEEN 0 AND 255),
    ticket_key  BLOB    NOT NULL CHECK (length(ticket_key) = 32),
    created_at  INTEGER NOT NULL,
    -- The last numbers that were handed out, as they stood before rows went that had them: what
    -- outlives an operation or a message goes on naming it, so none is handed out twice. A server
    -- counts by its sequences.
    last_operation INTEGER NOT NULL DEFAULT 0,
    last_message   INTEGER NOT NULL DEFAULT 0,
    last_delivery  INTEGER NOT NULL DEFAULT 0
);

-- One row for each start of a gateway; a running row names the incarnation that owns it.
CREATE TABLE nodes (
    incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL,
    version     TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    beat        INTEGER NOT NULL DEFAULT 0,
    beat_at     INTEGER NOT NULL DEFAULT 0,
    -- How long its beat may stay away before it counts as dead.
    lease_us    INTEGER NOT NULL DEFAULT 15000000 CHECK (lease_us > 0),
    ended_at    INTEGER,
    -- What it tells of itself with each beat.
    role        TEXT NOT NULL DEFAULT 'both' CHECK (role IN ('both', 'front', 'worker')),
    -- The queues that it works on, with commas between; empty: every one.
    queues      TEXT NOT NULL DEFAULT '',
    slots       INTEGER NOT NULL DEFAULT 0,
    running     INTEGER NOT NULL DEFAULT 0,
    fingerprint TEXT NOT NULL DEFAULT '',
    -- No row in `running` names it that is older, as it told with its last beat.
    owned_since INTEGER NOT NULL DEFAULT 0,
    -- The beat behind which its rows in `running` were looked for and there were none. A further beat
    -- makes that void.
    cleared     INTEGER,
    -- The id of the key that it seals with.
    sealing_key BLOB CHECK (length(sealing_key) = 4)
);

-- Keys that values here may be sealed with, by their ids, and when a node last began to seal
-- with each. A node that lacks one of them does not start.
CREATE TABLE sealing_keys (
    id          BLOB    PRIMARY KEY CHECK (length(id) = 4),
    used_at     INTEGER NOT NULL
) WITHOUT ROWID;

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
    -- Of target, fields, credentials and body, or of a task's arguments, before anything is sealed.
    octets           INTEGER NOT NULL CHECK (octets >= 0),
    delivery         TEXT    NOT NULL CHECK (delivery IN ('at-most-once', 'at-least-once')),
    timeout_us       INTEGER NOT NULL CHECK (timeout_us > 0),
    deadline_at      INTEGER NOT NULL,
    retry_attempts   INTEGER NOT NULL CHECK (retry_attempts > 0),
    retry_min_us     INTEGER NOT NULL CHECK (retry_min_us >= 0),
    retry_max_us     INTEGER NOT NULL CHECK (retry_max_us >= retry_min_us),
    -- How long the client waits, where it was accepted synchronously.
    wait_us          INTEGER CHECK (wait_us >= 0),
    due_at           INTEGER NOT NULL,
    upstream_key     TEXT,
    key_digest       BLOB    CHECK (length(key_digest) = 16),
    serial_digest    BLOB    CHECK (length(serial_digest) = 16),
    serial_key       TEXT,
    -- What becomes of the key when the operation fails; none means `skip`.
    on_failure       TEXT CHECK (on_failure IN ('skip', 'block')),
    -- Path and query of what the upstream is asked, with its placeholders.
    recheck          TEXT,
    -- Statuses, as 201,303: those that succeed, and those that are tried again. None means the usual ones.
    success          TEXT,
    retry_statuses   TEXT,
    parent           BLOB    CHECK (length(parent) = 16),
    root             BLOB    CHECK (length(root) = 16),
    retry_of         BLOB    CHECK (length(retry_of) = 16),
    client_reference TEXT,
    tags             TEXT,
    -- Where the callbacks of an operation go: a URL and a bit for each event.
    callback_receiver INTEGER,
    callback_url     TEXT,
    callback_events  INTEGER,
    -- The form of the row. A node leaves operations to others whose form it does not know.
    form             INTEGER NOT NULL DEFAULT 1 CHECK (form > 0),
    CHECK ((method IS NULL) = (target IS NULL)),
    CHECK ((method IS NULL) <> (task IS NULL)),
    CHECK ((serial_digest IS NULL) = (serial_key IS NULL)),
    CHECK ((parent IS NULL) = (root IS NULL))
);
CREATE INDEX operations_by_parent ON operations (parent, id) WHERE parent IS NOT NULL;
-- What repeats an operation by hand.
CREATE INDEX operations_by_retry ON operations (retry_of, seq) WHERE retry_of IS NOT NULL;
CREATE INDEX operations_by_callback ON operations (callback_receiver) WHERE callback_receiver IS NOT NULL;

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
    -- Who wrote it, and when: pieces that no row refers to go some time later.
    node        INTEGER NOT NULL,
    written_at  INTEGER NOT NULL,
    PRIMARY KEY (body, number)
) WITHOUT ROWID;

-- Bodies whose pieces are deleted little by little: nothing refers to them any more.
CREATE TABLE erasures (
    number      INTEGER PRIMARY KEY,
    body        INTEGER NOT NULL
);

CREATE TABLE ready (
    seq         INTEGER PRIMARY KEY,
    lane        INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    resumes     INTEGER NOT NULL,
    rescues     INTEGER NOT NULL,
    refusals    INTEGER NOT NULL,
    -- What the upstream has had: 0 nothing, 1 something and its answers came, 2 an answer was lost.
    contact     INTEGER NOT NULL DEFAULT 0 CHECK (contact BETWEEN 0 AND 2),
    last_try    INTEGER NOT NULL DEFAULT 0 CHECK (last_try IN (0, 1)),
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
    cancel      INTEGER NOT NULL DEFAULT 0 CHECK (cancel BETWEEN 0 AND 2),
    -- 1: taken over from a dead node, which may have sent it.
    taken_over  INTEGER NOT NULL DEFAULT 0 CHECK (taken_over IN (0, 1)),
    progress_at INTEGER,
    attempts    INTEGER NOT NULL,
    resumes     INTEGER NOT NULL,
    rescues     INTEGER NOT NULL,
    refusals    INTEGER NOT NULL,
    -- What the upstream has had: 0 nothing, 1 something and its answers came, 2 an answer was lost.
    contact     INTEGER NOT NULL DEFAULT 0 CHECK (contact BETWEEN 0 AND 2),
    last_try    INTEGER NOT NULL DEFAULT 0 CHECK (last_try IN (0, 1)),
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
    -- When waiting for a key comes to an end, whichever operation has it then.
    deadline_at  INTEGER,
    serial_digest BLOB   CHECK (length(serial_digest) = 16),
    -- When the turn of an operation comes that was accepted with a delay. The order of a key is the
    -- order of these times and of the acceptances of the others.
    turn_at      INTEGER,
    -- The same time, until a look has seen that it is over: the operation is not in the key's way.
    delayed_until INTEGER,
    version      INTEGER,
    continuation BLOB,
    attempts     INTEGER NOT NULL,
    resumes      INTEGER NOT NULL,
    rescues      INTEGER NOT NULL,
    refusals     INTEGER NOT NULL,
    -- What the upstream has had: 0 nothing, 1 something and its answers came, 2 an answer was lost.
    contact      INTEGER NOT NULL DEFAULT 0 CHECK (contact BETWEEN 0 AND 2),
    last_try     INTEGER NOT NULL DEFAULT 0 CHECK (last_try IN (0, 1)),
    token        INTEGER NOT NULL,
    sequence     INTEGER NOT NULL CHECK (sequence > 0),
    started_at   INTEGER,
    percent      INTEGER,
    message      TEXT,
    -- Who follows an upstream knows where to ask and when; who waits for a key has neither.
    CHECK ((waiting_for = 'upstream') = (continuation IS NOT NULL)),
    CHECK ((waiting_for = 'upstream') = (due_at IS NOT NULL)),
    CHECK ((waiting_for = 'serial-key') = (serial_digest IS NOT NULL)),
    CHECK ((waiting_for = 'serial-key') = (deadline_at IS NOT NULL)),
    CHECK (turn_at IS NULL OR waiting_for = 'serial-key'),
    CHECK (delayed_until IS NULL OR delayed_until = turn_at),
    CHECK ((version IS NULL) = (continuation IS NULL))
);
CREATE INDEX waiting_by_lane ON waiting (lane, due_at, seq) WHERE due_at IS NOT NULL;
CREATE INDEX waiting_by_key ON waiting (serial_digest, seq) WHERE serial_digest IS NOT NULL AND turn_at IS NULL;
CREATE INDEX waiting_by_turn ON waiting (serial_digest, turn_at, seq) WHERE turn_at IS NOT NULL;
CREATE INDEX waiting_by_delay ON waiting (delayed_until, seq) WHERE delayed_until IS NOT NULL;
CREATE INDEX waiting_by_deadline ON waiting (deadline_at, seq) WHERE deadline_at IS NOT NULL;
CREATE INDEX waiting_behind_keys ON waiting (lane, seq) WHERE serial_digest IS NOT NULL;

CREATE TABLE outcomes (
    seq              INTEGER PRIMARY KEY,
    state            TEXT    NOT NULL CHECK (state IN ('succeeded', 'failed') OR state = 'canceled'),
    finished_at      INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    freed_at         INTEGER,
    attempts         INTEGER NOT NULL,
    resumes          INTEGER NOT NULL,
    rescues          INTEGER NOT NULL,
    refusals         INTEGER NOT NULL,
    -- What the upstream has had: 0 nothing, 1 something and its answers came, 2 an answer was lost.
    contact          INTEGER NOT NULL DEFAULT 0 CHECK (contact BETWEEN 0 AND 2),
    last_try         INTEGER NOT NULL DEFAULT 0 CHECK (last_try IN (0, 1)),
    sequence         INTEGER NOT NULL CHECK (sequence > 0),
    started_at       INTEGER,
    percent          INTEGER,
    message          TEXT,
    response_status  INTEGER CHECK (response_status BETWEEN 100 AND 999),
    -- None where the answer itself told where it ends.
    response_framing TEXT    CHECK (response_framing IN ('close')),
    created_location TEXT,
    error_code       TEXT,
    error_cause      TEXT,
    error_status     INTEGER,
    CHECK ((state = 'failed') = (error_code IS NOT NULL)),
    CHECK (response_framing IS NULL OR response_status IS NOT NULL)
);
CREATE INDEX outcomes_unsuccessful ON outcomes (state, seq) WHERE state <> 'succeeded';
CREATE INDEX outcomes_unknown ON outcomes (seq) WHERE error_code = 'outcome-unknown';

-- What a person found out about an outcome that is unknown. The state stays as it is.
CREATE TABLE verdicts (
    seq         INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    happened    INTEGER NOT NULL CHECK (happened IN (0, 1)),
    location    TEXT,
    note        TEXT
);

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
    -- A digest of the request, and a short one of each part that a repeat may differ in.
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 56),
    scope       TEXT    NOT NULL CHECK (scope IN ('retained', 'pending')),
    seq         INTEGER NOT NULL
) WITHOUT ROWID;

-- Who may run, of those with the same key.
CREATE TABLE serial_keys (
    digest      BLOB    PRIMARY KEY CHECK (length(digest) = 16),
    seq         INTEGER NOT NULL
) WITHOUT ROWID;

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

-- Queues of which nothing is begun until a person resumes them.
CREATE TABLE paused_queues (
    queue       TEXT    PRIMARY KEY,
    paused_at   INTEGER NOT NULL
) WITHOUT ROWID;

-- One row for each limit and node. The row of incarnation 0 belongs to no node: who divides
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
    -- How many more operations wait for a serial key, in its count.
    behind      INTEGER NOT NULL DEFAULT 0,
    -- Octets that it stored for operations, less those of operations that it ended.
    stored      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (lane, incarnation)
) WITHOUT ROWID;

-- Rises with every change of a receiver, so that a node that remembers receivers knows when to
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
    -- The version of the last change of what can be set, `changed` being that of any change: also
    -- of how its receiver does.
    edited      INTEGER NOT NULL DEFAULT 0,
    state       TEXT NOT NULL CHECK (state IN ('active', 'unverified', 'disabled', 'deleted')),
    disabled_at INTEGER,
    disabled_for TEXT CHECK (disabled_for IN ('gone', 'failing', 'asked')),
    -- When the first of the failures was that no success has followed.
    failing_since INTEGER,
    -- 1: those who subscribe have been told that it fails.
    complained  INTEGER NOT NULL DEFAULT 0 CHECK (complained IN (0, 1)),
    -- 1: the receiver at its URL has to agree first.
    asks        INTEGER NOT NULL DEFAULT 0 CHECK (asks IN (0, 1)),
    -- How many deliveries in a minute the receiver at its URL allowed when it was asked; as many as
    -- come where there is none.
    allowed_rate INTEGER CHECK (allowed_rate > 0),
    -- Since when no operation and no delivery has referred to the callbacks of a principal to an
    -- origin; `changed_at` says when they were last asked for, to the day.
    retired_at  INTEGER,
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
CREATE INDEX receivers_by_use ON receivers (changed_at) WHERE kind = 'callback';

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
-- Those whose public half anybody may know.
CREATE INDEX signing_keys_published ON signing_keys (key) WHERE kind = 'v1a';

-- A message, once, however many receivers are told of it. The body is what is sent, always.
CREATE TABLE messages (
    message     INTEGER PRIMARY KEY,
    -- The operation that it is about, and the number of its event.
    seq         INTEGER,
    sequence    INTEGER CHECK (sequence > 0),
    name        TEXT NOT NULL,
    event       TEXT NOT NULL,
    at          INTEGER NOT NULL,
    body        BLOB    NOT NULL,
    -- How the body is packed, so that it takes less room: a number for each way. It lies as it is
    -- sent where there is none.
    packing     INTEGER CHECK (packing > 0),
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
    -- The version of receivers at the event; how they stand now where that was not written down.
    version     INTEGER,
    due_at      INTEGER NOT NULL
);
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

-- A message on its way to one receiver. At every moment it has exactly one row in one of
-- `deliveries_due`, `deliveries_sending`, `deliveries_held` and `deliveries_ended`.
CREATE TABLE deliveries (
    delivery    INTEGER PRIMARY KEY,
    message     INTEGER NOT NULL,
    receiver    INTEGER NOT NULL,
    -- Of a callback.
    url         TEXT,
    cause       TEXT NOT NULL CHECK (cause IN ('event', 'ping') OR cause = 'replay'),
    -- How its message is wrapped, from its first attempt to the last replay; as its receiver says
    -- where that was not written down.
    format      TEXT CHECK (format IN ('standard', 'cloudevents')),
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
    state       TEXT NOT NULL CHECK (state IN ('delivered', 'exhausted') OR state IN ('gone', 'replayed') OR state = 'dropped'),
    ended_at    INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    -- The attempt that a delivery came to its end with, beside the end and not among the others:
    -- most deliveries have no other one. Its number is that of the attempts. None where no attempt
    -- was the end of it, or where it was written down among the others.
    at          INTEGER,
    took_us     INTEGER CHECK ((took_us IS NULL) = (at IS NULL) AND coalesce(took_us, 0) >= 0),
    status      INTEGER CHECK (status IS NULL OR status BETWEEN 100 AND 999 AND at IS NOT NULL),
    code        TEXT CHECK (code IS NULL OR at IS NOT NULL)
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
