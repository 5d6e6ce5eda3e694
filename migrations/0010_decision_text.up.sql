-- A decision is read whole or not at all: as text it is neither parsed nor compressed when it is written, and comes back as it was.
ALTER TABLE plans ALTER COLUMN decision TYPE TEXT, ALTER COLUMN decision SET STORAGE EXTERNAL;
