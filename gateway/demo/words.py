"""The vocabulary that believable rows are made of."""

from __future__ import annotations

from decimal import Decimal

FIRST_NAMES = (
    *("Ada", "Amir", "Anna", "Bruno", "Carla", "Chen", "Dana", "David", "Elena", "Emma", "Farid"),
    *("Grace", "Hana", "Ivan", "Jamal", "Julia", "Kofi", "Laura", "Leo", "Lucia", "Maria", "Mei"),
    *("Nadia", "Noah", "Olga", "Omar", "Paul", "Priya", "Quinn", "Rosa", "Samir", "Sofia", "Tariq"),
    *("Tessa", "Uma", "Victor", "Wanda", "Xavier", "Yara", "Zoe"),
)
LAST_NAMES = (
    *("Abara", "Baker", "Becker", "Castillo", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia"),
    *("Haddad", "Ito", "Jensen", "Kaplan", "Khan", "Larsen", "Lopez", "Mbeki", "Miller", "Moreau"),
    *("Nakamura", "Novak", "Okafor", "Olsen", "Patel", "Quispe", "Rossi", "Santos", "Schmidt"),
    *("Silva", "Stone", "Tanaka", "Torres", "Ueda", "Vargas", "Weber", "Wong", "Yilmaz", "Zhang"),
)
CITIES = ("Austin", "Boston", "Denver", "Madison", "Phoenix", "Portland", "Salem", "Tampa")
STREETS = ("Birch Lane", "Cedar Road", "Elm Street", "Harbor Way", "Hill Drive", "Lake Avenue")
SOURCES = ("website", "referral", "walk-in", "google_ads", "facebook", "phone")
SUBJECTS = ("Opening hours", "A question about prices", "Change of address", "Feedback", "A quote")
TASKS = ("Call", "Send the offer to", "Prepare the papers for", "Thank", "Follow up with")
TIMEZONES = ("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles")
FEATURES = ("booking", "campaigns", "websites", "sms", "workflows", "reports")
PLANS = (("FREE", Decimal(0)), ("STARTER", Decimal(29)), ("PRO", Decimal(99)))
INSURERS = ("Aetna", "Cigna", "Humana", None)
ALLERGIES = ("penicillin", "latex", "pollen", "nuts")
DISHES = ("Tomato soup", "Roast chicken", "Pumpkin ravioli", "Grilled trout", "Apple tart")
COURSES = ("starter", "main", "dessert")
