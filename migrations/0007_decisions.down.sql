ALTER TABLE plans DROP COLUMN decision;
