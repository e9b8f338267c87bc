-- What pg_notify does, and the same for the feed: so that everybody who listens still hears it.
CREATE OR REPLACE FUNCTION rowcast.pg_notify(channel text, payload text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM pg_catalog.pg_notify(channel, payload);
    IF channel = ANY ({channels}::text[]) THEN
        PERFORM rowcast.notify(channel, payload);
    END IF;
END
$function$;
