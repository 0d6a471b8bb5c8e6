-- The queue in the meta database that carries changes of owners to the industry databases where
-- logical replication is not to be had. A row says only whose state changed and who has to hear of
-- it; whoever empties the queue reads the state of that moment, so order does not matter and doing
-- it twice does no harm. Safe to run again.

-- The databases to be told, by the name of their first shard; the industries they hold, and the
-- columns of "User" that they have too.
CREATE TABLE IF NOT EXISTS gateway.feed (
    shard      text PRIMARY KEY,
    industries text[] NOT NULL,
    columns    text[] NOT NULL
);

CREATE TABLE IF NOT EXISTS gateway.outbox (
    seq   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard text NOT NULL REFERENCES gateway.feed ON DELETE CASCADE,
    kind  text NOT NULL CHECK (kind IN ('user', 'placement')),
    key   text NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_shard_idx ON gateway.outbox (shard, seq);

CREATE OR REPLACE FUNCTION gateway.queue_user() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
DECLARE
    keys   text[] := '{}';
    places text[] := '{}';
BEGIN
    IF TG_OP <> 'INSERT' THEN
        keys := keys || OLD."id"::text;
        places := places || OLD."industry"::text;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        keys := keys || NEW."id"::text;
        places := places || NEW."industry"::text;
    END IF;
    INSERT INTO gateway.outbox (shard, kind, key)
        SELECT DISTINCT f.shard, 'user', k FROM gateway.feed f, unnest(keys) AS k
         WHERE f.industries && places;
    NOTIFY gateway_outbox;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION gateway.queue_placement() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    INSERT INTO gateway.outbox (shard, kind, key)
        SELECT f.shard, 'placement', NEW.owner_id FROM gateway.feed f;
    NOTIFY gateway_outbox;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER gateway_queue AFTER INSERT OR DELETE ON "User"
    FOR EACH ROW EXECUTE FUNCTION gateway.queue_user();
CREATE OR REPLACE TRIGGER gateway_queue_update AFTER UPDATE ON "User"
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION gateway.queue_user();
CREATE OR REPLACE TRIGGER gateway_queue AFTER INSERT OR UPDATE ON gateway.placement
    FOR EACH ROW EXECUTE FUNCTION gateway.queue_placement();
