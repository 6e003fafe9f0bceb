"""Faults: real processes are killed, stopped, cut off and crashed at named points; checkers judge what is left."""
