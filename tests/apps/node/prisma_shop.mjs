// A small sales book on Prisma's client over its pg adapter. It makes its tables in DATABASE_URL, goes
// through everything and prints a line of JSON per part. Nothing in it knows of a gateway.

import { readFileSync } from "node:fs";
import pg from "pg";
import { PrismaPg } from "@prisma/adapter-pg";
import generated from "./generated/shop/index.js";

const { PrismaClient, Prisma } = generated;
const CLIENTS = 8;

const adapter = new PrismaPg({ connectionString: process.env.DATABASE_URL, max: CLIENTS });
const prisma = new PrismaClient({ adapter, transactionOptions: { maxWait: 60_000, timeout: 60_000 } });
const range = (count) => Array.from({ length: count }, (_, n) => n);
const day = (n) => new Date(Date.UTC(1990, 0, 1 + n));

/** What an error of Prisma's says, but for the parts that name the program's own lines. */
async function failure(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    const { code, meta, message } = error;
    return { name: error.constructor.name, code, meta, message: message.split("\n").at(-1) };
  }
}

async function migrate() {
  const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  await client.query(readFileSync(new URL("prisma/shop.sql", import.meta.url), "utf8"));
  await client.end();
  return prisma.$queryRaw`SELECT table_name FROM information_schema.tables
                          WHERE table_schema = 'public' ORDER BY table_name`;
}

async function create() {
  const nested = await prisma.company.create({
    data: {
      name: "Acme",
      tags: ["old", "big"],
      about: { size: 7, sites: [{ city: "Köln" }, null] },
      contacts: {
        create: range(3).map((n) => ({
          id: `acme-${n}`,
          email: `${n}@acme.example`,
          born: day(n),
          photo: Buffer.from([0, n, 255]),
          visits: 9007199254740993n + BigInt(n),
          deals: { create: range(n + 1).map((m) => ({ title: `deal ${m}`, amount: `${n}.5${m}` })) },
          groups: { connectOrCreate: { where: { name: "vip" }, create: { name: "vip" } } },
        })),
      },
    },
    include: { contacts: { orderBy: { id: "asc" }, include: { deals: true, groups: true } } },
  });
  return timeless(nested);
}

const timeless = (company) => ({
  ...company,
  contacts: company.contacts.map(({ createdAt, ...contact }) => ({ ...contact, dated: createdAt instanceof Date })),
});

async function many() {
  const companies = await prisma.company.createManyAndReturn({
    data: range(20).map((n) => ({ name: `company ${n}`, tags: [`t${n % 3}`], about: { size: n } })),
  });
  const contacts = await prisma.contact.createMany({
    data: range(400).map((n) => ({
      id: `c${n}`,
      companyId: companies[n % 20].id,
      email: `c${n}@example.com`,
      born: day(n),
    })),
  });
  const skipped = await prisma.contact.createMany({
    data: range(410).map((n) => ({ id: `c${n}`, companyId: companies[0].id, email: `c${n}@example.com`, born: day(n) })),
    skipDuplicates: true,
  });
  const deals = await prisma.deal.createMany({
    data: range(900).map((n) => ({
      contactId: `c${n % 400}`,
      title: `deal ${n}`,
      stage: ["NEW", "WON", "LOST"][n % 3],
      amount: new Prisma.Decimal(n).div(8),
    })),
  });
  return { companies, contacts, skipped, deals };
}

async function find() {
  const page = (cursor) =>
    prisma.contact.findMany({
      where: { company: { tags: { has: "t1" } }, deals: { some: { stage: "WON", amount: { gt: 50 } } } },
      orderBy: [{ born: "desc" }, { id: "asc" }],
      take: 5,
      ...(cursor && { skip: 1, cursor: { id: cursor } }),
      select: { id: true, company: { select: { name: true } }, _count: { select: { deals: true } } },
    });
  const first = await page();
  const second = await page(first.at(-1).id);
  const json = await prisma.company.findMany({
    where: { about: { path: ["size"], gte: 17 } },
    select: { name: true, about: true },
    orderBy: { name: "asc" },
  });
  const none = await prisma.contact.findMany({ where: { id: { in: range(300).map((n) => `c${n * 2}`) }, deals: { none: {} } } });
  const spread = await prisma.company.findMany({
    include: { contacts: { take: 2, orderBy: { id: "asc" }, select: { email: true, deals: { take: 1, orderBy: { id: "asc" }, select: { title: true } } } } },
    orderBy: { id: "asc" },
    take: 4,
  });
  return { first, second, json, none: none.length, spread };
}

async function figures() {
  const grouped = await prisma.deal.groupBy({
    by: ["stage"],
    _count: true,
    _sum: { amount: true },
    having: { amount: { _avg: { gt: 1 } } },
    orderBy: { stage: "asc" },
  });
  const all = await prisma.deal.aggregate({ _avg: { amount: true }, _max: { amount: true }, _count: { _all: true } });
  const distinct = await prisma.deal.findMany({ distinct: ["stage"], select: { stage: true }, orderBy: { stage: "asc" } });
  return { grouped, all, distinct };
}

async function change() {
  const company = await prisma.company.upsert({ where: { name: "Acme" }, create: { name: "Acme" }, update: { tags: { push: "new" } } });
  const fresh = await prisma.company.upsert({ where: { name: "Fresh" }, create: { name: "Fresh" }, update: {} });
  const contact = await prisma.contact.update({
    where: { email: "1@acme.example" },
    data: { visits: { increment: 5 }, groups: { disconnect: { name: "vip" }, create: { name: "new" } }, deals: { updateMany: { where: {}, data: { stage: "WON" } } } },
    select: { visits: true, groups: true, deals: { select: { stage: true } } },
  });
  const updated = await prisma.deal.updateMany({ where: { contact: { company: { name: "company 3" } } }, data: { amount: { multiply: 2 } } });
  const deleted = await prisma.deal.deleteMany({ where: { amount: { lt: 1 }, contactId: { startsWith: "c" } } });
  return { tags: company.tags, fresh: fresh.tags, contact, updated, deleted };
}

async function transactions() {
  const batch = await prisma.$transaction([
    prisma.deal.count(),
    prisma.company.create({ data: { name: "batch" } }),
    prisma.company.count(),
  ], { isolationLevel: "RepeatableRead" });
  const half = await failure(
    prisma.$transaction([
      prisma.company.create({ data: { name: "half" } }),
      prisma.company.create({ data: { name: "batch" } }),
    ]),
  );
  const seen = [];
  const back = await failure(
    prisma.$transaction(async (tx) => {
      await tx.company.create({ data: { name: "inside" } });
      seen.push(await tx.company.count({ where: { name: "inside" } }));
      seen.push(await prisma.company.count({ where: { name: "inside" } }));
      await tx.$executeRaw`SAVEPOINT one`;
      seen.push((await failure(tx.company.create({ data: { name: "inside" } }))).code);
      await tx.$executeRaw`ROLLBACK TO SAVEPOINT one`;
      seen.push(await tx.company.count({ where: { name: { in: ["half", "inside"] } } }));
      throw new Error("take it back");
    }),
  );
  const late = await failure(
    prisma.$transaction(async (tx) => {
      await tx.$queryRaw`SELECT pg_sleep(0.4)::text`;
      await tx.company.count();
    }, { timeout: 100 }),
  );
  return { batch: [batch[0], batch[1].name, batch[2]], half, back: back.message, seen, late: late.code };
}

async function errors() {
  const contact = { companyId: 1, email: "0@acme.example", born: day(0) };
  return [
    await failure(prisma.contact.create({ data: contact })),
    await failure(prisma.contact.create({ data: { ...contact, email: "x", companyId: -1 } })),
    await failure(prisma.deal.update({ where: { id: -1 }, data: { title: "x" } })),
    await failure(prisma.contact.delete({ where: { id: "acme-0" } })),
    await failure(prisma.deal.create({ data: { contactId: "acme-0", title: "x", amount: "99999999999" } })),
    await failure(prisma.$queryRaw`SELECT * FROM nowhere`),
    await failure(prisma.$executeRaw`SELECT 1 / 0`),
  ];
}

async function raw() {
  const ids = ["c1", "c2"];
  const rows = await prisma.$queryRaw`
    SELECT "id", "born", "visits", 1.5::numeric AS "price", '{"a": 1}'::jsonb AS "json", ARRAY[1, 2] AS "list",
           now() IS NOT NULL AS "yes" FROM "Contact" WHERE "id" IN (${Prisma.join(ids)}) ORDER BY "id"`;
  const changed = await prisma.$executeRawUnsafe('UPDATE "Contact" SET "visits" = "visits" + $1 WHERE "id" = $2', 3, "c1");
  const dated = await prisma.$queryRaw`SELECT ${new Date(0)}::timestamptz AS "at", ${null}::text AS "none"`;
  return { rows, changed, dated };
}

/** Requests at once: each locks, reads and writes in an interactive transaction. */
async function together() {
  const visit = (n) =>
    prisma.$transaction(async (tx) => {
      await tx.$queryRaw`SELECT 1 AS "one" FROM "Contact" WHERE "id" = ${`acme-${n % 3}`} FOR UPDATE`;
      const { visits } = await tx.contact.findUniqueOrThrow({ where: { id: `acme-${n % 3}` } });
      await tx.contact.update({ where: { id: `acme-${n % 3}` }, data: { visits: visits + 1n } });
      await tx.deal.create({ data: { contactId: `acme-${n % 3}`, title: "visit", amount: 1 } });
    }, { maxWait: 20_000, timeout: 20_000 });
  const browse = (n) => prisma.contact.findUnique({ where: { id: `c${n}` }, include: { company: true, deals: { orderBy: { id: "asc" } } } });
  const [, pages] = await Promise.all([
    Promise.all(range(60).map(visit)),
    Promise.all(range(150).map(browse)),
  ]);
  const after = await prisma.contact.findMany({
    where: { id: { startsWith: "acme" } },
    select: { visits: true, _count: { select: { deals: { where: { title: "visit" } } } } },
    orderBy: { id: "asc" },
  });
  return { pages: pages.map((one) => [one.id, one.company.name, one.deals.map((deal) => deal.title)]), after };
}

/** Counted up under SERIALIZABLE; who loses tries again. */
async function serializable() {
  const add = async (n) => {
    for (let attempt = 0; attempt < 60; attempt += 1) {
      const lost = await failure(
        prisma.$transaction(async (tx) => {
          const count = await tx.group.count();
          await tx.group.create({ data: { name: `group ${n}, ${count > 0}` } });
        }, { isolationLevel: "Serializable", maxWait: 20_000 }),
      );
      if (lost === null) return true;
      // At COMMIT the adapter's own error comes through.
      if (lost.code !== "P2034" && lost.message !== "TransactionWriteConflict") throw new Error(JSON.stringify(lost));
    }
    return false;
  };
  const done = await Promise.all(range(CLIENTS).map(add));
  const groups = await prisma.group.findMany({ select: { name: true }, orderBy: { name: "asc" } });
  return { done, groups };
}

async function gone() {
  const { count } = await prisma.company.deleteMany({ where: { contacts: { none: {} } } });
  await prisma.deal.deleteMany();
  await prisma.company.deleteMany();
  return { count, contacts: await prisma.contact.count() };
}

const PARTS = [
  migrate, create, many, find, figures, change, transactions, errors, raw, together, serializable,
  gone,
];
const plain = (_, value) => (typeof value === "bigint" ? `${value}n` : value);
for (const part of PARTS) console.log(JSON.stringify({ [part.name]: await part() }, plain));
await prisma.$disconnect();
