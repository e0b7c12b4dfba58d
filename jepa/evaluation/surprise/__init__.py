"""Does the model know what is physically possible? Its surprise says, video beside video."""
