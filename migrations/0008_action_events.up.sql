-- Every move of an action, as it happened. By month, so that the old go as a whole.
CREATE TABLE action_events (
    id BIGSERIAL,
    occurred_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    deployment_id BIGINT NOT NULL,
    plan_id BIGINT NOT NULL,
    action_id BIGINT NOT NULL,
    status_before TEXT,
    status TEXT NOT NULL,
    status_block BIGINT NOT NULL,
    reason TEXT,
    transaction_id BIGINT,
    PRIMARY KEY (occurred_at, id)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX action_events_by_action ON action_events (action_id, id);

-- What has no month of its own: a move of an action never fails for want of one.
CREATE TABLE action_events_default PARTITION OF action_events DEFAULT;

CREATE FUNCTION action_events_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'action events are never changed; old ones go with their partition';
END $$;
CREATE TRIGGER action_events_are_final BEFORE UPDATE OR DELETE ON action_events
    FOR EACH ROW EXECUTE FUNCTION action_events_are_final();

-- The journal's code moves actions in several statements; none of them can forget this.
CREATE FUNCTION record_new_actions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO action_events (deployment_id, plan_id, action_id, status, status_block, reason, transaction_id)
    SELECT deployment_id, plan_id, id, status, status_block, reason, transaction_id FROM written ORDER BY id;
    RETURN NULL;
END $$;
CREATE TRIGGER record_new_actions AFTER INSERT ON actions REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION record_new_actions();

CREATE FUNCTION record_moved_actions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO action_events
        (deployment_id, plan_id, action_id, status_before, status, status_block, reason, transaction_id)
    SELECT n.deployment_id, n.plan_id, n.id, o.status, n.status, n.status_block, n.reason, n.transaction_id
    FROM written n JOIN overwritten o USING (id) WHERE n.status <> o.status ORDER BY n.id;
    RETURN NULL;
END $$;
CREATE TRIGGER record_moved_actions AFTER UPDATE ON actions REFERENCING OLD TABLE AS overwritten NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION record_moved_actions();
