// A CRM on Prisma's client over its pg adapter, written for a single database: what its owners do,
// owner by owner and all of them at once. It prints a line of JSON per owner, without ids and times,
// which differ from place to place. Nothing in it knows of a gateway.

import { PrismaPg } from "@prisma/adapter-pg";
import generated from "./generated/crm/index.js";

const { PrismaClient } = generated;
const CLIENTS = 8;
const OWNERS = 40;

const adapter = new PrismaPg({ connectionString: process.env.DATABASE_URL, max: CLIENTS });
const prisma = new PrismaClient({ adapter, transactionOptions: { maxWait: 60_000, timeout: 60_000 } });

const MISSING = 2_147_483_647;
const id = "asc";

/** What an owner looks at. */
const READS = {
  session: (userId) => prisma.session.findFirst({ where: { userId }, include: { user: true }, orderBy: { id } }),
  by_relation: (userId) => prisma.lead.findMany({ where: { user: { id: userId } }, take: 2, orderBy: { id } }),
  deals: (userId) => prisma.lead.findMany({ where: { userId }, include: { deals: { orderBy: { id } } }, orderBy: { id } }),
  keyed_deals: (userId) =>
    prisma.lead.findMany({ where: { userId }, include: { deals: { where: { userId }, orderBy: { id } } }, orderBy: { id } }),
  owner: (userId) => prisma.lead.findFirst({ where: { userId }, include: { user: true }, orderBy: { id } }),
  counts: (userId) =>
    prisma.lead.findMany({ where: { userId }, select: { _count: { select: { deals: true } } }, orderBy: { id }, take: 3 }),
  some: (userId) => prisma.lead.findMany({ where: { userId, deals: { some: { stage: "WON" } } }, orderBy: { id } }),
  in: (userId) => prisma.lead.count({ where: { userId: { in: [userId] } } }),
  and: (userId) => prisma.lead.count({ where: { AND: [{ userId }, { OR: [{ name: "a" }, { score: { gt: 30 } }] }] } }),
  missing: (userId) => prisma.lead.findUnique({ where: { id: MISSING, userId } }),
  groups: (userId) => prisma.lead.groupBy({ by: ["status"], where: { userId }, _count: true, orderBy: { status: "asc" } }),
  worth: (userId) => prisma.deal.aggregate({ where: { userId }, _sum: { amount: true }, _max: { amount: true } }),
  batch: (userId) =>
    prisma.$transaction([prisma.lead.count({ where: { userId } }), prisma.deal.count({ where: { userId } })], {
      isolationLevel: "Serializable",
    }),
  messages: (userId) =>
    prisma.conversationMessage.findMany({ where: { conversation: { userId } }, orderBy: { id }, take: 2 }),
  talks: (userId) =>
    prisma.conversation.findMany({ where: { userId }, include: { messages: { take: 1, orderBy: { id: "desc" } } }, orderBy: { id } }),
  leads_of_user: (userId) => prisma.user.findUnique({ where: { id: userId }, include: { leads: { take: 2, orderBy: { id } } } }),
  raw: (userId) => prisma.$queryRaw`SELECT count(*), sum("score") FROM "Lead" WHERE "userId" = ${userId}`,
};

/** What an owner changes. */
const WRITES = {
  create: (userId) => prisma.lead.create({ data: { userId, name: "Léa", email: "lea@example.com", tags: ["a"], custom: { n: [1] } } }),
  connect: (id) => prisma.lead.create({ data: { user: { connect: { id } }, name: "connected", email: "c" } }),
  nested: (userId) =>
    prisma.lead.create({
      data: { userId, name: "nested", email: "n@example.com", deals: { create: [1, 2].map((n) => ({ userId, title: `d${n}`, amount: `${n}.25` })) } },
      include: { deals: { orderBy: { id } } },
    }),
  many: (userId) => prisma.lead.createManyAndReturn({ data: [1, 2, 3].map((n) => ({ userId, name: `x${n}`, email: "x" })) }),
  update: async (userId) =>
    prisma.lead.update({ where: { id: await first(userId), userId }, data: { score: { increment: 1 } } }),
  by_id_alone: async (userId) => prisma.lead.update({ where: { id: await first(userId) }, data: { status: "QUALIFIED" } }),
  add_deal: async (userId) =>
    prisma.lead.update({ where: { id: await first(userId), userId }, data: { deals: { create: { userId, title: "added", amount: 2 } } } }),
  upsert: (userId) =>
    prisma.lead.upsert({ where: { id: MISSING, userId }, create: { userId, name: "up", email: "u" }, update: {} }),
  update_many: (userId) => prisma.lead.updateMany({ where: { userId, name: { startsWith: "x" } }, data: { status: "LOST" } }),
  delete_many: (userId) => prisma.lead.deleteMany({ where: { userId, name: "x2", deals: { none: {} } } }),
  talk: (userId) =>
    prisma.conversation.create({ data: { userId, subject: "s", messages: { create: [{ sender: "a", body: "b" }] } }, include: { messages: true } }),
  say: async (userId) => {
    const { id: conversationId } = await prisma.conversation.findFirst({ where: { userId }, orderBy: { id } });
    return prisma.conversationMessage.create({ data: { conversationId, sender: "a", body: "again" } });
  },
  convert: (userId) =>
    prisma.$transaction(async (tx) => {
      const lead = await tx.lead.findFirst({ where: { userId }, orderBy: { id } });
      await tx.deal.create({ data: { userId, leadId: lead.id, title: "won", amount: "3.5", stage: "WON" } });
      return tx.lead.update({ where: { id: lead.id }, data: { status: "CONVERTED" }, include: { deals: { orderBy: { id } } } });
    }),
  refused: (userId) =>
    prisma.$transaction(async (tx) => {
      await tx.lead.updateMany({ where: { userId }, data: { score: 0 } });
      await tx.deal.create({ data: { userId, leadId: MISSING, title: "x", amount: 1 } });
    }),
  set_config: (userId) =>
    prisma.$transaction(async (tx) => {
      await tx.$executeRaw`SELECT set_config('app.owner', ${String(userId)}, true)`;
      const lead = await tx.lead.count({ where: { userId } });
      return [lead, await tx.$queryRaw`SELECT current_setting('app.owner') AS owner`];
    }),
};

async function first(userId) {
  const { id: found } = await prisma.lead.findFirst({ where: { userId }, orderBy: { id }, select: { id: true } });
  return found;
}

/** The result of `work`, or what Prisma says instead. */
async function end(work) {
  try {
    return await work;
  } catch (error) {
    const { code, message } = error;
    return { code, message: message.split("\n").at(-1) };
  }
}

async function visit({ id: userId, email }) {
  const told = { email };
  for (const [name, work] of Object.entries({ ...READS, ...WRITES })) told[name] = await end(work(userId));
  const again = await Promise.all(Object.values(READS).map((work) => end(work(userId))));
  return JSON.stringify({ ...told, again }, withoutIds);
}

function withoutIds(key, value) {
  if (key === "id" || (key.endsWith("Id") && key !== "userId")) return undefined;
  return typeof value === "bigint" ? `${value}n` : value;
}

const owners = await prisma.user.findMany({ orderBy: { id }, take: OWNERS });
const told = await Promise.all(owners.map(visit));
console.log(told.join("\n"));
await prisma.$disconnect();
