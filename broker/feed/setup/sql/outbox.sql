-- The outbox: what was changed, by transaction, and the order in which transactions committed.
CREATE TABLE IF NOT EXISTS rowcast.outbox (
    id        bigint GENERATED ALWAYS AS IDENTITY,
    xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
    relation  text,
    operation text,
    body      text,
    -- Only for rowcast.publish().
    topic     text,
    payload   bytea,
    qos       smallint,
    retain    boolean,
    PRIMARY KEY (xid, id)
);

CREATE SEQUENCE IF NOT EXISTS rowcast.outbox_seq;

CREATE TABLE IF NOT EXISTS rowcast.outbox_commit (
    xid          xid8 PRIMARY KEY DEFAULT pg_current_xact_id(),
    seq          bigint,
    committed_at timestamptz
);
DO $do$
BEGIN
    -- Not IF NOT EXISTS, which takes the table's lock first: whoever waits for it lets all writers behind it wait.
    PERFORM set_config('lock_timeout', '3s', true);
    IF to_regclass('rowcast.outbox_commit_seq') IS NULL THEN
        CREATE UNIQUE INDEX outbox_commit_seq ON rowcast.outbox_commit (seq);
    END IF;
END
$do$;

-- One row: rows with a seq up to this one have been pruned.
CREATE TABLE IF NOT EXISTS rowcast.outbox_pruned (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL DEFAULT 0
);
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM rowcast.outbox_pruned) THEN
        INSERT INTO rowcast.outbox_pruned DEFAULT VALUES ON CONFLICT DO NOTHING;
        UPDATE rowcast.feed SET owed = coalesce(owed, 'somebody has emptied rowcast.outbox_pruned')
            WHERE kind = 'outbox' AND read_seq > 0;
    END IF;
END
$do$;

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'rowcast.outbox_commit'::regclass AND attname = 'deferred')
    THEN
        -- How often it was too early to number the transaction.
        PERFORM set_config('lock_timeout', '3s', true);
        ALTER TABLE rowcast.outbox_commit ADD deferred integer NOT NULL DEFAULT 0;
    END IF;
    IF to_regclass('rowcast.outbox_commit_rest') IS NULL THEN
        PERFORM set_config('lock_timeout', '3s', true);
        CREATE INDEX outbox_commit_rest ON rowcast.outbox_commit (xid) WHERE seq IS NULL;
    END IF;
END
$do$;

-- Numbers a transaction at its commit.  The lock is held until the commit is visible, so numbers become visible
-- in their order and none can be skipped by a reader.  NOTIFY holds such a lock over the commit anyway.
-- Before its commit (SET CONSTRAINTS ... IMMEDIATE) a transaction is not numbered: it would hold the lock while it
-- waits for rows of others.  A transaction that is only prepared would hold it for hours: it is numbered by whoever
-- comes after its COMMIT PREPARED, a writer or the reader.
CREATE OR REPLACE FUNCTION rowcast.outbox_number() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF current_query() ~* '\mprepare\s+transaction\M' THEN  -- anywhere: behind a comment, or other statements
        RETURN NULL;
    END IF;
    -- A transaction of one statement ends with it; others end with COMMIT, or unrecognised, which costs some rounds.
    IF NEW.deferred < 4 AND now() <> statement_timestamp() AND current_query() !~* '^\s*(commit|end)\M' THEN
        SET CONSTRAINTS rowcast.outbox_number DEFERRED;
        UPDATE rowcast.outbox_commit SET deferred = deferred + 1 WHERE xid = NEW.xid;
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(8246211195234513268);
    IF current_setting('transaction_isolation') = 'read committed' THEN
        UPDATE rowcast.outbox_commit SET seq = nextval('rowcast.outbox_seq'), committed_at = clock_timestamp()
            WHERE seq IS NULL AND xid <> NEW.xid;
    END IF;
    UPDATE rowcast.outbox_commit SET seq = nextval('rowcast.outbox_seq'), committed_at = clock_timestamp()
        WHERE xid = NEW.xid AND seq IS NULL;
    PERFORM pg_notify('rowcast_outbox', '');
    RETURN NULL;
END
$function$;

-- Numbers what has committed without a number: prepared transactions, and those of before the trigger was there.
-- And forgets what came with a dump from another server if that was ahead: transactions of these numbers are still to
-- come here, and must not be taken for those.
CREATE OR REPLACE FUNCTION rowcast.outbox_number_rest() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF EXISTS (SELECT FROM rowcast.outbox_commit WHERE seq IS NULL) THEN
        PERFORM pg_advisory_xact_lock(8246211195234513268);
        UPDATE rowcast.outbox_commit SET seq = nextval('rowcast.outbox_seq'), committed_at = clock_timestamp()
            WHERE seq IS NULL;
    END IF;
    IF (SELECT max(xid) FROM rowcast.outbox_commit) >= pg_snapshot_xmax(pg_current_snapshot()) THEN
        PERFORM set_config('rowcast.prunes', 'on', true);
        DELETE FROM rowcast.outbox WHERE xid >= pg_snapshot_xmax(pg_current_snapshot());
        DELETE FROM rowcast.outbox_commit WHERE xid >= pg_snapshot_xmax(pg_current_snapshot());
    END IF;
END
$function$;

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'rowcast.outbox_commit'::regclass
        AND tgname = 'outbox_number' AND tgtype & 16 <> 0 AND tgenabled = 'A' AND tgqual IS NULL
        AND tgfoid = 'rowcast.outbox_number'::regproc)
    THEN
        PERFORM set_config('lock_timeout', '3s', true);
        DROP TRIGGER IF EXISTS outbox_number ON rowcast.outbox_commit;
        CREATE CONSTRAINT TRIGGER outbox_number AFTER INSERT OR UPDATE OF deferred ON rowcast.outbox_commit
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rowcast.outbox_number();
        -- Also where session_replication_role = replica: logical replication and pg_restore write rows, too.
        ALTER TABLE rowcast.outbox_commit ENABLE ALWAYS TRIGGER outbox_number;
    END IF;
END
$do$;

-- Rows that somebody takes away by hand may not have been read: every feed that is behind has to say so.
CREATE OR REPLACE FUNCTION rowcast.outbox_taken() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF current_setting('rowcast.prunes', true) IS DISTINCT FROM 'on' THEN
        UPDATE rowcast.feed SET owed = 'somebody has deleted rows of the outbox'
            WHERE kind = 'outbox' AND owed IS NULL AND (read_seq < (SELECT last_value FROM rowcast.outbox_seq)
                OR EXISTS (SELECT FROM rowcast.outbox_commit WHERE seq IS NULL));
    END IF;
    RETURN NULL;
END
$function$;

DO $do$
DECLARE
    emptied text;
    highest bigint;
BEGIN
    FOREACH emptied IN ARRAY ARRAY['rowcast.outbox', 'rowcast.outbox_commit'] LOOP
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = emptied::regclass AND tgname = 'outbox_taken'
            AND tgenabled = 'A')
        THEN
            PERFORM set_config('lock_timeout', '3s', true);
            EXECUTE format('DROP TRIGGER IF EXISTS outbox_taken ON %s', emptied);
            EXECUTE format('CREATE TRIGGER outbox_taken AFTER DELETE OR TRUNCATE ON %s FOR EACH STATEMENT'
                ' EXECUTE FUNCTION rowcast.outbox_taken()', emptied);
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER outbox_taken', emptied);
        END IF;
    END LOOP;
    -- Numbers that somebody has set back would be taken already, and commits fail.
    highest := greatest((SELECT max(seq) FROM rowcast.outbox_commit), (SELECT seq FROM rowcast.outbox_pruned),
        (SELECT max(read_seq) FROM rowcast.feed WHERE kind = 'outbox'));
    IF highest > (SELECT last_value - (NOT is_called)::integer FROM rowcast.outbox_seq) THEN
        PERFORM pg_advisory_xact_lock(8246211195234513268);
        PERFORM setval('rowcast.outbox_seq', greatest(highest, (SELECT last_value FROM rowcast.outbox_seq)));
        UPDATE rowcast.feed SET owed = coalesce(owed, 'the numbers of the outbox had been set back')
            WHERE kind = 'outbox';
    END IF;
END
$do$;

-- Once per transaction: have it numbered at its commit, which wakes the readers with a bare NOTIFY.
CREATE OR REPLACE FUNCTION rowcast.outbox_mark() RETURNS void
LANGUAGE sql
AS $function$
    INSERT INTO rowcast.outbox_commit DEFAULT VALUES ON CONFLICT DO NOTHING
$function$;

-- A row of a partition, with the columns in the order of its table, where the partition has another.
CREATE OR REPLACE FUNCTION rowcast.outbox_row(leaf oid, root oid, changed record) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    columns text;
    body text;
BEGIN
    SELECT string_agg(format('($1::%s).%I', leaf::regclass, attname), ', ' ORDER BY attnum) INTO columns
        FROM pg_attribute WHERE attrelid = root AND attnum > 0 AND NOT attisdropped;
    EXECUTE format('SELECT row_to_json(r)::text FROM (SELECT %s) r', columns) INTO body USING changed;
    RETURN body;
END
$function$;

-- The trigger of every captured table.  The settings make its JSON equal to that of the kind wal.
CREATE OR REPLACE FUNCTION rowcast.outbox_capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO'
SET IntervalStyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $function$
DECLARE
    root oid := pg_partition_root(TG_RELID);
    changed record;
    body text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
    ELSE
        changed := NEW;
    END IF;
    IF root IS NULL OR root = TG_RELID OR NOT EXISTS (
        SELECT FROM (SELECT attname, row_number() OVER (ORDER BY attnum) AS place FROM pg_attribute
            WHERE attrelid = root AND attnum > 0 AND NOT attisdropped) r
        LEFT JOIN (SELECT attname, row_number() OVER (ORDER BY attnum) AS place FROM pg_attribute
            WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped) l USING (attname, place)
        WHERE l.place IS NULL)
    THEN
        body := row_to_json(changed)::text;
    ELSE
        body := rowcast.outbox_row(TG_RELID, root, changed);
    END IF;
    PERFORM rowcast.outbox_mark();
    INSERT INTO rowcast.outbox (relation, operation, body) VALUES (TG_ARGV[0], lower(TG_OP), body);
    RETURN NULL;
END
$function$;

DO $do$
BEGIN
    -- Amounts of money as the database writes them, not as the writer's session does.
    EXECUTE format('ALTER FUNCTION rowcast.outbox_capture() SET lc_monetary = %L',
        (SELECT reset_val FROM pg_settings WHERE name = 'lc_monetary'));
END
$do$;
