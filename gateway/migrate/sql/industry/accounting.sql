CREATE TABLE IF NOT EXISTS "TaxReturn" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "client"    text NOT NULL,
    "taxYear"   smallint NOT NULL,
    "amountDue" numeric(12, 2) NOT NULL,
    "filedOn"   date,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "TaxReturn_userId_idx" ON "TaxReturn" ("userId");
