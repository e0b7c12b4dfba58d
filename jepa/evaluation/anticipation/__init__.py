"""Action anticipation: what will happen next, from what was seen and what the predictor expects."""
