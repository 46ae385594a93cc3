-- Queues of which nothing is begun until somebody resumes them.
CREATE TABLE paused_queues (
    queue       TEXT    COLLATE "C" PRIMARY KEY,
    paused_at   BIGINT  NOT NULL
);
