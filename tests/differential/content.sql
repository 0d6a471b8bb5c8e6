-- What both databases are made of. Made anew before a dialogue when the last one changed it.
SET client_min_messages = error;
DROP SCHEMA IF EXISTS public, s1, "S 2", differential CASCADE;
CREATE SCHEMA public;
CREATE SCHEMA s1;
CREATE SCHEMA "S 2";
CREATE SCHEMA differential;
CREATE TABLE differential.made (shape text);
GRANT USAGE, CREATE ON SCHEMA public TO differential_helper;
GRANT USAGE ON SCHEMA s1 TO differential_helper;

CREATE TABLE item (id int PRIMARY KEY, v text NOT NULL DEFAULT 'none');
GRANT SELECT, INSERT ON item TO differential_helper;
CREATE TABLE part (item int REFERENCES item DEFERRABLE INITIALLY DEFERRED, n int CHECK (n > 0));
CREATE SEQUENCE seq;
CREATE TABLE counted (id serial PRIMARY KEY, v text);
CREATE TABLE shape (a int, b text);
CREATE TABLE secret (s text);

-- The same name in three schemas, with other columns: what it means depends on search_path.
CREATE TABLE place (name text);
CREATE TABLE s1.place (name text, nr int);
CREATE TABLE "S 2".place (nr int);
GRANT SELECT ON place, s1.place TO differential_helper;
INSERT INTO place VALUES ('public');
INSERT INTO s1.place VALUES ('s1', 1);
INSERT INTO "S 2".place VALUES (2);

CREATE TYPE mood AS ENUM ('sad', 'ok');

-- What a statement's text does not tell.
CREATE FUNCTION set_it(name text, value text) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN pg_catalog.set_config(name, value, false); END $$;
CREATE FUNCTION temp_it() RETURNS void LANGUAGE plpgsql AS
$$ BEGIN CREATE TEMP TABLE made_unseen (a int); END $$;
CREATE FUNCTION lock_it(key int) RETURNS boolean LANGUAGE sql AS
$$ SELECT pg_catalog.pg_try_advisory_lock(key) $$;
CREATE FUNCTION tell_it(what text) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RAISE NOTICE 'told: %', what USING HINT = 'a hint'; RETURN what; END $$;
CREATE FUNCTION path_it() RETURNS text LANGUAGE sql SET search_path = s1 AS
$$ SELECT pg_catalog.current_setting('search_path') $$;
CREATE PROCEDURE commit_it(k int) LANGUAGE plpgsql AS
$$ BEGIN
  INSERT INTO public.item VALUES (k, 'kept');
  COMMIT;
  INSERT INTO public.item VALUES (k, 'twice');
END $$;
