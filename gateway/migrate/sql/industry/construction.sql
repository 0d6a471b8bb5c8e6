CREATE TABLE IF NOT EXISTS "Project" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "name"      text NOT NULL,
    "site"      text NOT NULL,
    "budget"    numeric(14, 2) NOT NULL,
    "startsOn"  date NOT NULL,
    "progress"  smallint NOT NULL DEFAULT 0 CHECK ("progress" BETWEEN 0 AND 100),
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Project_userId_idx" ON "Project" ("userId");
