-- Publish from SQL, inside the caller's transaction: written to the WAL and nowhere else, rolled back with it.
CREATE OR REPLACE FUNCTION rowcast.publish(topic text, payload bytea, qos integer DEFAULT 1, retain boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    name bytea := convert_to(topic, 'UTF8');
BEGIN
    IF qos NOT BETWEEN 0 AND 2 OR retain IS NULL OR qos IS NULL THEN
        RAISE EXCEPTION 'rowcast.publish: qos must be 0, 1 or 2, and retain true or false';
    END IF;
    IF name IS NULL OR octet_length(name) NOT BETWEEN 1 AND 65535 OR topic ~ '[+#]'
        OR (topic LIKE '$%' AND topic NOT LIKE '$ws/%') THEN
        RAISE EXCEPTION 'rowcast.publish: a topic has 1 to 65535 bytes, no + or #, and no $ at its start';
    END IF;
    PERFORM pg_logical_emit_message(true, 'rowcast',
        set_byte('\x00', 0, qos + CASE WHEN retain THEN 4 ELSE 0 END)
        || substring(int4send(octet_length(name)) FROM 3) || name || coalesce(payload, ''));
END
$function$;
