CREATE TABLE IF NOT EXISTS "SupportTicket" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "subject"   text NOT NULL,
    "product"   text NOT NULL,
    "severity"  smallint NOT NULL,
    "status"    text NOT NULL DEFAULT 'open',
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "SupportTicket_userId_idx" ON "SupportTicket" ("userId");
