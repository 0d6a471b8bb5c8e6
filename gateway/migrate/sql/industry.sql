-- An industry database: the rows of its owners. Every table says whose a row is ("userId"), except
-- "ConversationMessage", which belongs to its conversation. Safe to run again.

DO $$ BEGIN
    CREATE TYPE "LeadStatus" AS ENUM ('NEW', 'CONTACTED', 'QUALIFIED', 'CONVERTED', 'LOST');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN
    CREATE TYPE "DealStage" AS ENUM ('DISCOVERY', 'PROPOSAL', 'NEGOTIATION', 'WON', 'LOST');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN
    CREATE TYPE "CampaignStatus" AS ENUM ('DRAFT', 'SCHEDULED', 'RUNNING', 'DONE');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN
    CREATE TYPE "TaskStatus" AS ENUM ('TODO', 'IN_PROGRESS', 'DONE');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN
    CREATE TYPE "AppointmentStatus" AS ENUM ('BOOKED', 'CONFIRMED', 'DONE', 'CANCELLED', 'NO_SHOW');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN
    CREATE TYPE "PaymentStatus" AS ENUM ('PENDING', 'PAID', 'REFUNDED', 'FAILED');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

-- The subset of the meta database's "User" that joins need; the meta database is the source.
CREATE TABLE IF NOT EXISTS "User" (
    "id"       integer PRIMARY KEY,
    "email"    text NOT NULL, -- unique in the meta database; here it could only be in the way
    "name"     text NOT NULL,
    "industry" text NOT NULL
);

CREATE TABLE IF NOT EXISTS "Lead" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "name"      text NOT NULL,
    "email"     text NOT NULL,
    "phone"     text,
    "source"    text NOT NULL DEFAULT 'website',
    "status"    "LeadStatus" NOT NULL DEFAULT 'NEW',
    "score"     integer NOT NULL DEFAULT 0,
    "tags"      text[] NOT NULL DEFAULT '{}',
    "custom"    jsonb NOT NULL DEFAULT '{}',
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Lead_userId_idx" ON "Lead" ("userId");
CREATE INDEX IF NOT EXISTS "Lead_email_idx" ON "Lead" ("email");

CREATE TABLE IF NOT EXISTS "Deal" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "leadId"    integer REFERENCES "Lead" ("id") ON DELETE SET NULL,
    "title"     text NOT NULL,
    "stage"     "DealStage" NOT NULL DEFAULT 'DISCOVERY',
    "amount"    numeric(12, 2) NOT NULL,
    "currency"  char(3) NOT NULL DEFAULT 'USD',
    "closesOn"  date,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Deal_userId_idx" ON "Deal" ("userId");
CREATE INDEX IF NOT EXISTS "Deal_leadId_idx" ON "Deal" ("leadId");

CREATE TABLE IF NOT EXISTS "Campaign" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "name"      text NOT NULL,
    "channel"   text NOT NULL,
    "status"    "CampaignStatus" NOT NULL DEFAULT 'DRAFT',
    "budget"    numeric(12, 2) NOT NULL DEFAULT 0,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Campaign_userId_idx" ON "Campaign" ("userId");

CREATE TABLE IF NOT EXISTS "Workflow" (
    "id"         serial PRIMARY KEY,
    "userId"     integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "name"       text NOT NULL,
    "definition" jsonb NOT NULL,
    "active"     boolean NOT NULL DEFAULT true,
    "createdAt"  timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt"  timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Workflow_userId_idx" ON "Workflow" ("userId");

CREATE TABLE IF NOT EXISTS "WorkflowInstance" (
    "id"         serial PRIMARY KEY,
    "workflowId" integer NOT NULL REFERENCES "Workflow" ("id") ON DELETE CASCADE,
    "userId"     integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "state"      text NOT NULL DEFAULT 'running',
    "context"    jsonb NOT NULL DEFAULT '{}',
    "createdAt"  timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt"  timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "WorkflowInstance_userId_idx" ON "WorkflowInstance" ("userId");
CREATE INDEX IF NOT EXISTS "WorkflowInstance_workflowId_idx" ON "WorkflowInstance" ("workflowId");

CREATE TABLE IF NOT EXISTS "Website" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "domain"    text NOT NULL,
    "title"     text NOT NULL,
    "published" boolean NOT NULL DEFAULT false,
    "theme"     jsonb NOT NULL DEFAULT '{}',
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Website_userId_idx" ON "Website" ("userId");

CREATE TABLE IF NOT EXISTS "Task" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "title"     text NOT NULL,
    "status"    "TaskStatus" NOT NULL DEFAULT 'TODO',
    "priority"  smallint NOT NULL DEFAULT 3,
    "dueAt"     timestamp(3),
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Task_userId_idx" ON "Task" ("userId");

CREATE TABLE IF NOT EXISTS "Conversation" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "leadId"    integer REFERENCES "Lead" ("id") ON DELETE SET NULL,
    "subject"   text NOT NULL,
    "channel"   text NOT NULL DEFAULT 'email',
    "open"      boolean NOT NULL DEFAULT true,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Conversation_userId_idx" ON "Conversation" ("userId");
CREATE INDEX IF NOT EXISTS "Conversation_leadId_idx" ON "Conversation" ("leadId");

CREATE TABLE IF NOT EXISTS "ConversationMessage" (
    "id"             serial PRIMARY KEY,
    "conversationId" integer NOT NULL REFERENCES "Conversation" ("id") ON DELETE CASCADE,
    "sender"         text NOT NULL,
    "body"           text NOT NULL,
    "createdAt"      timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt"      timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "ConversationMessage_conversationId_idx"
    ON "ConversationMessage" ("conversationId");

CREATE TABLE IF NOT EXISTS "CallLog" (
    "id"              serial PRIMARY KEY,
    "userId"          integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "leadId"          integer REFERENCES "Lead" ("id") ON DELETE SET NULL,
    "direction"       text NOT NULL,
    "phone"           text NOT NULL,
    "durationSeconds" integer NOT NULL,
    "summary"         text NOT NULL,
    "createdAt"       timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt"       timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "CallLog_userId_idx" ON "CallLog" ("userId");
CREATE INDEX IF NOT EXISTS "CallLog_leadId_idx" ON "CallLog" ("leadId");

CREATE TABLE IF NOT EXISTS "BookingAppointment" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "leadId"    integer REFERENCES "Lead" ("id") ON DELETE SET NULL,
    "title"     text NOT NULL,
    "status"    "AppointmentStatus" NOT NULL DEFAULT 'BOOKED',
    "startsAt"  timestamptz NOT NULL,
    "endsAt"    timestamptz NOT NULL CHECK ("endsAt" > "startsAt"),
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "BookingAppointment_userId_idx" ON "BookingAppointment" ("userId");
CREATE INDEX IF NOT EXISTS "BookingAppointment_leadId_idx" ON "BookingAppointment" ("leadId");

CREATE TABLE IF NOT EXISTS "EmailCampaign" (
    "id"         serial PRIMARY KEY,
    "userId"     integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "campaignId" integer REFERENCES "Campaign" ("id") ON DELETE SET NULL,
    "subject"    text NOT NULL,
    "fromEmail"  text NOT NULL,
    "status"     "CampaignStatus" NOT NULL DEFAULT 'DRAFT',
    "sent"       integer NOT NULL DEFAULT 0,
    "opened"     integer NOT NULL DEFAULT 0,
    "createdAt"  timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt"  timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "EmailCampaign_userId_idx" ON "EmailCampaign" ("userId");

CREATE TABLE IF NOT EXISTS "SmsCampaign" (
    "id"         serial PRIMARY KEY,
    "userId"     integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "campaignId" integer REFERENCES "Campaign" ("id") ON DELETE SET NULL,
    "body"       text NOT NULL,
    "status"     "CampaignStatus" NOT NULL DEFAULT 'DRAFT',
    "sent"       integer NOT NULL DEFAULT 0,
    "createdAt"  timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt"  timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "SmsCampaign_userId_idx" ON "SmsCampaign" ("userId");

CREATE TABLE IF NOT EXISTS "Invoice" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "number"    text NOT NULL,
    "customer"  text NOT NULL,
    "items"     jsonb NOT NULL DEFAULT '[]',
    "net"       numeric(12, 2) NOT NULL,
    "taxRate"   numeric(5, 4) NOT NULL DEFAULT 0,
    "total"     numeric(12, 2) GENERATED ALWAYS AS (round("net" * (1 + "taxRate"), 2)) STORED,
    "dueOn"     date NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    UNIQUE ("userId", "number")
);

CREATE TABLE IF NOT EXISTS "Payment" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "invoiceId" integer REFERENCES "Invoice" ("id") ON DELETE SET NULL,
    "amount"    numeric(12, 2) NOT NULL,
    "currency"  char(3) NOT NULL DEFAULT 'USD',
    "method"    text NOT NULL,
    "status"    "PaymentStatus" NOT NULL DEFAULT 'PENDING',
    "reference" text NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Payment_userId_idx" ON "Payment" ("userId");
CREATE INDEX IF NOT EXISTS "Payment_invoiceId_idx" ON "Payment" ("invoiceId");

CREATE TABLE IF NOT EXISTS "Note" (
    "id"        serial PRIMARY KEY,
    "userId"    integer NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE,
    "leadId"    integer REFERENCES "Lead" ("id") ON DELETE CASCADE,
    "body"      text NOT NULL,
    "pinned"    boolean NOT NULL DEFAULT false,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS "Note_userId_idx" ON "Note" ("userId");
CREATE INDEX IF NOT EXISTS "Note_leadId_idx" ON "Note" ("leadId");

\ir shard.sql
