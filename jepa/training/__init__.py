"""Training: masked-latent pretraining, and world models on top."""
