"""What stands between a plan and a robot: reasons to stop, last limits, watchdog, black box."""
