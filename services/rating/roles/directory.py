"""What every process knows from DIRECTORY."""

from __future__ import annotations

from typing import NamedTuple

from nats.aio.client import Client

from libs.clock import system_clock
from libs.directory import KnownClocks, KnownKeys
from libs.messaging import DirectoryReader


class Directory(NamedTuple):
    """Keys and clocks of tenants; the reader, which has to run, keeps them up to date."""

    keys: KnownKeys
    clocks: KnownClocks
    reader: DirectoryReader


def directory_of(messaging: Client, service: str, instance: str) -> Directory:
    """Follow the directory in a process of a service."""
    keys, clocks = KnownKeys(), KnownClocks(system_clock)
    subjects = ["directory.key.>", "directory.clock.>"]
    reader = DirectoryReader(messaging.jetstream(), messaging, service=service, instance=instance, subjects=subjects)
    reader.on_entry("key", keys.apply)
    reader.on_entry("clock", clocks.apply)
    return Directory(keys, clocks, reader)
