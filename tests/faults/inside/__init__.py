"""What the launcher builds into a service process: crash points, disorder of deliveries, planted bugs."""
