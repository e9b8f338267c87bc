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
CREATE UNIQUE INDEX IF NOT EXISTS outbox_commit_seq ON rowcast.outbox_commit (seq);

-- One row: rows with a seq up to this one have been pruned.
CREATE TABLE IF NOT EXISTS rowcast.outbox_pruned (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL DEFAULT 0
);
INSERT INTO rowcast.outbox_pruned DEFAULT VALUES ON CONFLICT DO NOTHING;

-- Numbers a transaction at its commit.  The lock is held until the commit is visible, so numbers become visible
-- in their order and none can be skipped by a reader.  NOTIFY holds such a lock over the commit anyway.
CREATE OR REPLACE FUNCTION rowcast.outbox_number() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM pg_advisory_xact_lock(8246211195234513268);
    UPDATE rowcast.outbox_commit SET seq = nextval('rowcast.outbox_seq'), committed_at = clock_timestamp()
        WHERE xid = NEW.xid;
    RETURN NULL;
END
$function$;

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'rowcast.outbox_commit'::regclass AND tgname = 'outbox_number')
    THEN
        CREATE CONSTRAINT TRIGGER outbox_number AFTER INSERT ON rowcast.outbox_commit
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rowcast.outbox_number();
    END IF;
END
$do$;

-- Once per transaction: have it numbered at its commit, and wake the readers with a bare NOTIFY.
CREATE OR REPLACE FUNCTION rowcast.outbox_mark() RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO rowcast.outbox_commit DEFAULT VALUES ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM pg_notify('rowcast_outbox', '');
    END IF;
END
$function$;

-- The trigger of every captured table.  The settings make its JSON equal to that of the kind wal.
CREATE OR REPLACE FUNCTION rowcast.outbox_capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET IntervalStyle = 'postgres'
SET bytea_output = 'hex'
AS $function$
BEGIN
    PERFORM rowcast.outbox_mark();
    INSERT INTO rowcast.outbox (relation, operation, body) VALUES (
        TG_ARGV[0],
        lower(TG_OP),
        CASE TG_OP WHEN 'DELETE' THEN row_to_json(OLD) ELSE row_to_json(NEW) END::text);
    RETURN NULL;
END
$function$;
