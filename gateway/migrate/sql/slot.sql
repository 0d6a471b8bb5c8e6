-- An owner's hash slot, 0 to 1023; the twin of slot_of() in gateway/router/slots.py. The same in the
-- meta database and in every industry database.
CREATE OR REPLACE FUNCTION gateway.slot(owner_id text) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (('x' || substr(md5(owner_id), 1, 8))::bit(32)::bigint % 1024)::integer;
