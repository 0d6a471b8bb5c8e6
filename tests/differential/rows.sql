-- The rows that dialogues change, as they are before each.
TRUNCATE item, part, counted, shape RESTART IDENTITY;
INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 5) AS n;
INSERT INTO shape VALUES (1, 'one');
ALTER SEQUENCE seq RESTART;
SELECT lo_unlink(oid) FROM pg_largeobject_metadata;
