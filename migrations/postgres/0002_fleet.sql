-- What a node tells of itself with each beat, and who has ended.

ALTER TABLE nodes ADD COLUMN role TEXT COLLATE "C" NOT NULL DEFAULT 'both'
    CHECK (role IN ('both', 'front', 'worker'));
-- The queues that it works on, with commas between; empty: every one.
ALTER TABLE nodes ADD COLUMN queues TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN slots BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN running BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN fingerprint TEXT COLLATE "C" NOT NULL DEFAULT '';
-- How long its beat may stay away before it counts as dead.
ALTER TABLE nodes ADD COLUMN lease_us BIGINT NOT NULL DEFAULT 15000000 CHECK (lease_us > 0);
ALTER TABLE nodes ADD COLUMN beat_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN ended_at BIGINT;

-- 1: taken over from a dead node, which may have sent it.
ALTER TABLE running ADD COLUMN taken_over BIGINT NOT NULL DEFAULT 0 CHECK (taken_over IN (0, 1));
