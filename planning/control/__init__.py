"""From a plan to a moving robot: receding horizon, waiting or not, in one environment or many."""
