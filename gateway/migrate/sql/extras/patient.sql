-- Patients: shared by every kind of practice.
CREATE TABLE IF NOT EXISTS "Patient" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "name"      text NOT NULL,
    "email"     text NOT NULL,
    "bornOn"    date NOT NULL,
    "insurer"   text,
    "allergies" text[] NOT NULL DEFAULT '{}',
    "chart"     jsonb NOT NULL DEFAULT '{}',
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Patient_userId_idx" ON "Patient" ("userId");
