"""The report card of a world model: five properties that a useful one needs, each in a file."""
