-- How the body of a message is packed, so that it takes less room: a number for each way. It lies
-- as it is sent where there is none.
ALTER TABLE messages ADD COLUMN packing INTEGER CHECK (packing > 0);
