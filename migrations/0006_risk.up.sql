-- What was measured of prices' moves: one row a deployment, so that a restart need not begin anew.
CREATE TABLE risk_moves (
    deployment_id BIGINT PRIMARY KEY REFERENCES deployments (id),
    moves JSONB NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- What was expected at a block.
CREATE TABLE risk_reports (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    block_number BIGINT NOT NULL,
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    report JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX risk_reports_by_time ON risk_reports (deployment_id, created_at);
