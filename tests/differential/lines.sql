-- What both databases are made of where clients stand in line: each writes rows and tables of its own.
CREATE SCHEMA s1;
CREATE TABLE item (id int PRIMARY KEY, v text NOT NULL);
INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 40) AS n;
CREATE TABLE moment (nr int, at timestamptz, day date, span interval);
INSERT INTO moment VALUES (1, '2020-02-03 04:05:06+00', '2020-02-03', '1 day 2 hours'),
  (2, '2021-12-31 23:59:59+00', '2021-12-31', '1 month');
CREATE TABLE own (client int, n int, v text, PRIMARY KEY (client, n));

-- The same name in two schemas, with other columns: what it means depends on search_path.
CREATE TABLE place (name text);
CREATE TABLE s1.place (name text, nr int);
INSERT INTO place VALUES ('public');
INSERT INTO s1.place VALUES ('s1', 1);

-- Who reads a gate waits until it is opened.
CREATE TABLE gate_a (id int);
CREATE TABLE gate_b (id int);
INSERT INTO gate_a VALUES (1);
INSERT INTO gate_b VALUES (1), (2);

-- What a statement's text does not tell.
CREATE VIEW to_kathmandu AS
  SELECT nr, at, set_config('TimeZone', 'Asia/Kathmandu', false) FROM moment WHERE nr = 1;
CREATE VIEW to_german AS
  SELECT nr, day, set_config('DateStyle', 'German, DMY', false) FROM moment WHERE nr = 2;
CREATE VIEW for_now AS SELECT nr, set_config('TimeZone', 'Asia/Tokyo', true), at::text FROM moment;
CREATE FUNCTION tell_it(id int, v text) RETURNS text STABLE LANGUAGE plpgsql AS
$$ BEGIN RAISE NOTICE 'told: %', id USING HINT = 'a hint'; RETURN v; END $$;
CREATE VIEW telling AS SELECT id, tell_it(id, v) AS told FROM item;
