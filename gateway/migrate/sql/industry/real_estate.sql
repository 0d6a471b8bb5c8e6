CREATE TABLE IF NOT EXISTS "Listing" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "address"   text NOT NULL,
    "city"      text NOT NULL,
    "price"     numeric(12, 2) NOT NULL,
    "bedrooms"  smallint NOT NULL,
    "areaSqm"   numeric(8, 1) NOT NULL,
    "status"    text NOT NULL DEFAULT 'for_sale',
    "url"       text NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Listing_userId_idx" ON "Listing" ("userId");
