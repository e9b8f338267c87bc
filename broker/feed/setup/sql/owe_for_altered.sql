DO $do$
DECLARE
    altered text;
BEGIN
    IF to_regclass('rowcast.feed') IS NOT NULL THEN
        SELECT {altered} INTO altered;
        IF altered IS NOT NULL THEN
            UPDATE rowcast.feed SET owed = coalesce(owed, altered || ' had been altered by hand') WHERE kind = 'outbox';
        END IF;
    END IF;
END
$do$
