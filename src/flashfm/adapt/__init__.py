"""Adapting: a pretrained model and the shots of a new pair give a new object that answers for it."""
