"""What happens outside of the service processes: the workload, the faults, the history."""
