// A CRUD script with node-postgres. CLIENTS in the environment is a JSON list of
// {host, port, user, password, database, owner, tag}; every client runs at once.

import assert from "node:assert/strict";
import pg from "pg";
import Cursor from "pg-cursor";

const INSERT =
  'INSERT INTO "Lead" ("userId", "name", "email", "source") VALUES ($1, $2, $3, $4) RETURNING "id"';
const MINE = 'SELECT "name" FROM "Lead" WHERE "source" = $1 ORDER BY "name"';
const REMOVE = 'DELETE FROM "Lead" WHERE "source" = $1';
const ROUNDS = 5;

const names = (result) => result.rows.map((row) => row.name);
const expected = (count) => Array.from({ length: count }, (_, n) => `lead ${n}`);

async function oneClient({ owner, tag, ...config }) {
  const client = new pg.Client(config);
  await client.connect();
  try {
    await crud(client, owner, tag);
    await errors(client, tag);
    await cursor(client, tag);
    await listen(client, tag);
  } finally {
    await client.end();
  }
}

async function crud(client, owner, tag) {
  for (let n = 0; n < ROUNDS; n += 1) {
    const values = [owner, `lead ${n}`, `${n}@${tag}.example`, tag];
    await client.query({ name: "insert lead", text: INSERT, values });
    await client.query("BEGIN");
    await client.query({ name: "insert lead", text: INSERT, values });
    await client.query("SAVEPOINT before_the_error");
    await assert.rejects(client.query(INSERT, [null, "x", "x", tag]), { code: "23502" });
    await client.query("ROLLBACK TO SAVEPOINT before_the_error");
    await client.query("ROLLBACK");
  }
  const found = await client.query({ name: "mine", text: MINE, values: [tag] });
  assert.deepEqual(names(found), expected(ROUNDS));
  await client.query('UPDATE "Lead" SET "custom" = $1 WHERE "source" = $2', [{ tag }, tag]);
  const gone = await client.query(`${REMOVE} RETURNING "custom"`, [tag]);
  assert.deepEqual(gone.rows, Array(ROUNDS).fill({ custom: { tag } }));
}

async function errors(client, tag) {
  await assert.rejects(client.query("SELECT 1 / $1::int", [0]), { code: "22012" });
  const several = await client.query("SELECT 1 AS a; SELECT 2 AS b");
  assert.deepEqual(several.map((result) => result.rows), [[{ a: 1 }], [{ b: 2 }]]);
  const [one, two] = await Promise.all([
    client.query("SELECT $1::text AS tag", [tag]),
    client.query("SELECT $1::text AS tag", [`${tag} too`]),
  ]);
  assert.deepEqual([one.rows[0].tag, two.rows[0].tag], [tag, `${tag} too`]);
}

async function cursor(client, tag) {
  const walk = client.query(
    new Cursor("SELECT n, $1::text AS tag FROM generate_series(1, 100) n", [tag]),
  );
  const seen = [];
  for (let rows = await walk.read(30); rows.length; rows = await walk.read(30)) seen.push(...rows);
  await walk.close();
  assert.deepEqual(seen, Array.from({ length: 100 }, (_, n) => ({ n: n + 1, tag })));
}

async function listen(client, tag) {
  const heard = [];
  const all = new Promise((resolve) => {
    client.on("notification", ({ channel, payload }) => {
      heard.push([channel, payload]);
      if (heard.length === ROUNDS) resolve();
    });
  });
  await client.query(`LISTEN "${tag}"`);
  for (let n = 0; n < ROUNDS; n += 1) await client.query("SELECT pg_notify($1, $2)", [tag, `${n}`]);
  await all;
  assert.deepEqual(heard, Array.from({ length: ROUNDS }, (_, n) => [tag, `${n}`]));
  await client.query(`UNLISTEN "${tag}"`);
}

async function pooled({ owner, tag, ...config }) {
  const pool = new pg.Pool({ ...config, max: 8 });
  const visits = Array.from({ length: 30 }, async (_, n) => {
    const client = await pool.connect();
    try {
      await client.query("BEGIN");
      await client.query(INSERT, [owner, `lead ${n}`, "x", tag]);
      await client.query("COMMIT");
    } finally {
      client.release();
    }
  });
  await Promise.all(visits);
  const gone = await pool.query(REMOVE, [tag]);
  assert.equal(gone.rowCount, 30);
  await pool.end();
}

const clients = JSON.parse(process.env.CLIENTS);
await Promise.all(clients.map(oneClient));
await pooled(clients[0]);
console.log(`${clients.length} clients done`);
