DO $do$
DECLARE
    wanted text;
    member record;
    listed text;
    filter text;
BEGIN
    PERFORM set_config('lock_timeout', '10s', true);
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = {name}) THEN
        EXECUTE format('CREATE PUBLICATION %I WITH (publish = %L, publish_via_partition_root = true)', {name}, {operation});
    ELSIF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = {name} AND pubviaroot
        AND (pubinsert, pubupdate, pubdelete, pubtruncate)
            = ({operation} = 'insert', {operation} = 'update', {operation} = 'delete', false))
    THEN
        EXECUTE format('ALTER PUBLICATION %I SET (publish = %L, publish_via_partition_root = true)', {name}, {operation});
    END IF;
    FOREACH wanted IN ARRAY {tables}::text[] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
            WHERE p.pubname = {name} AND r.prrelid = wanted::regclass);
        listed := '';
        filter := '';
        -- A column list or a row filter that somebody gave another of the feed's publications holds here, too.
        IF current_setting('server_version_num')::int >= 150000 THEN
            EXECUTE $query$
                SELECT '(' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                        WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])) || ')',
                    ' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')'
                FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                WHERE p.pubname = ANY ($1) AND r.prrelid = $2 LIMIT 1
            $query$ INTO listed, filter USING {all}::text[], wanted::regclass;
        END IF;
        EXECUTE format('ALTER PUBLICATION %I ADD TABLE %s %s %s', {name}, wanted::regclass, coalesce(listed, ''), coalesce(filter, ''));
    END LOOP;
    FOR member IN SELECT r.prrelid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
        WHERE p.pubname = {name} AND r.prrelid <> ALL (SELECT unnest({tables}::text[])::regclass)
    LOOP
        EXECUTE format('ALTER PUBLICATION %I DROP TABLE %s', {name}, member.prrelid::regclass);
        RAISE INFO '% is not published any more for its %s', member.prrelid::regclass, {operation};
    END LOOP;
END
$do$
