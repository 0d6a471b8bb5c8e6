// Cancels statements with node-postgres: by a CancelRequest with the key that the client was given.
// CLIENTS in the environment is as for crud.mjs.

import assert from "node:assert/strict";
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";

const SLEEP = "SELECT pg_sleep(30)";
const ROUNDS = 3;
const SOON_MS = 200;
const CANCEL_REQUEST = 80877102;

// The request goes over a connection of its own, which the server closes without an answer.
const cancel = (client) =>
  new Promise((resolve, reject) => {
    const request = Buffer.alloc(16);
    [16, CANCEL_REQUEST, client.processID, client.secretKey].forEach((number, at) =>
      request.writeInt32BE(number, at * 4),
    );
    const socket = net.connect(client.port, client.host, () => socket.write(request));
    socket.on("error", reject).on("close", resolve).resume();
  });

async function oneClient({ owner, tag, ...config }) {
  const client = new pg.Client(config);
  await client.connect();
  try {
    for (let n = 0; n < ROUNDS; n += 1) {
      for (const query of [SLEEP, { name: "sleep", text: SLEEP }]) {
        let over = false;
        const running = assert
          .rejects(client.query(query), { code: "57014" })
          .finally(() => (over = true));
        for (;;) {
          await Promise.race([running, pause(SOON_MS)]);
          if (over) break;
          await cancel(client);
        }
        const { rows } = await client.query("SELECT $1::int AS n", [n]);
        assert.deepEqual(rows, [{ n }]);
      }
    }
  } finally {
    await client.end();
  }
}

const clients = JSON.parse(process.env.CLIENTS);
await Promise.all(clients.map(oneClient));
console.log(`${clients.length} clients done`);
