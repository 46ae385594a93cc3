-- How a delivery's message is wrapped, from its first attempt to the last replay; as its receiver
-- says where that was not written down.
ALTER TABLE deliveries ADD COLUMN format TEXT CHECK (format IN ('standard', 'cloudevents'));
