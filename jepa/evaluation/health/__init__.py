"""Is the representation healthy? What a loss curve does not tell, measured beside a twin."""
