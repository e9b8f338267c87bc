-- A notification for the feed: into the outbox, in its place among the transaction's rows, rolled back with it.
CREATE OR REPLACE FUNCTION rowcast.notify(channel text, payload text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF channel IS NULL OR octet_length(convert_to(channel, CASE getdatabaseencoding()
        WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'rowcast.notify: a channel''s name has 1 to 63 bytes';
    END IF;
    PERFORM rowcast.outbox_mark();
    INSERT INTO rowcast.outbox (relation, operation, body) VALUES (channel, 'notify', coalesce(payload, ''));
END
$function$;
