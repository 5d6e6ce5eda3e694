-- Money is NUMERIC(78,0): every 256-bit integer fits, none is rounded. Heights, nonces and counts are BIGINT.

CREATE TABLE deployments (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    chain_id BIGINT NOT NULL CHECK (chain_id > 0),
    adapter TEXT NOT NULL,
    settings JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE checkpoints (
    deployment_id BIGINT PRIMARY KEY REFERENCES deployments (id),
    block_number BIGINT NOT NULL CHECK (block_number >= 0),
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    parent_hash BYTEA NOT NULL CHECK (length(parent_hash) = 32),
    block_timestamp BIGINT NOT NULL CHECK (block_timestamp >= 0),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE units (
    deployment_id BIGINT NOT NULL REFERENCES checkpoints (deployment_id) ON DELETE CASCADE,
    unit_key BYTEA NOT NULL CHECK (length(unit_key) BETWEEN 1 AND 64),
    segment_id BIGINT NOT NULL,
    owner BYTEA NOT NULL CHECK (length(owner) = 20),
    cash NUMERIC(78, 0) NOT NULL,
    legs JSONB NOT NULL CHECK (jsonb_typeof(legs) = 'array'),
    PRIMARY KEY (deployment_id, unit_key)
);

CREATE TABLE records (
    deployment_id BIGINT NOT NULL REFERENCES checkpoints (deployment_id) ON DELETE CASCADE,
    kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 65535),
    record_id BYTEA NOT NULL CHECK (length(record_id) = 32),
    words JSONB NOT NULL CHECK (jsonb_typeof(words) = 'array'),
    PRIMARY KEY (deployment_id, kind, record_id)
);

CREATE TABLE findings (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    unit_key BYTEA NOT NULL CHECK (length(unit_key) BETWEEN 1 AND 64),
    segment_id BIGINT NOT NULL,
    block_number BIGINT NOT NULL,
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    condition TEXT NOT NULL CHECK (condition IN ('bankrupt', 'liquidatable', 'unknown', 'at_risk', 'healthy')),
    equity NUMERIC(78, 0) NOT NULL,
    maintenance_margin NUMERIC(78, 0) NOT NULL CHECK (maintenance_margin >= 0),
    surplus NUMERIC(78, 0) NOT NULL,
    health_factor_bps NUMERIC(78, 0),
    rank BIGINT,
    reason TEXT,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT findings_one_per_unit_and_block UNIQUE (deployment_id, unit_key, block_hash)
);
CREATE INDEX findings_by_unit ON findings (deployment_id, unit_key, id DESC);

CREATE TABLE episodes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    segment_id BIGINT NOT NULL,
    why TEXT NOT NULL,
    opened_block BIGINT NOT NULL,
    opened_hash BYTEA NOT NULL CHECK (length(opened_hash) = 32),
    opened_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    closed_block BIGINT,
    closed_hash BYTEA CHECK (length(closed_hash) = 32),
    closed_at TIMESTAMPTZ,
    summary JSONB,
    CONSTRAINT episodes_closed_whole CHECK (
        (closed_at IS NULL) = (closed_block IS NULL)
        AND (closed_at IS NULL) = (closed_hash IS NULL)
        AND (closed_at IS NULL) = (summary IS NULL)
    )
);
CREATE UNIQUE INDEX episodes_one_open ON episodes (deployment_id, segment_id) WHERE closed_at IS NULL;

CREATE TABLE plans (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    episode_id BIGINT NOT NULL REFERENCES episodes (id),
    segment_id BIGINT NOT NULL,
    block_number BIGINT NOT NULL,
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    shortfall NUMERIC(78, 0) NOT NULL CHECK (shortfall >= 0),
    absorbed NUMERIC(78, 0) NOT NULL CHECK (absorbed >= 0),
    residual NUMERIC(78, 0) NOT NULL CHECK (residual >= 0),
    ledger JSONB NOT NULL,
    notes TEXT[] NOT NULL DEFAULT '{}',
    dry_run BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT plans_balance CHECK (absorbed + residual = shortfall),
    UNIQUE (id, deployment_id, dry_run)
);
CREATE INDEX plans_by_episode ON plans (episode_id);

CREATE TABLE transactions (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    plan_id BIGINT NOT NULL REFERENCES plans (id),
    chain_id BIGINT NOT NULL CHECK (chain_id > 0),
    signer BYTEA NOT NULL CHECK (length(signer) = 20),
    nonce BIGINT NOT NULL CHECK (nonce >= 0),
    to_address BYTEA NOT NULL CHECK (length(to_address) = 20),
    data BYTEA NOT NULL,
    value NUMERIC(78, 0) NOT NULL CHECK (value >= 0),
    touches JSONB NOT NULL,
    planned_block BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('signed', 'sent', 'included', 'final', 'superseded')),
    reason TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT transactions_one_per_nonce UNIQUE (chain_id, signer, nonce)
);
CREATE INDEX transactions_by_plan ON transactions (plan_id);
CREATE INDEX transactions_unsettled ON transactions (deployment_id, signer, nonce)
    WHERE status IN ('signed', 'sent', 'included');

CREATE TABLE actions (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id BIGINT NOT NULL,
    plan_id BIGINT NOT NULL,
    dry_run BOOLEAN NOT NULL,
    step_no INTEGER NOT NULL CHECK (step_no >= 0),
    group_no INTEGER NOT NULL CHECK (group_no >= 0),
    leads_group BOOLEAN NOT NULL,
    subject TEXT NOT NULL,
    unit_key BYTEA CHECK (length(unit_key) BETWEEN 1 AND 64),
    tier TEXT NOT NULL CHECK (
        tier IN ('liquidate', 'insurance_fund', 'auto_deleverage', 'socialise_loss', 'recalibrate')
    ),
    absorbs NUMERIC(78, 0) NOT NULL CHECK (absorbs >= 0),
    why TEXT NOT NULL,
    step JSONB NOT NULL,
    status TEXT NOT NULL DEFAULT 'planned' CHECK (
        status IN (
            'planned', 'simulated', 'signed', 'sent', 'included', 'replaced',
            'final', 'rejected', 'reverted', 'superseded', 'abandoned'
        )
    ),
    status_block BIGINT NOT NULL,
    reason TEXT,
    transaction_id BIGINT REFERENCES transactions (id),
    was_included BOOLEAN NOT NULL DEFAULT false,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    FOREIGN KEY (plan_id, deployment_id, dry_run) REFERENCES plans (id, deployment_id, dry_run),
    CONSTRAINT actions_one_per_step UNIQUE (plan_id, step_no),
    CONSTRAINT actions_dry_run_is_never_signed CHECK (NOT dry_run OR transaction_id IS NULL),
    CONSTRAINT actions_signed_have_a_transaction CHECK (
        (status IN ('planned', 'simulated', 'rejected') AND transaction_id IS NULL)
        OR (status IN ('signed', 'sent', 'included', 'replaced', 'final', 'reverted', 'superseded')
            AND transaction_id IS NOT NULL)
        OR status = 'abandoned'
    )
);
CREATE UNIQUE INDEX actions_one_leader ON actions (plan_id, group_no) WHERE leads_group;
CREATE UNIQUE INDEX actions_one_open_group ON actions (deployment_id, subject)
    WHERE leads_group AND NOT was_included AND status IN ('planned', 'simulated', 'signed', 'sent', 'replaced');
CREATE INDEX actions_by_unit ON actions (deployment_id, unit_key, id DESC);
CREATE INDEX actions_by_transaction ON actions (transaction_id) WHERE transaction_id IS NOT NULL;

CREATE TABLE attempts (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id BIGINT NOT NULL REFERENCES transactions (id),
    kind TEXT NOT NULL CHECK (kind IN ('first', 'replace', 'cancel')),
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    raw BYTEA NOT NULL CHECK (length(raw) > 0),
    gas_limit BIGINT NOT NULL CHECK (gas_limit > 0),
    max_fee_per_gas NUMERIC(39, 0) NOT NULL CHECK (max_fee_per_gas >= 0),
    max_priority_fee_per_gas NUMERIC(39, 0) NOT NULL CHECK (max_priority_fee_per_gas >= 0),
    signed_block BIGINT NOT NULL,
    signed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    broadcast TEXT CHECK (broadcast IN ('accepted', 'known', 'rejected', 'unknown')),
    broadcast_detail TEXT,
    broadcast_block BIGINT,
    included_block BIGINT,
    included_hash BYTEA CHECK (length(included_hash) = 32),
    included_parent_hash BYTEA CHECK (length(included_parent_hash) = 32),
    included_timestamp BIGINT,
    included_at TIMESTAMPTZ,
    success BOOLEAN,
    gas_used BIGINT CHECK (gas_used >= 0),
    effective_gas_price NUMERIC(39, 0) CHECK (effective_gas_price >= 0),
    revert_reason TEXT,
    CONSTRAINT attempts_one_per_hash UNIQUE (hash),
    CONSTRAINT attempts_included_whole CHECK (
        num_nulls(
            included_block, included_hash, included_parent_hash, included_timestamp,
            included_at, success, gas_used, effective_gas_price
        ) IN (0, 8)
    )
);
CREATE INDEX attempts_by_transaction ON attempts (transaction_id, id);
CREATE UNIQUE INDEX attempts_one_first ON attempts (transaction_id) WHERE kind = 'first';
CREATE UNIQUE INDEX attempts_one_included ON attempts (transaction_id) WHERE included_hash IS NOT NULL;

CREATE TABLE effects (
    transaction_id BIGINT NOT NULL REFERENCES transactions (id),
    position INTEGER NOT NULL CHECK (position >= 0),
    tier TEXT NOT NULL CHECK (
        tier IN ('liquidate', 'insurance_fund', 'auto_deleverage', 'socialise_loss', 'recalibrate')
    ),
    absorbed NUMERIC(78, 0) NOT NULL CHECK (absorbed >= 0),
    effect JSONB NOT NULL,
    PRIMARY KEY (transaction_id, position)
);

CREATE TABLE alerts (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id BIGINT REFERENCES deployments (id),
    key TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    title TEXT NOT NULL,
    detail TEXT NOT NULL,
    seen BIGINT NOT NULL DEFAULT 1 CHECK (seen > 0),
    opened_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    delivered_at TIMESTAMPTZ NOT NULL,
    resolved_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX alerts_one_open ON alerts (key) WHERE resolved_at IS NULL;
