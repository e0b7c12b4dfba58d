"""What all planners share: rounds of candidates, where they are searched, how they are screened."""
