-- Publish from SQL through the outbox, for servers without wal_level = logical.
CREATE OR REPLACE FUNCTION rowcast.publish(topic text, payload bytea, qos integer DEFAULT 1, retain boolean DEFAULT false, properties jsonb DEFAULT NULL)
RETURNS pg_lsn
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF qos >= 0 AND qos <= 2 AND octet_length(convert_to(topic, 'UTF8')) < 65536 AND topic !~ '^$|[+#]|^\$(?!ws/)'
        AND retain IS NOT NULL
    THEN
        PERFORM rowcast.outbox_mark();
        INSERT INTO rowcast.outbox (topic, payload, qos, retain, body)
            VALUES ($1, coalesce($2, ''), $3, $4, rowcast.publish_properties($5));
        RETURN pg_current_wal_insert_lsn();
    END IF;
    RAISE EXCEPTION 'rowcast.publish: a topic has 1 to 65535 bytes, no + or #, and no $ at its start; qos is 0, 1 or 2, and retain true or false';
END
$function$;
