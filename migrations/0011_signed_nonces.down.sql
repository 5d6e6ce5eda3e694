DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM signed_nonces WHERE content IS NOT NULL) THEN
        RAISE EXCEPTION 'transactions are written ahead and not entered: start backstop once before going back';
    END IF;
END
$$;
DROP TABLE signed_nonces;
