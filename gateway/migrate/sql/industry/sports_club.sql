CREATE TABLE IF NOT EXISTS "Membership" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "member"    text NOT NULL,
    "email"     text NOT NULL,
    "tier"      text NOT NULL,
    "fee"       numeric(8, 2) NOT NULL,
    "joinedOn"  date NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Membership_userId_idx" ON "Membership" ("userId");
