-- What every feed needs: a schema of its own, and a row that says which server the feed ran on last.
CREATE SCHEMA IF NOT EXISTS rowcast;

CREATE TABLE IF NOT EXISTS rowcast.feed (
    name              text PRIMARY KEY,
    kind              text NOT NULL,
    system_identifier text,
    timeline          integer,
    -- For the kind outbox: up to where this consumer has read.
    -- For the kind wal: the last transaction delivered (its commit LSN), and how much of it (0: all).
    read_seq          bigint NOT NULL DEFAULT 0,
    read_id           bigint NOT NULL DEFAULT 0,
    -- For the kind listen: the highest key delivered of each table that is read again after a gap.
    marks             jsonb,
    -- For each table and operation what captured it when the feed looked last (wal, outbox).
    captured          jsonb,
    -- The kind that the feed had before it was installed anew as another, until it has said that rows may be missing.
    moved_from        text,
    -- Why rows may be missing, from before what costs them is done until it has been said.
    owed              text,
    -- For the kind wal: up to where the feed may have confirmed what came.  A slot that stands farther was moved.
    stopped_at        bigint,
    -- On a cluster: which log had the rows up to that place.
    log               text,
    -- Of kind, place and marks as Rowcast wrote them, so that a place that somebody moves by hand is known.
    sealed            text
);

DO $do$
BEGIN
    -- Made by an earlier version.
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'rowcast.feed'::regclass AND attname = 'moved_from') THEN
        ALTER TABLE rowcast.feed ADD captured jsonb, ADD moved_from text;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'rowcast.feed'::regclass AND attname = 'owed') THEN
        ALTER TABLE rowcast.feed ADD owed text, ADD stopped_at bigint;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'rowcast.feed'::regclass AND attname = 'log') THEN
        ALTER TABLE rowcast.feed ADD log text;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'rowcast.feed'::regclass AND attname = 'sealed') THEN
        ALTER TABLE rowcast.feed ADD sealed text;
    END IF;
END
$do$;
