-- rowcast.publish() of an earlier version has no properties.  It goes out of the way under another name, so that
-- whatever holds it (a view, a prepared statement) goes on; calls by name find the new one.
DO $do$
DECLARE
    earlier record;
BEGIN
    FOR earlier IN SELECT p.oid::regprocedure AS signature FROM pg_proc p
        WHERE p.pronamespace = to_regnamespace('rowcast') AND p.proname ~ '^publish_[0-9]+$'
    LOOP
        BEGIN
            EXECUTE format('DROP FUNCTION %s', earlier.signature);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            NULL;
        END;
    END LOOP;
    FOR earlier IN SELECT p.oid::regprocedure AS signature, p.oid FROM pg_proc p
        WHERE p.pronamespace = to_regnamespace('rowcast') AND p.proname = 'publish' AND p.pronargs = 4
    LOOP
        EXECUTE format('ALTER FUNCTION %s RENAME TO %I', earlier.signature, 'publish_' || earlier.oid);
    END LOOP;
END
$do$;

-- The properties that a message of MQTT 5.0 can carry, as they came; an error in the caller's transaction for others.
CREATE OR REPLACE FUNCTION rowcast.publish_properties(properties jsonb) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    key text;
    value jsonb;
    item record;
    -- Control characters, and what Unicode says is no character.
    forbidden CONSTANT text := CASE WHEN getdatabaseencoding() = 'UTF8'
        THEN '[\u0001-\u001f\u007f-\u009f\ufdd0-\ufdef\ufffe\uffff]' ELSE '[\u0001-\u001f\u007f]' END;
BEGIN
    IF jsonb_typeof(properties) <> 'object' THEN
        RAISE EXCEPTION 'rowcast.publish: properties are an object, such as {"expiry": 30}, and not %', jsonb_typeof(properties);
    END IF;
    FOR key, value IN SELECT * FROM jsonb_each(properties) LOOP
        IF jsonb_typeof(value) = 'null' THEN
            CONTINUE;
        ELSIF key = 'expiry' THEN
            IF jsonb_typeof(value) <> 'number' OR (value #>> '{}')::numeric NOT BETWEEN 0 AND 4294967295 THEN
                RAISE EXCEPTION 'rowcast.publish: expiry is a number of seconds from 0 to 4294967295, and not %', value;
            END IF;
        ELSIF key IN ('content_type', 'response_topic', 'correlation_data') THEN
            IF jsonb_typeof(value) <> 'string' OR octet_length(convert_to(value #>> '{}', 'UTF8')) > 65535 THEN
                RAISE EXCEPTION 'rowcast.publish: % is a text of 65535 bytes at most', key;
            ELSIF key <> 'correlation_data' AND value #>> '{}' ~ forbidden THEN
                RAISE EXCEPTION 'rowcast.publish: % has a character that MQTT forbids', key;
            ELSIF key = 'response_topic' AND value #>> '{}' ~ '^$|[+#]|^\$' THEN
                RAISE EXCEPTION 'rowcast.publish: response_topic is a topic, without + and #, and with no $ at its start';
            END IF;
        ELSIF key = 'user_properties' THEN
            IF jsonb_typeof(value) <> 'object' THEN
                RAISE EXCEPTION 'rowcast.publish: user_properties is an object of texts, such as {"user_properties": {"op": "insert"}}';
            END IF;
            FOR item IN SELECT e.key AS name, v.value AS text, jsonb_typeof(v.value) AS type FROM jsonb_each(value) e
                CROSS JOIN LATERAL jsonb_array_elements(
                    CASE jsonb_typeof(e.value) WHEN 'array' THEN e.value ELSE jsonb_build_array(e.value) END) v
            LOOP
                IF item.type NOT IN ('string', 'number', 'boolean', 'null') THEN
                    RAISE EXCEPTION 'rowcast.publish: the user property % is a text, or an array of texts', item.name;
                ELSIF octet_length(convert_to(item.name, 'UTF8')) > 65535
                    OR octet_length(convert_to(item.text #>> '{}', 'UTF8')) > 65535
                THEN
                    RAISE EXCEPTION 'rowcast.publish: a user property''s name and its text have 65535 bytes at most';
                ELSIF item.name ~ forbidden OR item.text #>> '{}' ~ forbidden THEN
                    RAISE EXCEPTION 'rowcast.publish: the user property % has a character that MQTT forbids', item.name;
                END IF;
            END LOOP;
        ELSE
            RAISE EXCEPTION 'rowcast.publish: unknown property %: known are expiry, content_type, response_topic, correlation_data and user_properties', key;
        END IF;
    END LOOP;
    RETURN properties::text;
END
$function$;
