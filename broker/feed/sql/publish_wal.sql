-- Publish from SQL, inside the caller's transaction: written to the WAL and nowhere else, rolled back with it.
-- Plain expressions only: each PERFORM would cost more than all of the rest.
CREATE OR REPLACE FUNCTION rowcast.publish(topic text, payload bytea, qos integer DEFAULT 1, retain boolean DEFAULT false)
RETURNS pg_lsn
LANGUAGE plpgsql
AS $function$
DECLARE
    name bytea := convert_to(topic, 'UTF8');
BEGIN
    IF qos >= 0 AND qos <= 2 AND octet_length(name) < 65536 AND topic !~ '^$|[+#]|^\$(?!ws/)' AND retain IS NOT NULL
    THEN
        RETURN pg_logical_emit_message(true, 'rowcast',
            int4send((qos + CASE WHEN retain THEN 4 ELSE 0 END) << 24 | octet_length(name))
            || name || coalesce(payload, ''));
    END IF;
    RAISE EXCEPTION 'rowcast.publish: a topic has 1 to 65535 bytes, no + or #, and no $ at its start; qos is 0, 1 or 2, and retain true or false';
END
$function$;
