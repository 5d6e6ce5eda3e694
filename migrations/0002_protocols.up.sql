-- Words of a unit that its legs do not say.
ALTER TABLE units ADD COLUMN extra JSONB NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(extra) = 'array');

-- What an action costs above what it brings, as planned: the mandate's budget.
ALTER TABLE actions ADD COLUMN outlay_wei NUMERIC(78, 0) NOT NULL DEFAULT 0 CHECK (outlay_wei >= 0);
CREATE INDEX actions_by_outlay ON actions (deployment_id, created_at) WHERE outlay_wei > 0;
