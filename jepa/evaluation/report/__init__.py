"""`jepa report`: all that can be told of one checkpoint, in one HTML page."""
