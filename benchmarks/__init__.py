"""What the system does per second on this machine, next to what the machine itself would allow: `make bench`."""
