CREATE OR REPLACE FUNCTION rowcast.publish(topic text, payload text, qos integer DEFAULT 1, retain boolean DEFAULT false, properties jsonb DEFAULT NULL)
RETURNS pg_lsn
LANGUAGE sql
AS $function$
    SELECT rowcast.publish(topic, convert_to(payload, 'UTF8'), qos, retain, properties)
$function$;
