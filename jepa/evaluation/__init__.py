"""What does the representation know?"""
