DO $do$
BEGIN
    -- Only what differs: whoever waits for the table's lock lets all behind it wait.
    PERFORM set_config('lock_timeout', '3s', true);
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = {table}::regclass AND tgname = {trigger_name} AND tgenabled = 'A'
        AND tgtype = {bits} AND tgfoid = 'rowcast.outbox_capture'::regproc
        AND tgargs = convert_to({argument}, 'UTF8') || '\x00'::bytea)
    THEN
        RETURN;
    END IF;
    DROP TRIGGER IF EXISTS {trigger} ON {target};
    CREATE TRIGGER {trigger} AFTER {operations} ON {target} FOR EACH ROW EXECUTE FUNCTION rowcast.outbox_capture({argument});
    -- Also where session_replication_role = replica: logical replication and pg_restore write rows, too.
    ALTER TABLE {target} ENABLE ALWAYS TRIGGER {trigger};
END
$do$
