-- What a node tells of itself with each beat, and who has ended.

ALTER TABLE nodes ADD COLUMN role TEXT NOT NULL DEFAULT 'both'
    CHECK (role IN ('both', 'front', 'worker'));
-- The queues that it works on, with commas between; empty: every one.
ALTER TABLE nodes ADD COLUMN queues TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN slots INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN running INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
-- How long its beat may stay away before it counts as dead.
ALTER TABLE nodes ADD COLUMN lease_us INTEGER NOT NULL DEFAULT 15000000 CHECK (lease_us > 0);
ALTER TABLE nodes ADD COLUMN beat_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN ended_at INTEGER;

-- 1: taken over from a dead node, which may have sent it.
ALTER TABLE running ADD COLUMN taken_over INTEGER NOT NULL DEFAULT 0 CHECK (taken_over IN (0, 1));
