-- The attempt that a delivery came to its end with, beside the end and not among the others: most
-- deliveries have no other one. Its number is that of the attempts. None where no attempt was the
-- end of it, or where it was written down among the others.
ALTER TABLE deliveries_ended ADD COLUMN at BIGINT;
ALTER TABLE deliveries_ended ADD COLUMN took_us BIGINT CHECK ((took_us IS NULL) = (at IS NULL) AND coalesce(took_us, 0) >= 0);
ALTER TABLE deliveries_ended ADD COLUMN status BIGINT CHECK (status IS NULL OR status BETWEEN 100 AND 999 AND at IS NOT NULL);
ALTER TABLE deliveries_ended ADD COLUMN code TEXT COLLATE "C" CHECK (code IS NULL OR at IS NOT NULL);
