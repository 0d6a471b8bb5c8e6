-- What `prisma migrate` writes for shop.prisma (its engine is not in the npm registry).
CREATE TYPE "Stage" AS ENUM ('NEW', 'WON', 'LOST');

CREATE TABLE "Company" (
    "id" SERIAL NOT NULL,
    "name" TEXT NOT NULL,
    "about" JSONB NOT NULL DEFAULT '{}',
    "tags" TEXT[],
    CONSTRAINT "Company_pkey" PRIMARY KEY ("id")
);
CREATE TABLE "Contact" (
    "id" TEXT NOT NULL,
    "companyId" INTEGER NOT NULL,
    "email" TEXT NOT NULL,
    "born" DATE NOT NULL,
    "photo" BYTEA,
    "visits" BIGINT NOT NULL DEFAULT 0,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "Contact_pkey" PRIMARY KEY ("id")
);
CREATE TABLE "Deal" (
    "id" SERIAL NOT NULL,
    "contactId" TEXT NOT NULL,
    "title" TEXT NOT NULL,
    "stage" "Stage" NOT NULL DEFAULT 'NEW',
    "amount" DECIMAL(12,2) NOT NULL,
    CONSTRAINT "Deal_pkey" PRIMARY KEY ("id")
);
CREATE TABLE "Group" (
    "id" SERIAL NOT NULL,
    "name" TEXT NOT NULL,
    CONSTRAINT "Group_pkey" PRIMARY KEY ("id")
);
CREATE TABLE "_ContactToGroup" (
    "A" TEXT NOT NULL,
    "B" INTEGER NOT NULL,
    CONSTRAINT "_ContactToGroup_AB_pkey" PRIMARY KEY ("A", "B")
);
CREATE UNIQUE INDEX "Company_name_key" ON "Company"("name");
CREATE UNIQUE INDEX "Contact_email_key" ON "Contact"("email");
CREATE INDEX "Deal_contactId_stage_idx" ON "Deal"("contactId", "stage");
CREATE UNIQUE INDEX "Group_name_key" ON "Group"("name");
CREATE INDEX "_ContactToGroup_B_index" ON "_ContactToGroup"("B");
ALTER TABLE "Contact" ADD CONSTRAINT "Contact_companyId_fkey" FOREIGN KEY ("companyId")
    REFERENCES "Company"("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "Deal" ADD CONSTRAINT "Deal_contactId_fkey" FOREIGN KEY ("contactId")
    REFERENCES "Contact"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "_ContactToGroup" ADD CONSTRAINT "_ContactToGroup_A_fkey" FOREIGN KEY ("A")
    REFERENCES "Contact"("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "_ContactToGroup" ADD CONSTRAINT "_ContactToGroup_B_fkey" FOREIGN KEY ("B")
    REFERENCES "Group"("id") ON DELETE CASCADE ON UPDATE CASCADE;
