-- Queues of which nothing is begun until somebody resumes them.
CREATE TABLE paused_queues (
    queue       TEXT    PRIMARY KEY,
    paused_at   INTEGER NOT NULL
) WITHOUT ROWID;
