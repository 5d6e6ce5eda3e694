-- Which tiers there are is the build's business: a new tier needs no migration. Words are checked when they are read.
ALTER TABLE actions DROP CONSTRAINT actions_tier_check;
ALTER TABLE effects DROP CONSTRAINT effects_tier_check;

-- What a tier's limits are counted against.
CREATE INDEX plans_by_segment ON plans (deployment_id, segment_id, block_number);

-- What the operator set, and what stood before.
CREATE TABLE settings_changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    what TEXT NOT NULL,
    came_by TEXT NOT NULL CHECK (came_by IN ('start', 'sighup', 'api')),
    before JSONB,
    after JSONB NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX settings_changes_latest ON settings_changes (deployment_id, what, id DESC);

-- When no plan could be made that does anything, and why.
CREATE TABLE refusals (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    episode_id BIGINT NOT NULL REFERENCES episodes (id),
    block_number BIGINT NOT NULL,
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    residual NUMERIC(78, 0) NOT NULL CHECK (residual >= 0),
    reasons TEXT[] NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX refusals_by_episode ON refusals (episode_id);
