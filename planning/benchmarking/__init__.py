"""Planning numbers that somebody else can reproduce: protocol cards, controls, comparisons."""
