"""Django's settings for a run of its own tests: the databases named by PostgreSQL's variables."""

from __future__ import annotations

import os

_SERVER = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"],
    "USER": os.environ["PGUSER"],
    "PASSWORD": os.environ["PGPASSWORD"],
}
DATABASES = {
    alias: {**_SERVER, "NAME": os.environ["PGDATABASE"], "TEST": {"NAME": f"test_django_{alias}"}}
    for alias in ("default", "other")
}
SECRET_KEY = "of no secret"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
TEST_RUNNER = "xmlrunner.extra.djangotestrunner.XMLTestRunner"
TEST_OUTPUT_DIR, TEST_OUTPUT_FILE_NAME = os.path.split(os.environ["JUNIT_FILE"])
