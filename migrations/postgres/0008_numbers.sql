-- The last numbers that were handed out, as they stood before rows went that had them: what
-- outlives an operation or a message goes on naming it, so none is handed out twice. A server
-- counts by its sequences.
ALTER TABLE ledger ADD COLUMN last_operation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN last_message BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN last_delivery BIGINT NOT NULL DEFAULT 0;
