-- What the gateway keeps in every industry database: the slot function, the owners' epochs and the
-- check of stamped work, the rules by which the subset of "User" follows the meta database, and the
-- numbers that keep ids unique over all databases. Safe to run again. It needs "User" ("id").

CREATE SCHEMA IF NOT EXISTS gateway;
GRANT USAGE ON SCHEMA gateway TO PUBLIC;

\ir slot.sql

-- The shards that live here, told by `gateway provision`.
CREATE TABLE IF NOT EXISTS gateway.this_shard (name text PRIMARY KEY);

-- New ids of this database leave this remainder when divided by the stride.
CREATE TABLE IF NOT EXISTS gateway.ids (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    number   integer NOT NULL,
    stride   integer NOT NULL,
    CHECK (number BETWEEN 1 AND stride - 1)
);

-- Columns of schema public that draw from a sequence: how it goes on, and the highest id there is,
-- null in an empty table.
CREATE OR REPLACE FUNCTION gateway.drawn_columns(spared text[]) RETURNS TABLE (
    sequence text, relation text, increment bigint, start bigint, top bigint
) LANGUAGE plpgsql STABLE AS
$$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT s.oid::regclass::text AS sequence, t.oid::regclass AS relation, t.relname::text AS name,
               a.attname AS col, q.seqincrement AS increment, q.seqstart AS start
          FROM pg_sequence q
          JOIN pg_class s ON s.oid = q.seqrelid
          JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid
                          AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
          JOIN pg_class t ON t.oid = d.refobjid
          JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
         WHERE t.relnamespace = 'public'::regnamespace AND t.relname <> ALL (spared)
         ORDER BY t.relname, a.attname
    LOOP
        sequence := one.sequence;
        relation := one.name;
        increment := one.increment;
        start := one.start;
        EXECUTE format('SELECT max(%I) FROM %s', one.col, one.relation) INTO top;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Puts a sequence on the numbers that leave the remainder `number`, above `above` and above all that
-- it has given. ALTER SEQUENCE locks out nextval() until the transaction ends.
CREATE OR REPLACE FUNCTION gateway.stride_sequence(
    sequence regclass, number bigint, stride bigint, above bigint
) RETURNS bigint LANGUAGE plpgsql AS
$$
DECLARE
    given bigint;
    start bigint;
BEGIN
    EXECUTE format('ALTER SEQUENCE %s INCREMENT BY %s START WITH %s', sequence, stride, number);
    EXECUTE format('SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM %s', sequence)
       INTO given;
    given := greatest(given, above, 0);
    start := given + 1 + (((number - given - 1) % stride) + stride) % stride;
    EXECUTE format('ALTER SEQUENCE %s RESTART WITH %s', sequence, start);
    RETURN start;
END
$$;

-- --- epochs ---

-- Placements as the meta database has them. (Where this is the meta database: its own table.)
CREATE TABLE IF NOT EXISTS gateway.placement (
    owner_id text PRIMARY KEY,
    shard    text,
    epoch    bigint NOT NULL DEFAULT 1
);

-- The newest epoch of each owner that this database has heard of, and whether the owner lives here.
-- Fed from gateway.placement, or before that by whoever moves an owner (gateway.fence).
CREATE TABLE IF NOT EXISTS gateway.placement_epoch (
    owner_id text PRIMARY KEY,
    epoch    bigint NOT NULL,
    here     boolean NOT NULL DEFAULT true
);
GRANT SELECT ON gateway.placement_epoch TO PUBLIC;

-- News never go back: an older epoch than the known one changes nothing.
CREATE OR REPLACE FUNCTION gateway.learn_epoch(owner_id text, epoch bigint, here boolean)
    RETURNS void LANGUAGE sql AS
$$
    INSERT INTO gateway.placement_epoch AS known VALUES ($1, $2, $3)
        ON CONFLICT ON CONSTRAINT placement_epoch_pkey
        DO UPDATE SET epoch = excluded.epoch, here = excluded.here
        WHERE known.epoch < excluded.epoch
$$;

-- An owner without a placement lives where its hash slot says; that may be here.
CREATE OR REPLACE FUNCTION gateway.learn_placement() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    PERFORM gateway.learn_epoch(NEW.owner_id, NEW.epoch,
        NEW.shard IS NULL OR EXISTS (SELECT FROM gateway.this_shard s WHERE s.name = NEW.shard));
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER gateway_learn AFTER INSERT OR UPDATE ON gateway.placement
    FOR EACH ROW EXECUTE FUNCTION gateway.learn_placement();
ALTER TABLE gateway.placement ENABLE ALWAYS TRIGGER gateway_learn;

-- All placements at once: what was placed before this table came, or the shards here were renamed.
CREATE OR REPLACE FUNCTION gateway.learn_all() RETURNS void LANGUAGE sql AS
$$
    INSERT INTO gateway.placement_epoch AS known
    SELECT p.owner_id, p.epoch,
           p.shard IS NULL OR EXISTS (SELECT FROM gateway.this_shard s WHERE s.name = p.shard)
      FROM gateway.placement p
        ON CONFLICT ON CONSTRAINT placement_epoch_pkey
        DO UPDATE SET epoch = excluded.epoch, here = excluded.here
        WHERE known.epoch <= excluded.epoch AND known IS DISTINCT FROM excluded
$$;

-- The advisory lock that stamped work shares and a fence takes alone, by owner.
CREATE OR REPLACE FUNCTION gateway.stamp_lock(owner_id text) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN hashtextextended(owner_id, 6432);

-- Shuts an owner out of this database from `epoch` on, or lets it in again (`here`): waits for the
-- stamped transactions of the owner that run, and every later one of an older epoch is refused.
CREATE OR REPLACE FUNCTION gateway.fence(owner_id text, epoch bigint, here boolean DEFAULT false)
    RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    PERFORM pg_advisory_xact_lock(gateway.stamp_lock(owner_id));
    PERFORM gateway.learn_epoch(owner_id, epoch, here);
END
$$;

-- A new owner's first rows may come before its row of "User": waits for that one, 2 s at most, and
-- then leaves it to the foreign key. A fixed snapshot would never show it, so no wait there.
CREATE OR REPLACE FUNCTION gateway.await_user(owner_id text) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
    owner public."User"."id"%TYPE := owner_id;
    tries integer := 0;
BEGIN
    WHILE tries < 400 AND current_setting('transaction_isolation') = 'read committed'
          AND NOT EXISTS (SELECT FROM public."User" u WHERE u."id" = owner)
    LOOP
        PERFORM pg_sleep(0.005);
        tries := tries + 1;
    END LOOP;
END
$$;

-- Before the first writing statement of a transaction that is stamped, `gateway.stamp` =
-- '<epoch>:<owner>'; it is used up then until the transaction, or the savepoint that held the check and
-- its lock, is over: '!<epoch>:<owner>' when only the owner's row of "User" is still to be seen, by its
-- first INSERT, and '' after that.
-- RG001: the stamp is older than what is known here, or the owner has left. RG002: no stamp at all.
CREATE OR REPLACE FUNCTION gateway.check_stamp() RETURNS trigger LANGUAGE plpgsql AS
$$
DECLARE
    stamp   text := current_setting('gateway.stamp');
    owner   text := substr(stamp, strpos(stamp, ':') + 1);
    known   bigint;
    is_here boolean;
    user_id public."User"."id"%TYPE;
BEGIN
    IF stamp ~ '^[0-9]{1,18}:.' THEN
        -- An expression is evaluated in place; PERFORM would run a query for it.
        IF pg_advisory_xact_lock_shared(gateway.stamp_lock(owner)) IS NULL THEN
            NULL;
        END IF;
        SELECT e.epoch, e.here INTO known, is_here
          FROM gateway.placement_epoch e WHERE e.owner_id = owner;
        IF FOUND THEN
            PERFORM gateway.refuse_stale(owner, split_part(stamp, ':', 1)::bigint, known, is_here);
        END IF;
    ELSIF stamp NOT LIKE '!%' THEN
        RAISE EXCEPTION 'malformed gateway.stamp' USING ERRCODE = 'RG002',
            HINT = 'It is <epoch>:<owner id>, or empty for work that is not checked.';
    END IF;
    IF TG_OP = 'INSERT' THEN
        user_id := owner;
        IF NOT EXISTS (SELECT FROM public."User" u WHERE u."id" = user_id) THEN
            PERFORM gateway.await_user(owner);
        END IF;
        stamp := set_config('gateway.stamp', '', true);
    ELSE
        stamp := set_config('gateway.stamp', '!' || stamp, true);
    END IF;
    RETURN NULL;
END
$$;

-- Raises RG001 when work of epoch `stamped` comes too late for what is known of its owner here.
CREATE OR REPLACE FUNCTION gateway.refuse_stale(
    owner text, stamped bigint, known bigint, is_here boolean
) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    IF known > stamped OR (known = stamped AND NOT is_here) THEN
        RAISE EXCEPTION 'owner "%" has moved: this work was sent for epoch %', owner, stamped
            USING ERRCODE = 'RG001', DETAIL = format('Known here: epoch %s, %s.', known,
                    CASE WHEN is_here THEN 'and the owner lives here'
                         ELSE 'and the owner lives elsewhere' END),
                HINT = 'Look up where the owner lives and send it there.';
    END IF;
END
$$;

-- Puts the check on every table of schema public but "User" and the `spared`, or takes it off all.
-- Work that is unstamped, or was checked, costs one look at the setting: `ascii() > 33` is neither ''
-- nor '!'. Returns how many tables changed.
CREATE OR REPLACE FUNCTION gateway.set_stamp_check(wanted boolean, spared text[] DEFAULT '{}')
    RETURNS integer LANGUAGE plpgsql AS
$$
DECLARE
    relation regclass;
    changed  integer := 0;
BEGIN
    FOR relation IN
        SELECT c.oid FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND NOT c.relispartition AND c.relname <> 'User' AND c.relname <> ALL (spared)
           AND (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid
                   AND t.tgname IN ('gateway_stamp', 'gateway_stamp_insert'))
               <> CASE WHEN wanted THEN 2 ELSE 0 END
         ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS gateway_stamp ON %1$s;
                        DROP TRIGGER IF EXISTS gateway_stamp_insert ON %1$s', relation);
        IF wanted THEN
            EXECUTE format($sql$
                CREATE TRIGGER gateway_stamp BEFORE UPDATE OR DELETE ON %1$s
                FOR EACH STATEMENT WHEN (ascii(current_setting('gateway.stamp', true)) > 33)
                EXECUTE FUNCTION gateway.check_stamp();
                CREATE TRIGGER gateway_stamp_insert BEFORE INSERT ON %1$s
                FOR EACH STATEMENT WHEN (current_setting('gateway.stamp', true) <> '')
                EXECUTE FUNCTION gateway.check_stamp()$sql$, relation);
        END IF;
        changed := changed + 1;
    END LOOP;
    RETURN changed;
END
$$;

-- --- the subset of "User" ---

-- Owners that the meta database no longer has in this industry but whose rows are still here.
-- Business rows are never deleted by replication; gateway.purge_owner() does it when asked to.
CREATE TABLE IF NOT EXISTS gateway.left_behind (
    owner_id text PRIMARY KEY,
    since    timestamptz NOT NULL DEFAULT now()
);

-- Whether a row of any table refers to this owner by foreign key.
CREATE OR REPLACE FUNCTION gateway.has_rows(owner_id text) RETURNS boolean
    LANGUAGE plpgsql STABLE AS
$$
DECLARE
    reference record;
    found_one boolean;
BEGIN
    FOR reference IN
        SELECT k.conrelid::regclass AS relation, a.attname, f.atttypid::regtype AS type
          FROM pg_constraint k
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
          JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
         WHERE k.contype = 'f' AND k.confrelid = 'public."User"'::regclass AND k.conparentid = 0
           AND cardinality(k.conkey) = 1 AND f.attname = 'id'
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I = $1::%s)',
                       reference.relation, reference.attname, reference.type)
           INTO found_one USING owner_id;
        IF found_one THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;

-- Replication takes a user away. Foreign keys are not watched then (session_replication_role), so
-- the user stays as long as rows refer to it.
CREATE OR REPLACE FUNCTION gateway.keep_user() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    IF pg_trigger_depth() = 1 AND gateway.has_rows(OLD."id"::text) THEN
        INSERT INTO gateway.left_behind (owner_id) VALUES (OLD."id"::text)
            ON CONFLICT ON CONSTRAINT left_behind_pkey DO NOTHING;
        RETURN NULL;
    END IF;
    RETURN OLD;
END
$$;

-- Replication brings a user: in place of the one that is here, so that copying again does no harm.
CREATE OR REPLACE FUNCTION gateway.take_user() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    DELETE FROM public."User" u WHERE u."id" = NEW."id";
    DELETE FROM gateway.left_behind l WHERE l.owner_id = NEW."id"::text;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION gateway.take_placement() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    DELETE FROM gateway.placement p WHERE p.owner_id = NEW.owner_id;
    RETURN NEW;
END
$$;

-- The same without replication: `subset` is the row in the meta database, null when it has none for
-- this database.
CREATE OR REPLACE FUNCTION gateway.put_user(owner_id text, subset jsonb) RETURNS void
    LANGUAGE plpgsql AS
$$
DECLARE
    owner   public."User"."id"%TYPE := owner_id;
    columns text;
    changes text;
BEGIN
    IF subset IS NOT NULL THEN
        SELECT string_agg(format('%I', key), ', '), string_agg(format('%1$I = excluded.%1$I', key), ', ')
          INTO columns, changes FROM jsonb_object_keys(subset) AS key;
        EXECUTE format('INSERT INTO public."User" (%1$s)
                        SELECT %1$s FROM jsonb_populate_record(NULL::public."User", $1)
                        ON CONFLICT ("id") DO UPDATE SET %2$s', columns, changes) USING subset;
        DELETE FROM gateway.left_behind l WHERE l.owner_id = $1;
    ELSIF gateway.has_rows(owner_id) THEN
        INSERT INTO gateway.left_behind (owner_id) VALUES ($1)
            ON CONFLICT ON CONSTRAINT left_behind_pkey DO NOTHING;
    ELSE
        DELETE FROM public."User" u WHERE u."id" = owner;
        DELETE FROM gateway.left_behind l WHERE l.owner_id = $1;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION gateway.put_placement(owner_id text, shard text, epoch bigint)
    RETURNS void LANGUAGE sql AS
$$
    INSERT INTO gateway.placement AS p (owner_id, shard, epoch) VALUES ($1, $2, $3)
        ON CONFLICT ON CONSTRAINT placement_pkey
        DO UPDATE SET shard = excluded.shard, epoch = excluded.epoch
        WHERE p.epoch <= excluded.epoch
$$;

-- Deletes an owner who was left behind, with all rows that foreign keys say go with it.
CREATE OR REPLACE FUNCTION gateway.purge_owner(owner_id text) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
    owner public."User"."id"%TYPE := owner_id;
BEGIN
    DELETE FROM gateway.left_behind l WHERE l.owner_id = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'owner "%" has not left this database', owner_id
            USING HINT = 'Delete it, or change its industry, in the meta database first.';
    END IF;
    DELETE FROM public."User" u WHERE u."id" = owner;
END
$$;

-- Makes "User" here ready to follow the meta database. Uniqueness of anything but the id is that
-- one's to keep: here it could only stop what comes from there.
CREATE OR REPLACE FUNCTION gateway.follow_users() RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT i.indexrelid::regclass AS index, k.conname
          FROM pg_index i LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype = 'u'
         WHERE i.indrelid = 'public."User"'::regclass AND i.indisunique AND NOT i.indisprimary
           AND NOT EXISTS (SELECT FROM pg_constraint f
                            WHERE f.contype = 'f' AND f.conindid = i.indexrelid)
    LOOP
        IF one.conname IS NULL THEN
            EXECUTE format('DROP INDEX %s', one.index);
        ELSE
            EXECUTE format('ALTER TABLE public."User" DROP CONSTRAINT %I', one.conname);
        END IF;
    END LOOP;
    CREATE OR REPLACE TRIGGER gateway_keep BEFORE DELETE ON public."User"
        FOR EACH ROW EXECUTE FUNCTION gateway.keep_user();
    CREATE OR REPLACE TRIGGER gateway_take BEFORE INSERT ON public."User"
        FOR EACH ROW EXECUTE FUNCTION gateway.take_user();
    CREATE OR REPLACE TRIGGER gateway_take BEFORE INSERT ON gateway.placement
        FOR EACH ROW EXECUTE FUNCTION gateway.take_placement();
    ALTER TABLE public."User" ENABLE REPLICA TRIGGER gateway_keep;
    ALTER TABLE public."User" ENABLE REPLICA TRIGGER gateway_take;
    ALTER TABLE gateway.placement ENABLE REPLICA TRIGGER gateway_take;
END
$$;
