"""Rows that are always there, and an index built while others work."""

from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


def add_labels(apps: Any, schema_editor: Any) -> None:
    label = apps.get_model("django_clinic", "Label")
    label.objects.bulk_create(label(name=name) for name in ("urgent", "private", "child"))


def remove_labels(apps: Any, schema_editor: Any) -> None:
    apps.get_model("django_clinic", "Label").objects.all().delete()


class Migration(migrations.Migration):
    """No transaction around it: CREATE INDEX CONCURRENTLY allows none."""

    atomic = False

    dependencies = [("django_clinic", "0001_initial")]

    operations = [
        migrations.RunPython(add_labels, remove_labels),
        AddIndexConcurrently("visit", models.Index(fields=["state"], name="visit_state")),
    ]
