-- Words of a unit that its legs do not say.
ALTER TABLE units ADD COLUMN extra JSONB NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(extra) = 'array');
