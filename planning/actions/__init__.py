"""What an action may be, and how sequences of them are drawn, bounded and parameterised."""
