-- Publish from SQL, inside the caller's transaction: written to the WAL and nowhere else, rolled back with it.
CREATE OR REPLACE FUNCTION rowcast.publish_refused() RETURNS pg_lsn
LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION 'rowcast.publish: a topic has 1 to 65535 bytes, no + or #, and no $ at its start; qos is 0, 1 or 2, and retain true or false';
END
$function$;

-- One expression, so that Postgres puts it into the caller's query instead of calling a function; and without
-- a regular expression, which would take longer than all the rest.
CREATE OR REPLACE FUNCTION rowcast.publish(topic text, payload bytea, qos integer DEFAULT 1, retain boolean DEFAULT false)
RETURNS pg_lsn
LANGUAGE sql
AS $function$
    SELECT CASE
        WHEN qos >= 0 AND qos <= 2 AND retain IS NOT NULL
            AND topic <> '' AND octet_length(convert_to(topic, 'UTF8')) < 65536
            AND strpos(topic, '+') = 0 AND strpos(topic, '#') = 0
            AND (starts_with(topic, '$ws/') OR NOT starts_with(topic, '$'))
        THEN pg_logical_emit_message(true, 'rowcast',
            int4send((qos + CASE WHEN retain THEN 4 ELSE 0 END) << 24 | octet_length(convert_to(topic, 'UTF8')))
            || convert_to(topic, 'UTF8') || coalesce(payload, ''))
        ELSE rowcast.publish_refused()
    END
$function$;
