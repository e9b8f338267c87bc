DO $do$
DECLARE
    spec CONSTANT jsonb := {spec};
    lists CONSTANT boolean := current_setting('server_version_num')::int >= 150000;
    publication record;
    wanted record;
    member record;
    relation regclass;
    identity "char";
    key_columns text[];
    is_keyed boolean;
    list_wanted text[];
    list_found text[];
    list_now text[];
    filter_wanted text;
    filter_found text;
    filter_now text;
    filter_other text;
    is_member boolean;
    is_anywhere boolean;
BEGIN
    -- All at once: a table's list of columns has to be the same in all of a feed's publications whenever a row is written.
    PERFORM set_config('lock_timeout', '10s', true);
    FOR publication IN SELECT * FROM jsonb_to_recordset(spec -> 'publications') AS p (name text, operation text) LOOP
        IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = publication.name) THEN
            EXECUTE format('CREATE PUBLICATION %I WITH (publish = %L, publish_via_partition_root = true)', publication.name, publication.operation);
        ELSIF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = publication.name AND pubviaroot
            AND (pubinsert, pubupdate, pubdelete, pubtruncate)
                = (publication.operation = 'insert', publication.operation = 'update', publication.operation = 'delete', false))
        THEN
            EXECUTE format('ALTER PUBLICATION %I SET (publish = %L, publish_via_partition_root = true)', publication.name, publication.operation);
        END IF;
    END LOOP;

    FOR wanted IN SELECT * FROM jsonb_to_recordset(spec -> 'tables')
        AS t (name text, operations text[], columns text[], filter text, filtered_by text[])
    LOOP
        relation := wanted.name::regclass;
        identity := (SELECT relreplident FROM pg_class WHERE oid = relation);
        is_keyed := wanted.operations && '{{update,delete}}';
        key_columns := ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a
            ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
            WHERE i.indrelid = relation AND CASE identity WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END);
        -- A list has to cover what identifies a row that is updated or deleted, or Postgres refuses the writer's statement.
        list_wanted := NULL;
        IF lists AND wanted.columns IS NOT NULL AND NOT (is_keyed AND identity = 'f') THEN
            list_wanted := ARRAY(SELECT a.attname::text FROM pg_attribute a
                WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                AND (a.attname = ANY (wanted.columns) OR (is_keyed AND a.attname = ANY (key_columns))) ORDER BY a.attnum);
        END IF;
        -- A filter of inserts may look at every column; types of the database's own are not allowed in it.
        filter_wanted := NULL;
        IF lists AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = relation AND attname = ANY (wanted.filtered_by) AND atttypid >= 16384) THEN
            filter_wanted := wanted.filter;
        END IF;

        list_found := NULL;
        filter_other := NULL;
        is_anywhere := EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
            WHERE p.pubname IN (SELECT q ->> 'name' FROM jsonb_array_elements(spec -> 'publications') q) AND r.prrelid = relation);
        IF lists AND is_anywhere THEN
            EXECUTE $query$
                SELECT (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
                        WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])),
                    pg_get_expr(r.prqual, r.prrelid)
                FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                WHERE p.pubname IN (SELECT q ->> 'name' FROM jsonb_array_elements($1 -> 'publications') q) AND r.prrelid = $2
                ORDER BY p.pubname LIMIT 1
            $query$ INTO list_found, filter_other USING spec, relation;
        END IF;
        list_now := CASE WHEN is_anywhere THEN list_found ELSE list_wanted END;
        IF is_anywhere AND (spec ->> 'widen')::boolean THEN
            list_now := list_wanted;
        ELSIF is_anywhere AND list_wanted IS NOT NULL AND list_wanted IS DISTINCT FROM list_found THEN
            IF list_found IS NULL OR list_wanted <@ list_found THEN
                list_now := list_wanted;
            ELSE
                RAISE EXCEPTION '% is published with the columns %, and the routes want %: install with --widen to publish those, too',
                    relation, array_to_string(list_found, ', '), array_to_string(list_wanted, ', ');
            END IF;
        END IF;

        FOR publication IN SELECT * FROM jsonb_to_recordset(spec -> 'publications') AS p (name text, operation text)
            WHERE operation = ANY (wanted.operations)
        LOOP
            list_found := NULL;
            filter_found := NULL;
            is_member := EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                WHERE p.pubname = publication.name AND r.prrelid = relation);
            IF lists AND is_member THEN
                EXECUTE $query$
                    SELECT (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
                            WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])),
                        pg_get_expr(r.prqual, r.prrelid)
                    FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                    WHERE p.pubname = $1 AND r.prrelid = $2
                $query$ INTO list_found, filter_found USING publication.name, relation;
            END IF;
            filter_now := CASE WHEN publication.operation = 'insert' THEN filter_wanted END;
            IF NOT (spec ->> 'widen')::boolean THEN
                IF is_member AND filter_now IS NULL THEN
                    filter_now := filter_found;
                ELSIF is_member AND filter_found IS NOT NULL THEN
                    -- Postgres prints a condition in its own way.
                    EXECUTE format('CREATE PUBLICATION rowcast_compared FOR TABLE ONLY %s WHERE (%s)', relation, filter_now);
                    EXECUTE 'SELECT pg_get_expr(r.prqual, r.prrelid) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid'
                        ' WHERE p.pubname = ''rowcast_compared''' INTO filter_now;
                    DROP PUBLICATION rowcast_compared;
                    IF filter_now <> filter_found THEN
                        RAISE EXCEPTION '% is published where %, and the routes want it where %: install with --widen to replace the filter',
                            relation, filter_found, filter_now;
                    END IF;
                ELSIF NOT is_member AND filter_now IS NULL AND wanted.filter IS NULL THEN
                    -- A row filter that somebody gave another of the feed's publications holds here, too, where it can.
                    filter_now := filter_other;
                    IF publication.operation <> 'insert' AND identity <> 'f' AND EXISTS (SELECT FROM pg_attribute a
                        WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attname = ANY (key_columns)
                        AND strpos(filter_other, a.attname) > 0)
                    THEN
                        RAISE EXCEPTION '% is published where %, which %s can''t be asked, since its columns are not in the replica identity: install with --widen to publish all of them',
                            relation, filter_other, publication.operation;
                    END IF;
                END IF;
            END IF;
            CONTINUE WHEN is_member AND list_found IS NOT DISTINCT FROM list_now AND filter_found IS NOT DISTINCT FROM filter_now;
            IF is_member THEN
                EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', publication.name, relation);
            END IF;
            EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s', publication.name, relation)
                || coalesce((SELECT ' (' || string_agg(quote_ident(c), ', ') || ')' FROM unnest(list_now) AS c), '')
                || coalesce(' WHERE (' || filter_now || ')', '');
        END LOOP;
    END LOOP;

    FOR publication IN SELECT * FROM jsonb_to_recordset(spec -> 'publications') AS p (name text, operation text) LOOP
        FOR member IN SELECT r.prrelid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
            WHERE p.pubname = publication.name AND r.prrelid <> ALL (
                SELECT (t ->> 'name')::regclass FROM jsonb_array_elements(spec -> 'tables') t WHERE t -> 'operations' ? publication.operation)
        LOOP
            EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', publication.name, member.prrelid::regclass);
            RAISE INFO '% is not published any more for its %s', member.prrelid::regclass, publication.operation;
        END LOOP;
    END LOOP;
END
$do$
