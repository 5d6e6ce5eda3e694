DROP TABLE risk_reports;
DROP TABLE risk_moves;
