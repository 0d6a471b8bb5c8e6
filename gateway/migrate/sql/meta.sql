-- The meta database: identity, billing and toggles of every owner, and the gateway's own directory.
-- Safe to run again: nothing that exists is changed or dropped.

CREATE TABLE IF NOT EXISTS "Agency" (
    "id"        serial PRIMARY KEY,
    "name"      text NOT NULL,
    "domain"    text NOT NULL UNIQUE,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS "User" (
    "id"            serial PRIMARY KEY,
    "email"         text NOT NULL UNIQUE,
    "name"          text NOT NULL,
    "industry"      text NOT NULL,
    "agencyId"      integer REFERENCES "Agency" ("id") ON DELETE SET NULL,
    "phone"         text,
    "timezone"      text NOT NULL DEFAULT 'UTC',
    "emailVerified" timestamp(3),
    "createdAt"     timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt"     timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "User_agencyId_idx" ON "User" ("agencyId");

CREATE TABLE IF NOT EXISTS "Session" (
    "id"           serial PRIMARY KEY,
    "userId"       integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "sessionToken" text NOT NULL UNIQUE,
    "userAgent"    text,
    "expires"      timestamp(3) NOT NULL
);
CREATE INDEX IF NOT EXISTS "Session_userId_idx" ON "Session" ("userId");

CREATE TABLE IF NOT EXISTS "Account" (
    "id"                serial PRIMARY KEY,
    "userId"            integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "type"              text NOT NULL,
    "provider"          text NOT NULL,
    "providerAccountId" text NOT NULL,
    "scope"             text,
    UNIQUE ("provider", "providerAccountId")
);
CREATE INDEX IF NOT EXISTS "Account_userId_idx" ON "Account" ("userId");

CREATE TABLE IF NOT EXISTS "UserSubscription" (
    "id"               serial PRIMARY KEY,
    "userId"           integer NOT NULL UNIQUE REFERENCES "User" ("id") ON DELETE CASCADE,
    "plan"             text NOT NULL DEFAULT 'FREE',
    "status"           text NOT NULL DEFAULT 'active',
    "seats"            integer NOT NULL DEFAULT 1,
    "monthlyPrice"     numeric(10, 2) NOT NULL DEFAULT 0,
    "currentPeriodEnd" timestamp(3) NOT NULL,
    "createdAt"        timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt"        timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS "ApiKey" (
    "id"         serial PRIMARY KEY,
    "userId"     integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "name"       text NOT NULL,
    "keyHash"    text NOT NULL UNIQUE,
    "lastUsedAt" timestamp(3),
    "createdAt"  timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "ApiKey_userId_idx" ON "ApiKey" ("userId");

CREATE TABLE IF NOT EXISTS "UserFeatureToggle" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "feature"   text NOT NULL,
    "enabled"   boolean NOT NULL DEFAULT false,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    UNIQUE ("userId", "feature")
);

CREATE TABLE IF NOT EXISTS "VerificationToken" (
    "identifier" text NOT NULL,
    "token"      text NOT NULL UNIQUE,
    "expires"    timestamp(3) NOT NULL,
    UNIQUE ("identifier", "token")
);

\ir gateway.sql
