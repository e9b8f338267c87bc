-- Publish from SQL through the outbox, for servers without wal_level = logical.
CREATE OR REPLACE FUNCTION rowcast.publish(topic text, payload bytea, qos integer DEFAULT 1, retain boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF qos NOT BETWEEN 0 AND 2 OR retain IS NULL OR qos IS NULL THEN
        RAISE EXCEPTION 'rowcast.publish: qos must be 0, 1 or 2, and retain true or false';
    END IF;
    IF topic IS NULL OR octet_length(convert_to(topic, 'UTF8')) NOT BETWEEN 1 AND 65535 OR topic ~ '[+#]'
        OR (topic LIKE '$%' AND topic NOT LIKE '$ws/%') THEN
        RAISE EXCEPTION 'rowcast.publish: a topic has 1 to 65535 bytes, no + or #, and no $ at its start';
    END IF;
    PERFORM rowcast.outbox_mark();
    INSERT INTO rowcast.outbox (topic, payload, qos, retain) VALUES ($1, coalesce($2, ''), $3, $4);
END
$function$;
