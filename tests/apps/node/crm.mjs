// The CRM on node-postgres, written for a single database. It reads a line of JSON per request and
// writes one per answer (see tests/apps/crm/driver.py). Every request looks up the session of its
// token first; from then on its statements are about that owner's rows.

import { createInterface } from "node:readline";
import pg from "pg";
import Cursor from "pg-cursor";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });

/** The CRM's own rules say no. */
class Refused extends Error {}

const rows = async (text, values) => (await pool.query(text, values)).rows;
const one = async (text, values) => (await rows(text, values))[0];

/** Runs `work` in a transaction on one connection of the pool. */
async function transaction(work) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const result = await work(async (text, values) => (await client.query(text, values)).rows, client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

function found([row], what) {
  if (row === undefined) throw new Refused(`no such ${what}`);
  return row;
}

// --- identity and billing ---

const identity = {
  async profile({ owner }) {
    const [who, features, keys] = await Promise.all([
      one(
        `SELECT u."name", u."email", u."phone", a."name" AS "agency", s."plan", s."seats"
         FROM "User" u LEFT JOIN "Agency" a ON a."id" = u."agencyId"
         LEFT JOIN "UserSubscription" s ON s."userId" = u."id" WHERE u."id" = $1`,
        [owner],
      ),
      rows('SELECT "feature", "enabled" FROM "UserFeatureToggle" WHERE "userId" = $1 ORDER BY 1', [owner]),
      one('SELECT count(*) AS "n" FROM "ApiKey" WHERE "userId" = $1', [owner]),
    ]);
    return { who, features, keys: keys.n };
  },

  set_feature: ({ owner, feature, enabled }) =>
    one(
      `INSERT INTO "UserFeatureToggle" ("userId", "feature", "enabled") VALUES ($1, $2, $3)
       ON CONFLICT ("userId", "feature") DO UPDATE SET "enabled" = excluded."enabled" RETURNING "enabled"`,
      [owner, feature, enabled],
    ),

  change_plan: ({ owner, plan, seats }) =>
    transaction(async (query) => {
      const [now] = await query('SELECT "id", "seats" FROM "UserSubscription" WHERE "userId" = $1 FOR UPDATE', [owner]);
      return query(
        'UPDATE "UserSubscription" SET "plan" = $1, "seats" = $2 WHERE "id" = $3 RETURNING "plan", "seats"',
        [plan, now.seats + seats, now.id],
      );
    }),

  async make_key({ owner, name, hash }) {
    await pool.query('INSERT INTO "ApiKey" ("userId", "name", "keyHash") VALUES ($1, $2, $3)', [owner, name, hash]);
    return rows('SELECT "name" FROM "ApiKey" WHERE "userId" = $1 ORDER BY "id" DESC LIMIT 2', [owner]);
  },

  agencies: () =>
    rows(`SELECT a."name", count(u."id") AS "n" FROM "Agency" a JOIN "User" u ON u."agencyId" = a."id"
          GROUP BY a."id" ORDER BY a."name"`),
};

// --- leads and deals ---

const LEAD = '"id" AS "leadId", "name", "status", "score", "tags", "custom"';
const NEW_LEAD = ["name", "email", "source", "score", "tags", "custom"];

const leads = {
  overview: ({ owner }) =>
    transaction(async (query) => {
      const tables = { lead: "Lead", deal: "Deal", conversation: "Conversation", campaign: "Campaign", workflow: "Workflow", instance: "WorkflowInstance", task: "Task", invoice: "Invoice" };
      const all = {};
      for (const [kind, table] of Object.entries(tables)) {
        const ids = await query(`SELECT "id" FROM "${table}" WHERE "userId" = $1 ORDER BY "id"`, [owner]);
        all[`${kind}Ids`] = ids.map((row) => row.id);
      }
      return all;
    }),

  async leads({ owner, status, skip }) {
    const [page, count] = await Promise.all([
      rows(
        `SELECT ${LEAD} FROM "Lead" WHERE "userId" = $1 AND ($2::"LeadStatus" IS NULL OR "status" = $2)
         ORDER BY "id" LIMIT 15 OFFSET $3`,
        [owner, status, skip],
      ),
      one('SELECT count(*) AS "n" FROM "Lead" WHERE "userId" = $1', [owner]),
    ]);
    return { page, count: count.n };
  },

  find_leads: ({ owner, words, tag }) =>
    rows(
      `SELECT ${LEAD} FROM "Lead" WHERE ("name" ILIKE $1 OR "email" LIKE $1) AND "tags" @> $2 AND "userId" = $3
       ORDER BY "id"`,
      [words, [tag], owner],
    ),

  lead: ({ owner, leadId }) =>
    transaction(async (query) => {
      const lead = found(await query(`SELECT ${LEAD} FROM "Lead" WHERE "id" = $1 AND "userId" = $2`, [leadId, owner]), "Lead");
      lead.deals = await query('SELECT "id" AS "dealId", "amount" FROM "Deal" WHERE "leadId" = $1 ORDER BY "id"', [leadId]);
      lead.notes = await query('SELECT "id" AS "noteId", "body" FROM "Note" WHERE "leadId" = $1 ORDER BY "id"', [leadId]);
      return lead;
    }),

  leads_with_deals: ({ owner, leadIds }) =>
    rows(
      `SELECT l."id" AS "leadId", l."name", d."id" AS "dealId", d."stage"
       FROM "Lead" AS l LEFT JOIN "Deal" AS d ON d."leadId" = l."id" AND d."userId" = l."userId"
       WHERE l."userId" = $1 AND l."id" = ANY($2::int[]) ORDER BY l."id", d."id"`,
      [owner, leadIds],
    ),

  create_lead: ({ owner, ...lead }) => insertLeads(owner, [lead]),

  import_leads: ({ owner, leads: all }) => insertLeads(owner, all),

  update_lead: ({ owner, leadId, status, score }) =>
    rows(
      `UPDATE "Lead" SET "status" = $3, "score" = $4, "updatedAt" = now(),
         "custom" = jsonb_set("custom", '{changes}', to_jsonb(coalesce(("custom" ->> 'changes')::int, 0) + 1))
       WHERE "id" = $1 AND "userId" = $2 RETURNING ${LEAD}`,
      [leadId, owner, status, score],
    ),

  score_leads: ({ owner, leadIds, by }) =>
    rows(
      `WITH changed AS (
         UPDATE "Lead" l SET "score" = l."score" + n."by"
         FROM unnest($1::int[], $2::int[]) AS n ("id", "by")
         WHERE l."id" = n."id" AND l."userId" = $3 RETURNING l."id", l."score")
       SELECT "id" AS "leadId", "score" FROM changed ORDER BY 1`,
      [leadIds, leadIds.map(() => by), owner],
    ),

  delete_lead: async ({ owner, leadId }) =>
    (await pool.query('DELETE FROM "Lead" WHERE "userId" = $1 AND "id" = $2', [owner, leadId])).rowCount,

  convert_lead: ({ owner, leadId, title, amount }) =>
    transaction(async (query) => {
      const lead = found(
        await query(`SELECT ${LEAD} FROM "Lead" WHERE "id" = $1 AND "userId" = $2 FOR UPDATE`, [leadId, owner]),
        "Lead",
      );
      const [deal] = await query(
        'INSERT INTO "Deal" ("userId", "leadId", "title", "amount") VALUES ($1, $2, $3, $4) RETURNING "id" AS "dealId", "amount"',
        [owner, leadId, title, amount],
      );
      await query('INSERT INTO "Task" ("title", "priority", "userId") VALUES ($1, 1, $2)', [`Call ${lead.name}`, owner]);
      if (lead.status === "CONVERTED") throw new Refused("converted already");
      await query(`UPDATE "Lead" SET "status" = 'CONVERTED' WHERE "id" = $1`, [leadId]);
      return { ...lead, ...deal };
    }),

  move_deal: ({ owner, dealId, stage }) =>
    rows('UPDATE "Deal" SET "stage" = $1 WHERE ("id", "userId") = ($2, $3) RETURNING "id" AS "dealId", "stage"', [stage, dealId, owner]),

  pipeline: ({ owner }) =>
    rows(
      `SELECT "stage", count(*) AS "n", sum("amount") AS "worth", rank() OVER (ORDER BY sum("amount") DESC) AS "rank"
       FROM "public"."Deal" WHERE "public"."Deal"."userId" = $1 GROUP BY 1 ORDER BY 1`,
      [owner],
    ),

  dashboard: ({ owner }) =>
    rows(
      `WITH mine AS (SELECT "status", "score" FROM "Lead" WHERE "userId" = $1)
       SELECT count(*) AS "leads", avg("score") AS "score", count(*) FILTER (WHERE "status" = 'NEW') AS "new",
         (SELECT sum("amount") FROM "Deal" WHERE "userId" = $1 AND "stage" = 'WON') AS "won",
         (SELECT count(*) FROM "Task" t WHERE t."userId" = $1 AND t."status" <> 'DONE') AS "tasks"
       FROM mine`,
      [owner],
    ),

  report: ({ owner }) =>
    rows(
      `SELECT u."name", u."industry", l."source", count(*) AS "n" FROM "User" u
       JOIN "Lead" l ON l."userId" = u."id" WHERE u."id" = $1 GROUP BY u."id", l."source" ORDER BY l."source"`,
      [owner],
    ),

  activity: ({ owner }) =>
    rows(
      `SELECT * FROM (SELECT 'deal' AS "what", "title" AS "words" FROM "Deal" WHERE "userId" = $1
         UNION ALL SELECT 'note', "body" FROM "Note" WHERE "userId" = $1
         UNION ALL SELECT 'task', "title" FROM "Task" WHERE "userId" = $1) AS every
       ORDER BY "words" COLLATE "C", "what" LIMIT 8`,
      [owner],
    ),

  async export_leads({ owner }) {
    const client = await pool.connect();
    try {
      const walk = client.query(new Cursor('SELECT "name" FROM "Lead" WHERE "userId" = $1 ORDER BY "id"', [owner]));
      const all = [];
      for (let some = await walk.read(4); some.length; some = await walk.read(4)) all.push(...some);
      await walk.close();
      return all.map((row) => row.name);
    } finally {
      client.release();
    }
  },
};

function insertLeads(owner, all) {
  const width = NEW_LEAD.length + 1;
  const places = all.map((_, n) => `(${[...Array(width)].map((_, column) => `$${n * width + column + 1}`).join(", ")})`);
  const values = all.flatMap((lead) => [owner, ...NEW_LEAD.map((column) => lead[column])]);
  const columns = NEW_LEAD.map((column) => `"${column}"`).join(", ");
  return rows(`INSERT INTO "Lead" ("userId", ${columns}) VALUES ${places.join(", ")} RETURNING ${LEAD}`, values);
}

// --- campaigns, workflows, tasks ---

const work = {
  create_campaign: ({ owner, name, channel, budget }) =>
    rows(
      'INSERT INTO "Campaign" ("userId", "name", "channel", "budget") VALUES ($1, $2, $3, $4) RETURNING "id" AS "campaignId", "status"',
      [owner, name, channel, budget],
    ),

  launch_campaign: ({ owner, campaignId }) =>
    transaction(async (query, client) => {
      const mine = [campaignId, owner];
      const campaign = found(await query('SELECT "status" FROM "Campaign" WHERE "id" = $1 AND "userId" = $2 FOR UPDATE', mine), "Campaign");
      if (campaign.status === "RUNNING") throw new Refused("it runs already");
      const made = await client.query(
        `INSERT INTO "Task" ("userId", "title", "priority")
         SELECT "userId", 'Write to ' || "name", 2 FROM "Lead"
         WHERE "userId" = $1 AND "status" IN ('NEW', 'QUALIFIED') ORDER BY "id" LIMIT 3`,
        [owner],
      );
      await query(`UPDATE "Campaign" SET "status" = 'RUNNING' WHERE "id" = $1 AND "userId" = $2`, mine);
      return { campaignId, tasks: made.rowCount };
    }),

  campaigns: ({ owner }) =>
    rows('SELECT "id" AS "campaignId", "name", "status", "budget" FROM "Campaign" WHERE "userId" = $1 ORDER BY "id"', [owner]),

  create_workflow: ({ owner, name, steps }) =>
    rows('INSERT INTO "Workflow" ("userId", "name", "definition") VALUES ($1, $2, $3) RETURNING "id" AS "workflowId"', [owner, name, { steps }]),

  start_workflow: ({ owner, workflowId, by }) =>
    rows(
      `INSERT INTO "WorkflowInstance" ("userId", "workflowId", "context") VALUES ($1, $2, $3)
       RETURNING "id" AS "instanceId", "context"`,
      [owner, workflowId, { step: 0, by }],
    ),

  step_workflow: ({ owner, instanceId }) =>
    rows(
      `UPDATE "WorkflowInstance" SET
         "context" = jsonb_set("context", '{step}', to_jsonb(("context" ->> 'step')::int + 1)),
         "state" = CASE WHEN ("context" ->> 'step')::int >= 2 THEN 'done' ELSE 'running' END
       WHERE "id" = $1 AND "userId" = $2 RETURNING "id" AS "instanceId", "state", "context"`,
      [instanceId, owner],
    ),

  add_task: ({ owner, title, priority }) =>
    rows('INSERT INTO "Task" ("userId", "title", "priority") VALUES ($1, $2, $3) RETURNING "id" AS "taskId", "status"', [owner, title, priority]),

  async finish_tasks({ owner, taskIds }) {
    const done = await rows(
      { name: "finish tasks", text: `UPDATE "Task" SET "status" = 'DONE' WHERE "userId" = $1 AND "id" = ANY($2) RETURNING "id"` },
      [owner, taskIds],
    );
    return { taskIds: done.map((row) => row.id).sort((a, b) => a - b) };
  },

  tasks: ({ owner }) =>
    rows({
      name: "tasks",
      text: `SELECT "id" AS "taskId", "title", "status", "priority" FROM "Task" WHERE "userId" = $1
             ORDER BY "priority" DESC, "id" LIMIT 6`,
      values: [owner],
    }),
};

// --- conversations ---

const talk = {
  open_conversation: ({ owner, name, leadId, subject, body }) =>
    transaction(async (query) => {
      const [{ id }] = await query(
        'INSERT INTO "Conversation" ("userId", "leadId", "subject") VALUES ($1, $2, $3) RETURNING "id"',
        [owner, leadId, subject],
      );
      const [message] = await query(
        'INSERT INTO "ConversationMessage" ("conversationId", "sender", "body") VALUES ($1, $2, $3) RETURNING "id"',
        [id, name, body],
      );
      return { conversationId: id, messageId: message.id };
    }),

  conversations: ({ owner }) =>
    rows(
      `SELECT c."id" AS "conversationId", c."subject", c."open", count(m."id") AS "n" FROM "Conversation" c
       LEFT JOIN "ConversationMessage" m ON m."conversationId" = c."id"
       WHERE c."userId" = $1 GROUP BY c."id" ORDER BY c."id"`,
      [owner],
    ),

  say: ({ owner, name, conversationId, body }) =>
    transaction(async (query) => {
      const conversation = found(
        await query('SELECT "open" FROM "Conversation" WHERE "id" = $1 AND "userId" = $2 FOR UPDATE', [conversationId, owner]),
        "Conversation",
      );
      if (!conversation.open) throw new Refused("it is closed");
      return query(
        'INSERT INTO "ConversationMessage" ("conversationId", "sender", "body") VALUES ($1, $2, $3) RETURNING "id" AS "messageId"',
        [conversationId, name, body],
      );
    }),

  messages: ({ owner, conversationId }) =>
    rows(
      `SELECT m."id" AS "messageId", m."sender", m."body" FROM "ConversationMessage" m
       JOIN "Conversation" c ON c."id" = m."conversationId" WHERE c."id" = $1 AND c."userId" = $2 ORDER BY m."id"`,
      [conversationId, owner],
    ),

  last_message: ({ conversationId }) =>
    rows(
      `SELECT "id" AS "messageId", "body" FROM "ConversationMessage" WHERE "conversationId" = $1
       ORDER BY "id" DESC LIMIT 1`,
      [conversationId],
    ),

  close_conversation: ({ owner, conversationId }) =>
    rows('UPDATE "Conversation" SET "open" = false WHERE "id" = $1 AND "userId" = $2 RETURNING "id" AS "conversationId"', [conversationId, owner]),
};

// --- what may go wrong ---

const INVOICE = `INSERT INTO "Invoice" ("userId", "number", "customer", "items", "net", "taxRate", "dueOn")
  VALUES ($1, $2, 'ACME', $3, $4, 0.19, '2026-06-01') RETURNING "id" AS "invoiceId", "total", "net"`;

function invoice(owner, number, items) {
  const net = items.reduce((sum, item) => sum + Math.round(item.net * 100), 0) / 100;
  return [owner, number, JSON.stringify(items), net.toFixed(2)];
}

const money = {
  write_invoice: ({ owner, number, items }) => rows(INVOICE, invoice(owner, number, items)),

  write_invoices: ({ owner, numbers, items }) =>
    transaction(async (query) => {
      const answers = await query('SELECT count(*) AS "n" FROM "Invoice" WHERE "userId" = $1', [owner]);
      for (const number of numbers) {
        await query("SAVEPOINT next");
        try {
          answers.push(...(await query(INVOICE, invoice(owner, number, items))));
        } catch (error) {
          await query("ROLLBACK TO SAVEPOINT next");
          answers.push(state(error));
        }
        await query("RELEASE SAVEPOINT next");
      }
      return answers;
    }),

  invoices: ({ owner }) =>
    rows('SELECT "id" AS "invoiceId", "number", "items", "total" FROM "Invoice" WHERE "userId" = $1 ORDER BY "id"', [owner]),

  pay: ({ owner, invoiceId, method }) =>
    transaction(async (query) => {
      const invoice = found(await query('SELECT "total", "number" FROM "Invoice" WHERE "id" = $1 AND "userId" = $2', [invoiceId, owner]), "Invoice");
      const [payment] = await query(
        `INSERT INTO "Payment" ("userId", "invoiceId", "amount", "method", "reference")
         VALUES ($1, $2, $3, $4, $5) RETURNING "id" AS "paymentId"`,
        [owner, invoiceId, invoice.total, method, invoice.number],
      );
      const [{ paid }] = await query('SELECT sum("amount") AS "paid" FROM "Payment" WHERE "userId" = $1 AND "invoiceId" = $2', [owner, invoiceId]);
      return { ...payment, paid };
    }),

  book({ owner, leadId, title, day, minutes }) {
    const starts = new Date(Date.UTC(2026, 4, day, 9));
    const ends = new Date(starts.getTime() + minutes * 60_000);
    return rows(
      `INSERT INTO "BookingAppointment" ("userId", "leadId", "title", "startsAt", "endsAt")
       VALUES ($1, $2, $3, $4, $5) RETURNING "id" AS "appointmentId", "endsAt"`,
      [owner, leadId, title, starts, ends],
    );
  },

  add_note: ({ owner, leadId, body }) =>
    rows('INSERT INTO "Note" ("userId", "leadId", "body") VALUES ($1, $2, $3) RETURNING "id" AS "noteId"', [owner, leadId, body]),
};

// --- sessions of browsers ---

const sessions = {
  sign_in: ({ token, email, browser }) =>
    transaction(async (query) => {
      const user = found(await query('SELECT "id", "name", "industry" FROM "User" WHERE "email" = $1', [email]), "User");
      await query(
        `INSERT INTO "Session" ("userId", "sessionToken", "userAgent", "expires")
         VALUES ($1, $2, $3, now() + interval '1 day')`,
        [user.id, token, browser],
      );
      return { name: user.name, industry: user.industry };
    }),

  sign_out: async ({ token }) => (await pool.query('DELETE FROM "Session" WHERE "sessionToken" = $1', [token])).rowCount,
};

const HANDLERS = { ...identity, ...leads, ...work, ...talk, ...money };

async function answer(what, token, said) {
  if (what in sessions) return sessions[what]({ ...said, token });
  const user = await one(
    `SELECT u."id" AS "owner", u."name" FROM "Session" s JOIN "User" u ON u."id" = s."userId"
     WHERE s."sessionToken" = $1 AND s."expires" > now()`,
    [token],
  );
  if (user === undefined) throw new Refused("not signed in");
  return HANDLERS[what]({ name: user.name, ...said, owner: user.owner });
}

const state = ({ code, message, constraint }) => ({ state: code, message, constraint });

async function serve(line) {
  const { n, what, token, with: said } = JSON.parse(line);
  const told = { n };
  try {
    told.answer = (await answer(what, token, said)) ?? null;
  } catch (error) {
    if (error instanceof Refused) told.error = { refused: error.message };
    else if (error.code) told.error = state(error);
    else throw error;
  }
  console.log(JSON.stringify(told));
}

const open = [];
for await (const line of createInterface({ input: process.stdin })) open.push(serve(line));
await Promise.all(open);
await pool.end();
