"""What is asked: few-shot episodes of configuration search, and the features that models read. No torch, no I/O."""
