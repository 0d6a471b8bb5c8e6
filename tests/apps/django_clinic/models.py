"""Doctors, patients, visits and their bills."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField, DateTimeRangeField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q


class Doctor(models.Model):
    """Somebody patients see."""

    name = models.CharField(max_length=40, unique=True)
    skills = ArrayField(models.CharField(max_length=20), default=list)
    away = DateTimeRangeField(null=True)


class Patient(models.Model):
    """Somebody who sees doctors."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
    born = models.DateField()
    chart = models.JSONField(default=dict)
    photo = models.BinaryField(null=True)
    doctors = models.ManyToManyField(Doctor, through="Visit", related_name="patients")

    class Meta:
        indexes = [GinIndex(fields=["chart"], name="patient_chart")]


class Visit(models.Model):
    """A patient with a doctor."""

    class State(models.TextChoices):
        BOOKED = "B"
        DONE = "D"
        MISSED = "M"

    doctor = models.ForeignKey(Doctor, on_delete=models.PROTECT, related_name="visits")
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="visits")
    starts = models.DateTimeField()
    length = models.DurationField()
    state = models.CharField(max_length=1, choices=State, default=State.BOOKED)

    class Meta:
        ordering = ["starts", "doctor__name"]
        indexes = [models.Index(fields=["state"], name="visit_state")]
        constraints = [models.UniqueConstraint(fields=["doctor", "starts"], name="one_at_a_time")]


class Label(models.Model):
    """A word on bills."""

    name = models.CharField(max_length=20, unique=True)


class Bill(models.Model):
    """What a visit costs."""

    visit = models.OneToOneField(Visit, on_delete=models.CASCADE, related_name="bill")
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    paid = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    labels = models.ManyToManyField(Label, related_name="bills")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="amount_not_negative")
        ]
