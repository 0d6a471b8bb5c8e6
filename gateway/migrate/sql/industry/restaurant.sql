CREATE TABLE IF NOT EXISTS "MenuItem" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "name"      text NOT NULL,
    "course"    text NOT NULL,
    "price"     numeric(8, 2) NOT NULL,
    "available" boolean NOT NULL DEFAULT true,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "MenuItem_userId_idx" ON "MenuItem" ("userId");

CREATE TABLE IF NOT EXISTS "Reservation" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "guest"     text NOT NULL,
    "email"     text NOT NULL,
    "party"     smallint NOT NULL CHECK ("party" > 0),
    "startsAt"  timestamptz NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Reservation_userId_idx" ON "Reservation" ("userId");
