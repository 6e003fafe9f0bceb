"""PostgreSQL, nats-server and the four services on one machine, without containers and without installation."""
