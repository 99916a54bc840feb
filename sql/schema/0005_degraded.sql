-- Why a session was published although it failed gates: NULL = it passed all of them, as every night of before did.
ALTER TABLE prediction ADD COLUMN degraded_why VARCHAR;
