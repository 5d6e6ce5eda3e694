-- What a plan was made from, so that it can be made again. Null where that was too much to keep with every plan.
ALTER TABLE plans ADD COLUMN decision JSONB;
