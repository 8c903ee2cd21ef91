"""What pretraining leaves behind: a folder with a model, found by name or path, and the card that describes it.

Names, numbers and text only: nothing here knows what is inside a model, and nothing that is read is ever executed.
"""
