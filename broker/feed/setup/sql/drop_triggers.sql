DO $do$
DECLARE
    left_over record;
BEGIN
    IF to_regclass('rowcast.feed') IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('lock_timeout', '3s', true);
    FOR left_over IN SELECT t.tgrelid::regclass AS target, t.tgname FROM pg_trigger t
        WHERE t.tgname = {trigger} AND t.tgparentid = 0
            AND t.tgrelid <> ALL (SELECT to_regclass(name) FROM unnest({but}::text[]) AS name WHERE to_regclass(name) IS NOT NULL)
    LOOP
        IF EXISTS (SELECT FROM rowcast.feed WHERE kind = 'outbox' AND name <> {feed}) THEN
            RAISE INFO 'the trigger of % stays, since another feed reads the outbox', left_over.target;
        ELSE
            EXECUTE format('DROP TRIGGER %I ON %s', left_over.tgname, left_over.target);
            RAISE INFO 'dropped the trigger of %, which nobody reads', left_over.target;
        END IF;
    END LOOP;
END
$do$
