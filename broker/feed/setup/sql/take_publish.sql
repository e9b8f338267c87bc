DO $do$
DECLARE
    other record;
BEGIN
    -- Whoever was named at an earlier installation, or everybody.
    FOR other IN SELECT p.oid::regprocedure AS function, a.grantee
        FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
        WHERE p.pronamespace = to_regnamespace('rowcast') AND p.proname = 'publish' AND a.grantee <> p.proowner
            AND a.grantee IS DISTINCT FROM to_regrole({publisher})::oid
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM %s CASCADE', other.function,
            CASE other.grantee WHEN 0 THEN 'PUBLIC' ELSE other.grantee::regrole::text END);
    END LOOP;
END
$do$
