DROP TABLE refusals;
DROP TABLE settings_changes;
DROP INDEX plans_by_segment;
ALTER TABLE effects ADD CONSTRAINT effects_tier_check CHECK (
    tier IN ('liquidate', 'insurance_fund', 'auto_deleverage', 'socialise_loss', 'recalibrate')
);
ALTER TABLE actions ADD CONSTRAINT actions_tier_check CHECK (
    tier IN ('liquidate', 'insurance_fund', 'auto_deleverage', 'socialise_loss', 'recalibrate')
);
