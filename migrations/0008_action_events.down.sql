DROP TRIGGER record_moved_actions ON actions;
DROP TRIGGER record_new_actions ON actions;
DROP FUNCTION record_moved_actions();
DROP FUNCTION record_new_actions();
DROP TABLE action_events;
DROP FUNCTION action_events_are_final();
