// A shop on node-postgres: a pool of connections, requests at once. It makes its tables in
// DATABASE_URL, goes through everything and prints a line of JSON per part. Nothing in it knows of
// a gateway.

import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import pg from "pg";
import Cursor from "pg-cursor";
import QueryStream from "pg-query-stream";
import copy from "pg-copy-streams";

const CLIENTS = 8;

const SCHEMA = `
  CREATE TYPE kind AS ENUM ('good', 'service');
  CREATE TABLE product (
    id serial PRIMARY KEY, sku varchar(20) NOT NULL UNIQUE, price numeric(12, 2) CHECK (price >= 0),
    stock int NOT NULL DEFAULT 0, kind kind NOT NULL DEFAULT 'good', sizes int[] NOT NULL DEFAULT '{}',
    about jsonb NOT NULL DEFAULT '{}', photo bytea, made timestamptz, day date, pause interval, big bigint);
  CREATE TABLE sale (
    id serial PRIMARY KEY, product_id int NOT NULL REFERENCES product (id), number int NOT NULL);
  CREATE FUNCTION cheapest(OUT sku text, OUT price numeric) LANGUAGE sql AS
    'SELECT sku, price FROM product ORDER BY price, sku LIMIT 1';`;

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: CLIENTS });
const range = (count) => Array.from({ length: count }, (_, n) => n);
const sku = (n) => `p${String(n).padStart(3, "0")}`;

/** Runs `work` in a transaction on one connection of the pool. */
async function transaction(work) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

/** What an error says, but for the parts that name the program's own lines. */
async function failure(promise) {
  try {
    await promise;
    return null;
  } catch ({ code, message, detail, constraint, table, column, position, severity }) {
    return { code, message, detail, constraint, table, column, position, severity };
  }
}

async function tables() {
  const made = await pool.query(SCHEMA);
  const columns = await pool.query(
    `SELECT table_name, column_name, data_type FROM information_schema.columns
     WHERE table_schema = 'public' ORDER BY 1, ordinal_position`,
  );
  return { made: made.map((one) => one.command), columns: columns.rows };
}

async function stockUp() {
  const numbers = range(200);
  const inserted = await pool.query(
    `INSERT INTO product (sku, price, stock, sizes, made, day, pause, big)
     SELECT sku, price, 1000, ARRAY[n, n + 1], '2026-03-01T12:00:00Z'::timestamptz + n * '1 h'::interval,
            '2026-01-01'::date + n, n * '90 min'::interval, 9007199254740993 + n
     FROM unnest($1::text[], $2::numeric[], $3::int[]) AS new (sku, price, n) RETURNING id`,
    [numbers.map(sku), numbers.map((n) => (n / 4).toFixed(2)), numbers],
  );
  const upsert = {
    name: "upsert",
    text: `INSERT INTO product (sku, price, about) VALUES ($1, $2, $3)
           ON CONFLICT (sku) DO UPDATE SET price = product.price + 1, about = excluded.about
           RETURNING price, xmax = 0 AS new`,
  };
  const upserted = await Promise.all(
    range(40).map((n) => pool.query({ ...upsert, values: [sku(190 + n), 5, { n, list: [n, null] }] })),
  );
  return { inserted: inserted.rowCount, upserted: upserted.map((one) => one.rows[0]) };
}

async function types() {
  await pool.query("UPDATE product SET photo = $1 WHERE sku = $2", [Buffer.from([0, 1, 255]), sku(3)]);
  const found = await pool.query("SELECT * FROM product WHERE sku = ANY($1) ORDER BY sku", [
    [sku(3), sku(195)],
  ]);
  const parameters = await pool.query(
    "SELECT $1::jsonb AS object, $2::int[][] AS nested, $3::date AS day, $4::bool AS yes, $5::text AS none",
    [{ a: ["ä", null] }, [[1, 2], [3, 4]], "2026-02-03", true, null],
  );
  const rows = await pool.query({ text: "SELECT 1 AS a, 2 AS a", rowMode: "array" });
  return { rows: found.rows, parameters: parameters.rows, oids: found.fields.map((f) => f.name), array: rows.rows };
}

async function figures() {
  const [sold, json, overlap, byKind, cheapest] = await Promise.all([
    pool.query("SELECT count(*), sum(price), avg(price), min(made), max(pause) FROM product"),
    pool.query("SELECT sku FROM product WHERE about @> $1 ORDER BY sku", [{ list: [3] }]),
    pool.query("SELECT sku FROM product WHERE sizes && $1 ORDER BY sku", [[7]]),
    pool.query(`SELECT kind, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY price) AS median,
                       json_agg(sku ORDER BY sku) FILTER (WHERE price > 48) AS dear
                FROM product GROUP BY ROLLUP (kind) ORDER BY kind`),
    pool.query("SELECT * FROM cheapest()"),
  ]);
  return [sold, json, overlap, byKind, cheapest].map((one) => one.rows);
}

async function errors() {
  const insert = "INSERT INTO product (sku, price) VALUES ($1, $2)";
  return [
    await failure(pool.query(insert, [sku(1), 1])),
    await failure(pool.query(insert, ["new", -1])),
    await failure(pool.query(insert, ["x".repeat(21), 1])),
    await failure(pool.query(insert, ["new", "no number"])),
    await failure(pool.query(insert, ["new"])),
    await failure(pool.query("INSERT INTO sale (product_id, number) VALUES (-1, 1)")),
    await failure(pool.query("SELECT * FROM nowhere")),
    await failure(pool.query({ name: "upsert", text: "SELECT 1 +" })),
    await failure(pool.query("SELECT 1; SELECT 1 / 0; SELECT 2")),
    await failure(timeOut()),
  ];
}

const timeOut = () =>
  transaction(async (client) => {
    await client.query("SET LOCAL statement_timeout = 50");
    await client.query("SELECT pg_sleep(5)");
  });

async function savepoints() {
  const seen = [];
  const gone = await failure(
    transaction(async (client) => {
      const total = async () =>
        seen.push((await client.query("SELECT sum(stock) AS total FROM product")).rows[0].total);
      await total();
      await client.query("SAVEPOINT one");
      await client.query("UPDATE product SET stock = stock + 1");
      await client.query("SAVEPOINT two");
      seen.push((await failure(client.query("UPDATE product SET price = -1"))).code);
      seen.push((await failure(client.query("SELECT 1"))).code);
      await client.query("ROLLBACK TO two");
      await total();
      await client.query("RELEASE one");
      throw new Error("take all back");
    }),
  );
  const after = await pool.query("SELECT sum(stock) AS total FROM product");
  return { seen, gone: gone.message, after: after.rows };
}

async function streams() {
  const client = await pool.connect();
  try {
    const walk = client.query(new Cursor("SELECT sku FROM product WHERE stock > $1 ORDER BY sku", [0]));
    const [first, second] = [await walk.read(60), await walk.read(60)];
    await walk.close();
    let total = 0;
    const stream = client.query(new QueryStream("SELECT generate_series(1, $1) AS n", [5000], { batchSize: 200 }));
    for await (const { n } of stream) total += n;
    return { first: first.at(-1), second: second.at(-1), total };
  } finally {
    client.release();
  }
}

async function copies() {
  const client = await pool.connect();
  try {
    await client.query("CREATE TEMPORARY TABLE loaded (n int, word text)");
    const lines = range(3000).map((n) => `${n}\tword ${n}\n`);
    await pipeline(Readable.from(lines), client.query(copy.from("COPY loaded FROM STDIN")));
    const bad = await failure(
      pipeline(Readable.from(["no number\tx\n"]), client.query(copy.from("COPY loaded FROM STDIN"))),
    );
    let bytes = 0;
    for await (const part of client.query(copy.to("COPY loaded TO STDOUT (FORMAT csv)"))) bytes += part.length;
    const count = await client.query("SELECT count(*), max(n) FROM loaded");
    await client.query("DROP TABLE loaded");
    return { bytes, bad, count: count.rows };
  } finally {
    client.release();
  }
}

/** Many requests at once that lock the same rows; nothing is sold twice. */
async function sellTogether() {
  const sell = (n) =>
    transaction(async (client) => {
      const wanted = [sku(n % 4)];
      const { rows } = await client.query("SELECT id FROM product WHERE sku = $1 FOR UPDATE", wanted);
      await client.query({ name: "sell", text: "UPDATE product SET stock = stock - 1 WHERE id = $1", values: [rows[0].id] });
      await client.query("INSERT INTO sale (product_id, number) VALUES ($1, 1)", [rows[0].id]);
      if (n % 10 === 9) throw new Error("changed my mind");
    });
  const ends = await Promise.all(range(200).map((n) => failure(sell(n))));
  const left = await pool.query(
    `SELECT sku, stock, sum(number) FROM product JOIN sale ON product_id = product.id
     GROUP BY product.id ORDER BY sku`,
  );
  return { refused: ends.filter(Boolean).length, left: left.rows };
}

/** What one connection sets for itself stays with it, whoever else is at work. */
async function settings() {
  const visit = async (n) => {
    const client = new pg.Client({ connectionString: process.env.DATABASE_URL, application_name: `shop ${n}` });
    await client.connect();
    try {
      await client.query(`SET timezone = 'Etc/GMT+${n}'`);
      const seen = new Set();
      for (const _ of range(10)) {
        const { rows } = await client.query(
          "SELECT current_setting('timezone') AS zone, current_setting('application_name') AS name",
        );
        seen.add(JSON.stringify(rows[0]));
      }
      return [...seen];
    } finally {
      await client.end();
    }
  };
  return Promise.all(range(CLIENTS).map(visit));
}

/** Whoever has subscribed hears of each sale that was committed. */
async function listening() {
  const client = await pool.connect();
  const heard = [];
  const all = new Promise((resolve) => {
    client.on("notification", ({ channel, payload }) => {
      heard.push([channel, payload]);
      if (payload === "last") resolve();
    });
  });
  await client.query("LISTEN sales");
  await transaction((other) => other.query("SELECT pg_notify('sales', $1)", ["first"]));
  await failure(
    transaction(async (other) => {
      await other.query("NOTIFY sales, 'never'");
      throw new Error("never");
    }),
  );
  await pool.query("NOTIFY sales, 'last'");
  await all;
  await client.query("UNLISTEN sales");
  client.removeAllListeners("notification");
  client.release();
  return heard;
}

async function gone() {
  const dropped = await pool.query("DROP FUNCTION cheapest; DROP TABLE sale, product; DROP TYPE kind");
  return dropped.map((one) => one.command);
}

const PARTS = [
  tables, stockUp, types, figures, errors, savepoints, streams, copies, sellTogether, settings,
  listening, gone,
];
for (const part of PARTS) console.log(JSON.stringify({ [part.name]: await part() }));
await pool.end();
