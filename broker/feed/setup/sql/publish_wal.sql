-- Publish from SQL, inside the caller's transaction: written to the WAL and nowhere else, rolled back with it.
CREATE OR REPLACE FUNCTION rowcast.publish_refused() RETURNS pg_lsn
LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION 'rowcast.publish: a topic has 1 to 65535 bytes, no + or #, and no $ at its start; qos is 0, 1 or 2, and retain true or false';
END
$function$;

CREATE OR REPLACE FUNCTION rowcast.publish_with(topic text, payload bytea, qos integer, retain boolean, properties text)
RETURNS pg_lsn
LANGUAGE sql
AS $function$
    SELECT pg_logical_emit_message(true, 'rowcast',
        int4send((qos + CASE WHEN retain THEN 12 ELSE 8 END) << 24 | octet_length(convert_to(topic, 'UTF8')))
        || convert_to(topic, 'UTF8')
        || int4send(octet_length(convert_to(properties, 'UTF8'))) || convert_to(properties, 'UTF8')
        || coalesce(payload, ''))
$function$;

-- One expression, so that Postgres puts it into the caller's query instead of calling a function; and without
-- a regular expression, which would take longer than all the rest.
CREATE OR REPLACE FUNCTION rowcast.publish(topic text, payload bytea, qos integer DEFAULT 1, retain boolean DEFAULT false, properties jsonb DEFAULT NULL)
RETURNS pg_lsn
LANGUAGE sql
AS $function$
    SELECT CASE
        WHEN qos >= 0 AND qos <= 2 AND retain IS NOT NULL
            AND topic <> '' AND octet_length(convert_to(topic, 'UTF8')) < 65536
            AND strpos(topic, '+') = 0 AND strpos(topic, '#') = 0
            AND (starts_with(topic, '$ws/') OR NOT starts_with(topic, '$'))
        THEN CASE WHEN properties IS NOT NULL
            THEN rowcast.publish_with(topic, payload, qos, retain, rowcast.publish_properties(properties))
            ELSE pg_logical_emit_message(true, 'rowcast',
            int4send((qos + CASE WHEN retain THEN 4 ELSE 0 END) << 24 | octet_length(convert_to(topic, 'UTF8')))
            || convert_to(topic, 'UTF8') || coalesce(payload, '')) END
        ELSE rowcast.publish_refused()
    END
$function$;
