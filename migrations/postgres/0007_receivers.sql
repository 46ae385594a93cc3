-- Receivers that are asked before anything is sent to them, and those that nobody needs any
-- more.

-- 1: whoever is at its URL has to agree first.
ALTER TABLE receivers ADD COLUMN asks BIGINT NOT NULL DEFAULT 0 CHECK (asks IN (0, 1));
UPDATE receivers SET asks = 1 WHERE state = 'unverified';

-- Since when no operation and no delivery has referred to the callbacks of a principal to an
-- origin; `changed_at` says when they were last asked for, to the day.
ALTER TABLE receivers ADD COLUMN retired_at BIGINT;
CREATE INDEX receivers_by_use ON receivers (changed_at) WHERE kind = 'callback';
CREATE INDEX operations_by_callback ON operations (callback_receiver) WHERE callback_receiver IS NOT NULL;
