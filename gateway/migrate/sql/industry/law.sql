CREATE TABLE IF NOT EXISTS "Case" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "number"    text NOT NULL,
    "title"     text NOT NULL,
    "court"     text,
    "status"    text NOT NULL DEFAULT 'open',
    "openedOn"  date NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Case_userId_idx" ON "Case" ("userId");
