DROP INDEX actions_by_outlay;
ALTER TABLE actions DROP COLUMN outlay_wei;
ALTER TABLE units DROP COLUMN extra;
