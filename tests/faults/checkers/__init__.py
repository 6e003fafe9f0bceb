"""Judges of a run: functions of the history and of what is stored in the end."""
