DO $do$
DECLARE
    partition regclass;
BEGIN
    -- Only what differs: whoever waits for the table's lock lets all behind it wait.
    PERFORM set_config('lock_timeout', '3s', true);
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = {table}::regclass AND tgname = {trigger_name} AND tgenabled = 'A'
        AND tgtype = {bits} AND tgqual IS NULL AND tgattr = ''::int2vector AND tgfoid = 'rowcast.outbox_capture'::regproc
        AND tgargs = convert_to({argument}, 'UTF8') || '\x00'::bytea)
        -- Each partition has its own, cloned.
        AND NOT EXISTS (SELECT FROM pg_partition_tree({table}::regclass) l WHERE l.relid <> {table}::regclass
            AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = l.relid AND tgname = {trigger_name} AND tgenabled = 'A'))
    THEN
        RETURN;
    END IF;
    DROP TRIGGER IF EXISTS {trigger} ON {target};
    -- What was a captured table of its own before it became a partition.
    FOR partition IN SELECT l.relid FROM pg_partition_tree({table}::regclass) l JOIN pg_trigger t ON t.tgrelid = l.relid
        WHERE t.tgname = {trigger_name}
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', {trigger_name}, partition);
    END LOOP;
    CREATE TRIGGER {trigger} AFTER {operations} ON {target} FOR EACH ROW EXECUTE FUNCTION rowcast.outbox_capture({argument});
    -- Also where session_replication_role = replica: logical replication and pg_restore write rows, too.
    ALTER TABLE {target} ENABLE ALWAYS TRIGGER {trigger};
    FOR partition IN SELECT l.relid FROM pg_partition_tree({table}::regclass) l JOIN pg_trigger t ON t.tgrelid = l.relid
        WHERE t.tgname = {trigger_name} AND t.tgenabled <> 'A'
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', partition, {trigger_name});
    END LOOP;
END
$do$
