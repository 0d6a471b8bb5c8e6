-- The gateway's directory, kept in the meta database beside "User": who may log in, who may act for
-- whom, and where an owner lives. Triggers tell every gateway instance about each change.
-- Safe to run again. It needs of the existing schema only "User" ("id", "industry").

CREATE SCHEMA IF NOT EXISTS gateway;

-- What a client authenticates as.
CREATE TABLE IF NOT EXISTS gateway.login (
    name        text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 255),
    kind        text NOT NULL CHECK (kind IN ('owner', 'service', 'operator')),
    verifier    text NOT NULL DEFAULT '',   -- as PostgreSQL stores it; empty: no password
    owner_id    text CHECK (octet_length(owner_id) BETWEEN 1 AND 255),
    valid_until timestamptz,
    disabled    boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT login_owner_only_for_owners CHECK ((kind = 'owner') = (owner_id IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS login_owner_id_idx ON gateway.login (owner_id);

-- Keys accepted in place of the password. Only the SHA-256 of a key is kept, in hex.
CREATE TABLE IF NOT EXISTS gateway.api_key (
    id          text PRIMARY KEY CHECK (octet_length(id) BETWEEN 1 AND 255),
    login       text NOT NULL REFERENCES gateway.login (name) ON UPDATE CASCADE ON DELETE CASCADE,
    hash        text NOT NULL UNIQUE CHECK (hash ~ '^[0-9a-f]{64}$'),
    valid_until timestamptz,
    disabled    boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS api_key_login_idx ON gateway.api_key (login);

-- Whom a service login may act for: everyone, the owners of an agency, or one owner.
CREATE TABLE IF NOT EXISTS gateway.login_grant (
    login text NOT NULL REFERENCES gateway.login (name) ON UPDATE CASCADE ON DELETE CASCADE,
    scope text NOT NULL CHECK (scope IN ('all', 'agency', 'owner')),
    value text CHECK (octet_length(value) BETWEEN 1 AND 255),
    CONSTRAINT login_grant_value_unless_all CHECK ((scope = 'all') = (value IS NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS login_grant_once
    ON gateway.login_grant (login, scope, coalesce(value, ''));

-- Where an owner lives when that is not what its hash slot says; no shard: there. The epoch grows
-- with each move and is never forgotten: DELETE takes the shard away and leaves the row.
CREATE TABLE IF NOT EXISTS gateway.placement (
    owner_id text PRIMARY KEY CHECK (octet_length(owner_id) BETWEEN 1 AND 255),
    shard    text,
    epoch    bigint NOT NULL DEFAULT 1 CHECK (epoch > 0)
);
DO $$ BEGIN -- tables of earlier versions
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'gateway.placement'::regclass
                                          AND attname = 'shard' AND attnotnull) THEN
        ALTER TABLE gateway.placement ALTER shard DROP NOT NULL;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION gateway.count_epoch() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    CASE TG_OP
    WHEN 'INSERT' THEN
        UPDATE gateway.placement p SET shard = NEW.shard, epoch = greatest(NEW.epoch, p.epoch + 1)
         WHERE p.owner_id = NEW.owner_id AND p.shard IS NULL;
        RETURN CASE WHEN FOUND THEN NULL ELSE NEW END;
    WHEN 'UPDATE' THEN
        NEW.epoch := greatest(NEW.epoch,
            OLD.epoch + (NEW.shard IS DISTINCT FROM OLD.shard)::integer);
        RETURN NEW;
    ELSE
        UPDATE gateway.placement p SET shard = NULL WHERE p.owner_id = OLD.owner_id;
        RETURN NULL;
    END CASE;
END
$$;
CREATE OR REPLACE TRIGGER gateway_count BEFORE INSERT OR UPDATE OR DELETE ON gateway.placement
    FOR EACH ROW EXECUTE FUNCTION gateway.count_epoch();

-- Another industry is another place: a placement in the old one counts no more.
CREATE OR REPLACE FUNCTION gateway.change_industry() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    INSERT INTO gateway.placement AS p (owner_id, shard, epoch) VALUES (NEW."id"::text, NULL, 1)
        ON CONFLICT (owner_id) DO UPDATE SET shard = NULL, epoch = p.epoch + 1;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER gateway_epoch AFTER UPDATE ON "User"
    FOR EACH ROW WHEN (OLD."industry" IS DISTINCT FROM NEW."industry")
    EXECUTE FUNCTION gateway.change_industry();

-- Owners as the router wants them. The index serves `WHERE id = $1` on the view.
CREATE INDEX IF NOT EXISTS user_id_text_idx ON "User" (("id"::text));
-- The plan comes from "UserSubscription" ("userId", "plan"), where there is one.
DO $$
DECLARE
    subscribed boolean := 2 = (SELECT count(*) FROM pg_attribute
        WHERE attrelid = to_regclass('"UserSubscription"') AND attname IN ('userId', 'plan'));
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW gateway.owner AS
        SELECT u."id"::text       AS id,
               u."industry"::text AS industry,
               p.shard            AS shard,
               coalesce(p.epoch, 0) AS epoch,
               to_jsonb(u) ->> ''agencyId'' AS agency,
               ' || CASE WHEN subscribed THEN
              '(SELECT s."plan"::text FROM "UserSubscription" s WHERE s."userId" = u."id"
                 ORDER BY (to_jsonb(s) ->> ''status'' = ''active'') DESC NULLS LAST LIMIT 1)'
                       ELSE 'NULL::text' END || ' AS plan
          FROM "User" u
          LEFT JOIN gateway.placement p ON p.owner_id = u."id"::text';
END
$$;

\ir slot.sql

-- The remainder that new ids of a shard's database leave when divided by the stride; `gateway
-- provision` gives the numbers and never gives one twice.
CREATE TABLE IF NOT EXISTS gateway.id_number (
    shard  text PRIMARY KEY,
    number integer NOT NULL UNIQUE,
    stride integer NOT NULL
);

-- How transactions over several databases end (docs/decisions/0007-two-phase.md): written before the
-- first branch is committed, and once. Without a row a transaction may still be decided to be aborted.
CREATE TABLE IF NOT EXISTS gateway.two_phase (
    transaction text PRIMARY KEY,
    branches    text[] NOT NULL,
    decision    text NOT NULL CHECK (decision IN ('commit', 'abort')),
    decided_at  timestamptz NOT NULL DEFAULT now()
);
-- The name of this log in the names of prepared transactions: another gateway's are not ours to end.
CREATE TABLE IF NOT EXISTS gateway.two_phase_name (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    name     text NOT NULL DEFAULT substr(replace(gen_random_uuid()::text, '-', ''), 1, 12)
);
INSERT INTO gateway.two_phase_name DEFAULT VALUES ON CONFLICT DO NOTHING;

-- What operators have ordered of all gateways, and how far each worker has followed: the notice board
-- (docs/decisions/0012-orders.md). Channel gateway_orders says no more than that it has changed.
CREATE TABLE IF NOT EXISTS gateway.operator_order (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deed     text NOT NULL,
    kind     text NOT NULL,
    name     text NOT NULL,
    given_by text NOT NULL,      -- a gateway
    ends_at  timestamptz         -- NULL: when it is undone
);
CREATE TABLE IF NOT EXISTS gateway.worker (
    id      text PRIMARY KEY,
    gateway text NOT NULL,
    number  integer NOT NULL,
    process integer NOT NULL,
    heard   bigint NOT NULL,     -- the newest order that it follows
    told    jsonb NOT NULL,      -- what it says of orders, by their numbers
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE OR REPLACE FUNCTION gateway.ring_for_orders() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    PERFORM pg_notify('gateway_orders', '');
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER gateway_ring AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON gateway.operator_order
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.ring_for_orders();

-- Sends `<what>:<key>` on channel gateway_invalidate, for the key before and after the change. Its
-- arguments are <what> and the name of the key column. NOTIFY leaves with the commit, not before.
CREATE OR REPLACE FUNCTION gateway.notify_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
DECLARE
    channel CONSTANT text := 'gateway_invalidate';
    keys    text[] := '{}';
    payload text;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify(channel, 'all');
        RETURN NULL;
    END IF;
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        keys := keys || (to_jsonb(OLD) ->> TG_ARGV[1]);
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        keys := keys || (to_jsonb(NEW) ->> TG_ARGV[1]);
    END IF;
    FOR payload IN SELECT DISTINCT TG_ARGV[0] || ':' || key FROM unnest(keys) AS key LOOP
        -- PostgreSQL refuses payloads of 8000 bytes and more.
        PERFORM pg_notify(channel, CASE WHEN octet_length(payload) < 8000 THEN payload ELSE 'all' END);
    END LOOP;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER gateway_notify AFTER INSERT OR UPDATE OR DELETE ON gateway.login
    FOR EACH ROW EXECUTE FUNCTION gateway.notify_change('login', 'name');
CREATE OR REPLACE TRIGGER gateway_notify_truncate AFTER TRUNCATE ON gateway.login
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.notify_change();

CREATE OR REPLACE TRIGGER gateway_notify AFTER INSERT OR UPDATE OR DELETE ON gateway.api_key
    FOR EACH ROW EXECUTE FUNCTION gateway.notify_change('login', 'login');
CREATE OR REPLACE TRIGGER gateway_notify_truncate AFTER TRUNCATE ON gateway.api_key
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.notify_change();

CREATE OR REPLACE TRIGGER gateway_notify AFTER INSERT OR UPDATE OR DELETE ON gateway.login_grant
    FOR EACH ROW EXECUTE FUNCTION gateway.notify_change('login', 'login');
CREATE OR REPLACE TRIGGER gateway_notify_truncate AFTER TRUNCATE ON gateway.login_grant
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.notify_change();

CREATE OR REPLACE TRIGGER gateway_notify AFTER INSERT OR UPDATE OR DELETE ON gateway.placement
    FOR EACH ROW EXECUTE FUNCTION gateway.notify_change('owner', 'owner_id');
CREATE OR REPLACE TRIGGER gateway_notify_truncate AFTER TRUNCATE ON gateway.placement
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.notify_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_attribute
                WHERE attrelid = to_regclass('"UserSubscription"') AND attname = 'userId') THEN
        CREATE OR REPLACE TRIGGER gateway_notify AFTER INSERT OR UPDATE OR DELETE
            ON "UserSubscription"
            FOR EACH ROW EXECUTE FUNCTION gateway.notify_change('owner', 'userId');
    END IF;
END
$$;

CREATE OR REPLACE TRIGGER gateway_notify AFTER INSERT OR DELETE ON "User"
    FOR EACH ROW EXECUTE FUNCTION gateway.notify_change('owner', 'id');
CREATE OR REPLACE TRIGGER gateway_notify_update AFTER UPDATE ON "User"
    FOR EACH ROW
    WHEN ((OLD."id", OLD."industry") IS DISTINCT FROM (NEW."id", NEW."industry"))
    EXECUTE FUNCTION gateway.notify_change('owner', 'id');
CREATE OR REPLACE TRIGGER gateway_notify_truncate AFTER TRUNCATE ON "User"
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.notify_change();

-- The least the gateway's look-ups need, as a group role for the login role named in the meta URL:
-- GRANT gateway_directory TO <role>. Left out where the provisioning role may not create roles.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gateway_directory') THEN
        CREATE ROLE gateway_directory NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'role gateway_directory left out: no right to create roles';
END
$$;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'gateway_directory') THEN
        GRANT USAGE ON SCHEMA gateway TO gateway_directory;
        GRANT SELECT ON gateway.login, gateway.api_key, gateway.login_grant, gateway.placement,
            gateway.owner, gateway.two_phase, gateway.two_phase_name TO gateway_directory;
        GRANT INSERT, UPDATE, DELETE ON gateway.two_phase TO gateway_directory;
        GRANT SELECT, INSERT, UPDATE, DELETE ON gateway.operator_order, gateway.worker
            TO gateway_directory;
    END IF;
END
$$;
