-- What somebody says of a subscription, apart from how it gets on.

-- The version of the last change of what can be set, `changed` being that of any change: also of
-- how its receiver does.
ALTER TABLE receivers ADD COLUMN edited BIGINT NOT NULL DEFAULT 0;
UPDATE receivers SET edited = changed;

-- How many deliveries in a minute whoever is at its URL allowed when it was asked; as many as come
-- where there is none.
ALTER TABLE receivers ADD COLUMN allowed_rate BIGINT CHECK (allowed_rate > 0);
