-- Every nonce that was signed for. What was written ahead of the broadcast stays in its row until it is entered into the other
-- tables. Nothing refers to it and it refers to nothing, so that writing it takes as little as can be.
CREATE TABLE signed_nonces (
    chain_id BIGINT NOT NULL,
    signer BYTEA NOT NULL,
    nonce BIGINT NOT NULL,
    deployment_id BIGINT NOT NULL,
    transaction_id BIGINT NOT NULL DEFAULT nextval('transactions_id_seq'),
    attempt_id BIGINT NOT NULL DEFAULT nextval('attempts_id_seq'),
    written_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    content TEXT,
    plan TEXT,
    decision TEXT,
    CONSTRAINT signed_nonces_one_each PRIMARY KEY (chain_id, signer, nonce)
) WITH (toast_tuple_target = 8160);
ALTER TABLE signed_nonces
    ALTER COLUMN content SET STORAGE EXTERNAL,
    ALTER COLUMN plan SET STORAGE EXTERNAL,
    ALTER COLUMN decision SET STORAGE EXTERNAL;
CREATE INDEX signed_nonces_ahead ON signed_nonces (deployment_id) WHERE content IS NOT NULL;
INSERT INTO signed_nonces (chain_id, signer, nonce, deployment_id, transaction_id, attempt_id, written_at)
SELECT t.chain_id, t.signer, t.nonce, t.deployment_id, t.id, a.id, t.created_at
FROM transactions t JOIN attempts a ON a.transaction_id = t.id AND a.kind = 'first';
