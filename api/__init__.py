"""The HTTP side: takes cases in and hands results out. Never loads torch."""
