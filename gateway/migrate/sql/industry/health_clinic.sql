\ir ../extras/patient.sql
