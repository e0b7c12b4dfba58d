"""What do the patch features know: of what is where, how far away, and where it goes?"""
