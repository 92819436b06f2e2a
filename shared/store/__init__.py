"""All SQL: functions that take a session and return domain objects. The caller owns the transaction."""
