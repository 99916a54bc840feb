-- Why a session was published although it failed gates: NULL = it passed all of them, or is of before there were gates.
ALTER TABLE prediction ADD COLUMN degraded_why VARCHAR;
