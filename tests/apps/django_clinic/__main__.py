"""Migrates DATABASE_URL, goes through everything and prints a line of JSON per part."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.apps.django_clinic.settings"
django.setup()

from django.contrib.auth import authenticate, get_user_model  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import DatabaseError, connection, transaction  # noqa: E402
from django.db.models import (  # noqa: E402
    Avg,
    Count,
    Exists,
    F,
    OuterRef,
    Prefetch,
    Q,
    Sum,
    Window,
)
from django.db.models.functions import ExtractYear, Rank, TruncDay  # noqa: E402
from django.utils import timezone  # noqa: E402

from tests.apps.django_clinic.models import Bill, Doctor, Label, Patient, Visit  # noqa: E402

T = TypeVar("T")
THREADS = 8
_START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def migrate() -> Any:
    """All apps' migrations, forth, back and forth again; the models and the tables agree."""
    call_command("migrate", verbosity=0)
    call_command("migrate", "django_clinic", "zero", verbosity=0)
    call_command("migrate", verbosity=0)
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    with connection.cursor() as cursor:
        names = connection.introspection.table_names(cursor)
        made = connection.introspection.get_constraints(cursor, Visit._meta.db_table)
    return {"tables": names, "constraints": sorted(made), "labels": Label.objects.count()}


def users() -> Any:
    """Logins and sessions of Django's own."""
    get_user_model().objects.create_user("ann", password="secret")
    user = authenticate(username="ann", password="secret")
    session = SessionStore()
    session["cart"] = {"items": [1, 2]}
    session.save()
    again = SessionStore(session.session_key)
    return {
        "user": user and user.get_username(),
        "wrong": authenticate(username="ann", password="x"),
        "cart": again["cart"],
        "rights": user.has_perm("django_clinic.add_visit") if user else None,
    }


def bulk() -> Any:
    """Many rows at once; some there already."""
    Doctor.objects.bulk_create(
        Doctor(name=f"Dr {n}", skills=[f"s{n % 3}", "talk"], away=(_START, _START + _days(n)))
        for n in range(1, 9)
    )
    patients = [
        Patient(
            id=UUID(int=n),
            email=f"p{n}@example.com",
            born=date(1950, 1, 1) + _days(100 * n),
            chart={"weight": 50 + n % 50, "allergies": [f"a{n % 4}"], "ä": None},
            photo=bytes([n % 256, 0]),
        )
        for n in range(600)
    ]
    Patient.objects.bulk_create(patients[:500], batch_size=120)
    Patient.objects.bulk_create(
        patients, update_conflicts=True, unique_fields=["id"], update_fields=["chart"]
    )
    ignored = Patient.objects.bulk_create(patients[:10], ignore_conflicts=True)
    doctors = list(Doctor.objects.order_by("id"))
    Visit.objects.bulk_create(
        Visit(
            doctor=doctors[n % 8],
            patient=patients[n % 50],
            starts=_START + timedelta(minutes=30 * (n // 8)),
            length=timedelta(minutes=15 + n % 30),
            state="BDM"[n % 3],
        )
        for n in range(400)
    )
    Bill.objects.bulk_create(
        Bill(visit=visit, amount=Decimal(n) / 4)
        for n, visit in enumerate(Visit.objects.filter(state="D").order_by("id"))
    )
    some = list(Visit.objects.order_by("id")[:30])
    for visit in some:
        visit.state = "M"
    changed = Visit.objects.bulk_update(some, ["state"], batch_size=7)
    return {"ignored": len(ignored), "changed": changed, "visits": Visit.objects.count()}


def _days(number: int) -> timedelta:
    return timedelta(days=number)


def relations() -> Any:
    """Joined, prefetched, many to many, through and back."""
    for n, bill in enumerate(Bill.objects.order_by("id")[:9]):
        bill.labels.set(Label.objects.filter(name__in=["urgent", "child"][: n % 3]))
    bills = Bill.objects.select_related("visit__doctor", "visit__patient").prefetch_related(
        "labels"
    )
    busy = Prefetch("visits", Visit.objects.filter(state="D").select_related("patient"))
    doctors = Doctor.objects.prefetch_related(busy, "patients").order_by("name")
    label = Label.objects.get(name="urgent")
    label.bills.remove(label.bills.order_by("id").first())
    return {
        "bills": [
            (
                bill.visit.doctor.name,
                bill.visit.patient.email,
                sorted(one.name for one in bill.labels.all()),
            )
            for bill in bills.order_by("id")[:9]
        ],
        "doctors": [(one.name, len(one.visits.all()), len(one.patients.all())) for one in doctors],
        "urgent": label.bills.count(),
        "deleted": Patient.objects.filter(visits__state="B", email__lt="p12").delete(),
    }


def figures() -> Any:
    """Aggregates, windows, sub-queries, dates in time zones, JSON, arrays, ranges."""
    worth = Doctor.objects.annotate(worth=Sum("visits__bill__amount"), seen=Count("visits"))
    days = Visit.objects.order_by().annotate(day=TruncDay("starts")).values("day")
    owing = Bill.objects.filter(visit=OuterRef("pk"), paid__lt=F("amount"))
    ranked = Visit.objects.annotate(
        rank=Window(Rank(), partition_by="doctor", order_by=F("length").desc())
    )
    with timezone.override("America/New_York"):
        far = list(days.annotate(n=Count("*")).order_by("day"))
    return {
        "worth": list(worth.order_by("-worth", "name").values_list("name", "worth", "seen")),
        "days": list(days.annotate(n=Count("*")).order_by("day")),
        "far": far,
        "owing": Visit.objects.filter(Exists(owing)).count(),
        "ranked": list(ranked.filter(rank=1).order_by("id").values_list("doctor__name", "length")),
        "years": list(
            Patient.objects.annotate(year=ExtractYear("born"))
            .values_list("year")
            .annotate(Count("id"))
            .order_by("year")[:5]
        ),
        "json": Patient.objects.filter(
            Q(chart__weight__gt=98) | Q(chart__contains={"x": 1})
        ).count(),
        "keys": list(
            Patient.objects.order_by("id").values_list("chart__allergies__0", flat=True)[:5]
        ),
        "arrays": list(
            Doctor.objects.filter(skills__overlap=["s1"])
            .order_by("name")
            .values_list("name", flat=True)
        ),
        "ranges": Doctor.objects.filter(away__contains=_START + _days(5)).count(),
        "mean": Bill.objects.aggregate(Avg("amount"), Sum("amount")),
        "photo": bytes(Patient.objects.order_by("-id").values_list("photo", flat=True)[0]),
    }


def transactions() -> Any:
    """Nested, taken back, with errors inside, with something to do after the commit."""
    done: list[str] = []
    with transaction.atomic():
        Label.objects.create(name="kept")
        transaction.on_commit(lambda: done.append("committed"))
        done.append(failure(_inner))
        savepoint = transaction.savepoint()
        Label.objects.create(name="gone too")
        transaction.savepoint_rollback(savepoint)
        done.append(str(Label.objects.count()))
    done.append(failure(_broken))
    return {
        "done": done,
        "labels": list(Label.objects.order_by("id").values_list("name", flat=True)),
    }


def _inner() -> None:
    with transaction.atomic():
        Label.objects.create(name="gone")
        Label.objects.create(name="kept")


def _broken() -> None:
    with transaction.atomic():
        try:
            Label.objects.create(name="kept")
        except DatabaseError:
            Label.objects.count()


def errors() -> Any:
    """What the database refuses; a missing parent only shows at the commit."""
    visit = Visit.objects.order_by("id")[0]
    wrong: list[Callable[[], Any]] = [
        lambda: Label.objects.create(name="urgent"),
        lambda: Bill.objects.create(visit=visit, amount=-1),
        lambda: Bill.objects.create(visit_id=-1, amount=1),
        lambda: Label.objects.create(name="x" * 21),
        lambda: Visit.objects.filter(pk=visit.pk).update(doctor=None),
        lambda: connection.cursor().execute("SELECT * FROM nowhere"),
        lambda: Doctor.objects.raw("SELECT 1 / 0 AS id")[0],
        lambda: Doctor.objects.get(pk=-1),
    ]
    return [failure(one) for one in wrong]


def failure(work: Callable[[], Any]) -> str:
    """The error that ``work`` ends with, and its SQLSTATE."""
    try:
        work()
    except Exception as error:
        state = getattr(error.__cause__, "sqlstate", None)
        return f"{type(error).__name__} {state} {str(error).splitlines()[0]}"
    return "none"


def streaming() -> Any:
    """Server-side cursors, two open at once, inside a transaction and outside."""

    def walk() -> Any:
        first = Patient.objects.order_by("id").values_list("email", flat=True)
        second = Visit.objects.order_by("id").values_list("length", flat=True)
        pairs = list(zip(first.iterator(40), second.iterator(30), strict=False))
        return len(pairs), pairs[-1]

    outside = walk()
    with transaction.atomic():
        return {"outside": outside, "inside": walk()}


def raw() -> Any:
    """SQL as text: parameters, many at once, COPY, what a session sets."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::int + 1, %s, %s::jsonb", [1, "ä %", '{"a": 1}'])
        row = cursor.fetchone()
        cursor.execute("CREATE TEMPORARY TABLE loaded (n int, word text)")
        cursor.executemany("INSERT INTO loaded VALUES (%s, %s)", [(n, f"w{n}") for n in range(50)])
        with cursor.copy("COPY loaded FROM STDIN") as copy:
            for n in range(50, 500):
                copy.write_row((n, f"w{n}"))
        cursor.execute("SELECT count(*), max(n) FROM loaded")
        loaded = cursor.fetchone()
        cursor.execute("DROP TABLE loaded")
        cursor.execute("SET statement_timeout = '1234'")
        cursor.execute("SHOW statement_timeout")
        shown = cursor.fetchone()
        cursor.execute("RESET statement_timeout")
    doctors = Doctor.objects.raw(
        "SELECT d.*, count(v.id) AS n FROM django_clinic_doctor d"
        " LEFT JOIN django_clinic_visit v ON v.doctor_id = d.id GROUP BY d.id ORDER BY d.name"
    )
    return {
        "row": row,
        "loaded": loaded,
        "shown": shown,
        "n": [(one.name, one.n) for one in doctors],
    }


def together() -> Any:
    """Requests at once, each thread with a connection of its own."""

    def request(client: int) -> int:
        for n in range(15):
            with transaction.atomic():
                name = f"Dr {(client + n) % 4 + 1}"
                doctor = Doctor.objects.select_for_update().get(name=name)
                doctor.skills = [*doctor.skills, "more"]
                doctor.save(update_fields=["skills"])
                Bill.objects.filter(visit__doctor=doctor).update(paid=F("paid") + 1)
            Label.objects.get_or_create(name=f"label {n}")
            Label.objects.update_or_create(name=f"label {n}", defaults={"name": f"label {n}"})
            if Patient.objects.filter(email="p599@example.com").count() != 1:
                return n
        connection.close()
        return 15

    rounds = at_once(request)
    doctors = Doctor.objects.order_by("name")
    return {
        "rounds": rounds,
        "skills": [len(one.skills) for one in doctors],
        "paid": list(doctors.values_list(Sum("visits__bill__paid"), flat=True)),
        "labels": Label.objects.filter(name__startswith="label").count(),
    }


def at_once(work: Callable[[int], T]) -> list[T]:
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(work, range(THREADS)))


def flush() -> Any:
    """Empties all tables, then takes the clinic's away."""
    call_command("flush", interactive=False, verbosity=0)
    left = Visit.objects.count(), Label.objects.create(name="first again").pk
    call_command("migrate", "django_clinic", "zero", verbosity=0)
    return left, [name for name in connection.introspection.table_names() if "clinic" in name]


PARTS = (
    *(migrate, users, bulk, relations, figures, transactions, errors, streaming, raw, together),
    flush,
)

if __name__ == "__main__":
    for part in PARTS:
        print(json.dumps({part.__name__: part()}, default=str, ensure_ascii=False), flush=True)
