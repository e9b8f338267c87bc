-- A notification for the feed, in its place among the transaction's rows, rolled back with it.
CREATE OR REPLACE FUNCTION rowcast.notify(channel text, payload text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    -- A database that takes whatever it is given must not refuse to say it: the feed drops what is not UTF-8.
    encoding name := CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END;
BEGIN
    IF channel IS NULL OR octet_length(convert_to(channel, encoding)) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'rowcast.notify: a channel''s name has 1 to 63 bytes';
    END IF;
    {hand_on}
END
$function$;
