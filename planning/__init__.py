"""Actions: environments, planners and model-predictive control in latent space."""
